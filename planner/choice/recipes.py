"""What the literature advises where nothing was said, by what the job is for. A table; docs/advice.md is made from it.

Facts are words (`Facts`), and a rule holds where each fact that it names has one of the words it names. Later rules see what
earlier ones chose. The planner's own defaults stand before the first rule (planner/advise.py); what the user says stands
after the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

import msgspec

UseCase = Literal["classification", "extraction", "chat", "code", "summarization", "translation", "style"]
Deployment = Literal["many_adapters", "merged", "edge"]
Accuracy = Literal["highest"]
USE_CASES: Final[tuple[UseCase, ...]] = get_args(UseCase)
DEPLOYMENTS: Final[tuple[Deployment, ...]] = get_args(Deployment)
ACCURACIES: Final[tuple[Accuracy, ...]] = get_args(Accuracy)

Key = Literal[
    "method", "rank", "dropout", "target_modules", "quant", "global_batch_size", "learning_rate", "schedule", "warmup_ratio"
]
OF_THE_LOOP: Final[tuple[Key, ...]] = ("learning_rate", "schedule", "warmup_ratio")
Fact = Literal["use_case", "deployment", "accuracy", "examples", "rows", "run", "balance", "trains"]
Facts = Mapping[Fact, str | None]  # None = nothing was said

# What the words of a fact mean, for those that are read off figures.
FEW_EXAMPLES: Final = 1_000  # assumed: LIMA (arXiv:2305.11206) calls its 1,000 rows few
LONG_ROW_TOKENS: Final = 8_192  # assumed: 16 such rows are the 131,072 tokens of a step beyond which batches count as large
SHORT_RUN_STEPS: Final = 100  # derived: LoRA Without Regret raises the rate for runs below about 100 steps
SHORT_RUN_SEQUENCES: Final = 1_600  # derived: so many steps of 16 sequences
SKEWED: Final = 10.0  # assumed: at ten to one nearly half of all batches of 8 lack the rarest class
MEANINGS: Final[Mapping[tuple[Fact, str], str]] = {
    ("examples", "few"): f"fewer than {FEW_EXAMPLES:,} examples",
    ("rows", "long"): f"rows of {LONG_ROW_TOKENS:,} tokens or more in the mean",
    ("run", "short"): f"fewer than {SHORT_RUN_SEQUENCES:,} sequences over all epochs, or `max_steps` below {SHORT_RUN_STEPS}",
    ("balance", "skewed"): f"{SKEWED:g} or more rows of the commonest class for each of the rarest",
    ("trains", "adapters"): "adapters are trained, not the base's own weights",
}


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One key that the planner fills, and why so."""

    key: str
    value: Any
    reason: str
    source: str


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Where all facts of `when` hold, `key` is `value`, or at least or at most that. The source's own value, unless assumed."""

    when: Mapping[Fact, tuple[str, ...]]
    key: Key
    bound: Literal["is", "at least", "at most"] = "is"
    value: Any
    reason: str  # as the source has it
    source: str
    assumed: str | None = None  # where the source has no such value: whence ours

    @property
    def basis(self) -> str:
        """Whose the value is, in a few words."""
        return "the source's" if self.assumed is None else f"assumed: {self.assumed}"

    @property
    def cited(self) -> str:
        """The source, and that the value is not its own."""
        return self.source if self.assumed is None else f"{self.source}; the value is {self.basis}"

    def holds(self, facts: Facts) -> bool:
        """Whether every fact that it names has one of its words."""
        return all(facts.get(fact) in words for fact, words in self.when.items())

    def moves(self, so_far: Any) -> bool:
        """Whether the value chosen so far gives way to this one."""
        return bool(_GIVES_WAY[self.bound](so_far, self.value))


_GIVES_WAY: Final = {
    "is": lambda so_far, value: so_far != value,
    "at least": lambda so_far, value: so_far < value,
    "at most": lambda so_far, value: so_far > value,
}

LORA: Final = "Hu et al., LoRA, 2021, arXiv:2106.09685"
QLORA: Final = "Dettmers et al., QLoRA, 2023, arXiv:2305.14314"
LESS: Final = "Biderman et al., LoRA Learns Less and Forgets Less, 2024, arXiv:2405.09673"
REGRET: Final = "Schulman et al., LoRA Without Regret, 2025"
ALMA: Final = "Xu et al., ALMA, 2023, arXiv:2309.11674"
LIMA: Final = "Zhou et al., LIMA, 2023, arXiv:2305.11206"
S_LORA: Final = "Sheng et al., S-LoRA, 2023, arXiv:2311.03285"
VLLM: Final = "vLLM's default of max_lora_rank, 2025"
QA_LORA: Final = "Xu et al., QA-LoRA, 2023, arXiv:2309.14717"
DORA: Final = "Liu et al., DoRA, 2024, arXiv:2402.09353"
IMBALANCE: Final = "Henning et al., Class Imbalance in NLP, 2023, arXiv:2210.04675"

LABELS: Final = ("classification", "extraction")
LOW_RANK: Final = "a few directions are enough for it"

# derived from the source that each row names, whose runs have that value; `assumed` where they have none
RULES: Final[tuple[Rule, ...]] = (
    # ── the task ───────────────────────────────────────────────────────────────────────────────────────────────────
    Rule(when={"use_case": LABELS}, key="rank", value=8, reason=f"{LOW_RANK}: 8 did as well as 64 on such tasks", source=LORA),
    Rule(when={"use_case": LABELS}, key="schedule", value="linear", reason="as in its runs on such tasks", source=LORA),
    Rule(when={"use_case": LABELS}, key="warmup_ratio", value=0.06, reason="as in its runs on such tasks", source=LORA),
    Rule(when={"use_case": ("chat",)}, key="schedule", value="constant", reason="as its chat models were tuned", source=QLORA),
    Rule(
        when={"use_case": ("code",)},
        key="rank",
        value=64,
        reason="what code asks of a base is far from low rank; 16 falls behind full tuning there",
        source=LESS,
        assumed="the middle one of the ranks that it ran, 16, 64 and 256",
    ),
    Rule(when={"use_case": ("summarization",)}, key="rank", value=8, reason=f"{LOW_RANK} (SAMSum)", source=LORA),
    Rule(when={"use_case": ("summarization",)}, key="schedule", value="linear", reason="as in its runs on text", source=LORA),
    Rule(when={"use_case": ("translation",)}, key="rank", value=16, reason="as on its parallel sentences", source=ALMA),
    Rule(when={"use_case": ("translation",)}, key="warmup_ratio", value=0.01, reason="as in its runs", source=ALMA),
    Rule(
        when={"use_case": ("style",)},
        key="rank",
        value=8,
        reason="style is learned from few examples, knowledge is in the base already",
        source=LIMA,
        assumed="it tuned all weights; the rank that is enough for labels",
    ),
    Rule(when={"use_case": ("style",)}, key="schedule", value="linear", reason="as in its runs, of all weights", source=LIMA),
    # ── the data ───────────────────────────────────────────────────────────────────────────────────────────────────
    Rule(
        when={"use_case": USE_CASES, "examples": ("few",)},
        key="dropout",
        bound="at least",
        value=0.05,
        reason="few examples are seen again and again; it helped models of 7B and 13B",
        source=QLORA,
    ),
    Rule(
        when={"use_case": USE_CASES, "run": ("short",)},
        key="learning_rate",
        value=3e-4,
        reason="in fewer than a hundred steps 15 times the rate of full tuning is best, not 10 times",
        source=REGRET,
    ),
    Rule(
        when={"use_case": USE_CASES, "rows": ("long",), "trains": ("adapters",)},
        key="global_batch_size",
        bound="at most",
        value=8,
        reason="LoRA bears large batches less well than full tuning, and these rows are long",
        source=REGRET,
        assumed="half of the usual 16",
    ),
    Rule(
        when={"use_case": LABELS, "balance": ("skewed",)},
        key="global_batch_size",
        bound="at least",
        value=32,
        reason="a step should see the rarest class; rows of it that are repeated in the file help more",
        source=IMBALANCE,
        assumed="twice the usual 16",
    ),
    # ── how good it has to be ──────────────────────────────────────────────────────────────────────────────────────
    Rule(
        when={"accuracy": ("highest",)},
        key="rank",
        bound="at least",
        value=64,
        reason="a higher rank never learned worse at the same learning rate; it costs memory alone",
        source=REGRET,
        assumed="four times the usual 16",
    ),
    Rule(
        when={"deployment": ("merged",)},
        key="rank",
        bound="at least",
        value=32,
        reason="once merged, an adapter of any rank adds nothing to the time of an answer",
        source=LORA,
        assumed="twice the usual 16",
    ),
)

# derived, or `assumed`, as above. The last word: what the place where it will answer can bear
SERVING_RULES: Final[tuple[Rule, ...]] = (
    Rule(
        when={"deployment": ("many_adapters",)},
        key="rank",
        bound="at most",
        value=16,
        reason="adapters on one base share the server's memory, and it takes ranks up to 16 unless told",
        source=f"{S_LORA}; {VLLM}",
    ),
    Rule(
        when={"deployment": ("edge",)},
        key="quant",
        value="nf4",
        reason="the device holds the base in 4 bits, and an adapter trained on such a base makes up for the rounding",
        source=QA_LORA,
        assumed="its own format is INT4 by groups; of the formats that the trainer has, nf4 has four bits",
    ),
    Rule(
        when={"deployment": ("edge",)},
        key="rank",
        bound="at most",
        value=16,
        reason="an adapter is small to send and to exchange, and the smaller the lower its rank",
        source=LORA,
        assumed="the usual rank, which no small device should exceed",
    ),
    Rule(
        when={"deployment": ("edge",), "accuracy": ("highest",)},
        key="method",
        value="dora",
        reason="where the rank must stay low it learns more than LoRA",
        source=DORA,
    ),
)
