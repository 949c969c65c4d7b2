"""What the planner chooses where nothing was said: method, rank, targets, batch, with a reason and a source for each.

Values, not prose: the search reads them, the plan carries them, and any of them can be overruled by saying the key. What
they rest on is a table, planner/choice/recipes.py. Memory is no row of it: among the variants here the search takes what fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from catalogs.bases.architectures import Architecture
from planner.asking.case import read_case, strategy_of
from planner.asking.request import Request
from planner.asking.rules import AUTO, loop_choices, ruled_by, said_of_loop
from planner.choice.recipes import QLORA as QLORA_SOURCE
from planner.choice.recipes import (
    REGRET,
    USE_CASES,
    Choice,
    Rule,
)
from planner.methods import (
    DEFAULT_RANK,
    LAYERS,
    METHODS,
    NF4,
    NUM_VIRTUAL_TOKENS,
    QLORA,
    QLORA_MEANS,
    TOP_BLOCKS,
    adapter_params,
)
from planner.strategy.packed import packed_of
from planner.strategy.precision import BITSANDBYTES
from remote.contract import ALPHA_PER_RANK, Strategy, Task


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that hold for every strategy, and the variants among which the search chooses, lightest change first."""

    training: dict[str, Any]  # said by the user, or chosen here
    variants: tuple[dict[str, Any], ...]  # `training` is laid over each: what was said stands
    global_batch_size: int
    choices: tuple[Choice, ...]  # only what the planner chose

    def chose(self, key: str) -> bool:
        """Whether the planner chose it, because nobody said it."""
        return any(choice.key == key for choice in self.choices)

    def spreads_over(self, num_gpus: int) -> bool:
        """Whether a step's sequences spread over so many GPUs; a number that the planner chose may grow to one on each."""
        size = self.global_batch_size
        return size % num_gpus == 0 or (num_gpus % size == 0 and self.chose("global_batch_size"))

    def done_by(self, strategy: Strategy) -> tuple[Choice, ...]:
        """The choices as the strategy carries them out: a step that grew to one sequence on each GPU has as many."""
        passes, num_gpus = strategy.gradient_accumulation_steps, strategy.num_gpus
        size = strategy.micro_batch_size * passes * num_gpus
        if size == self.global_batch_size:
            return self.choices
        how = f"what comes out in {passes} x {strategy.micro_batch_size} on {num_gpus} GPUs, of {self.global_batch_size}"
        return tuple(
            msgspec.structs.replace(each, value=size, reason=how) if each.key == "global_batch_size" else each
            for each in self.choices
        )


OF_TRL: Final = "a default of TRL 1.10 (r 16, alpha 32)"
LORA_DEFAULTS: Final = (
    Choice(key="target_modules", value="all-linear", reason="adapters on attention alone fall behind", source=QLORA_SOURCE),
    Choice(
        key="rank",
        value=DEFAULT_RANK,
        reason="beyond 8 the rank hardly changes small instruction sets",
        source=f"{QLORA_SOURCE}; 16 is {OF_TRL}",
    ),
    Choice(
        key="alpha",
        value=ALPHA_PER_RANK * DEFAULT_RANK,
        reason="twice the rank is the field's habit",
        source=OF_TRL,
    ),
)
METHOD_CHOICE: Final = Choice(
    key="method",
    value="lora",
    reason="equals full tuning on small and medium data at two thirds of the compute and far less memory",
    source=REGRET,
)
VIRTUAL_TOKENS: Final = Choice(
    key="num_virtual_tokens",
    value=NUM_VIRTUAL_TOKENS,
    reason="of 1, 5, 20, 100 and 150 learned positions the last gains over 20 were small",
    source="Lester et al. 2021, arXiv:2104.08691",
)
BLOCKS_THAT_MOVE: Final = Choice(
    key="trainable_layers",
    value=TOP_BLOCKS,
    reason="the top blocks move; more of them learn more and need more memory",
    source="freeze_trainable_layers of LLaMA-Factory (Zheng et al. 2024, arXiv:2403.13372)",
)

# The authors' own training code holds norms in fp32 and leaves embedding and head in 16 bits (github.com/artidoro/qlora);
# peft's prepare_model_for_kbit_training would hold those two in fp32 as well, gigabytes of it with a large vocabulary.
UPCAST: Final = {"kbit_upcast": "norms"}
QUANT_VARIANTS: Final = ({"quant": "none"}, {"quant": "int8"} | UPCAST, NF4 | UPCAST)  # 2, 1, 0.52 bytes a frozen parameter

GLOBAL_BATCH_SIZE: Final = 16  # QLoRA, arXiv:2305.14314, appendix B: 16 for 7B and 13B
MINIMUM_STEPS: Final = 20  # assumed, as the next line tells
OF_STEPS: Final = "assumed: with fewer steps a schedule has no shape"


ADVISED_METHODS: Final = ("lora", "dora")  # those that the rules on rank, dropout and how the base is held are about
BITS_PER_PARAMETER: Final = (
    2  # that a network can hold (Allen-Zhu and Li, arXiv:2404.05405), by which LoRA Without Regret counts
)
BITS_PER_TOKEN: Final = 1  # assumed there of text that a base has not seen
RANKS: Final = (8, 16, 32, 64, 128, 256)  # assumed: powers of two, up to the highest that the sources tried


ALWAYS_SAID: Final[Mapping[Task, dict[str, Any]]] = {
    "classification": {"padded": True},  # derived: a base that looks both ways must be told what is padding
    "seq2seq": {"padded": True},  # derived: so must an encoder
}
PACKED: Final[dict[str, Any]] = {"padded": True}  # derived: the mask that keeps texts apart is as large as one of padding


# ── the strategy ───────────────────────────────────────────────────────────────────────────────────────────────────────


def advise(request: Request, architecture: Architecture) -> Advice:
    """Resolve `method: auto` and fill rank, alpha, targets, dropout and batch where the request is silent."""
    fixed = fixed_by_pack(request, architecture)
    always = ALWAYS_SAID.get(request.task, {}) | (PACKED if request.data.reading.packing else {})
    said = always | fixed | request.training
    method = said.pop("method", AUTO)
    choices = [
        Choice(key=key, value=value, reason="the base is packed so", source=architecture.source)
        for key, value in fixed.items()
        if key not in request.training
    ]
    if method == AUTO:
        chosen = _last(ruled_by(request, {"method": METHOD_CHOICE.value}), "method") or METHOD_CHOICE
        choices.append(chosen)
        method = chosen.value
        variants = _quant_variants(request, said, choices)
    elif method == QLORA:
        method, variants = QLORA_MEANS["method"], (NF4 | UPCAST,)
    elif method in ADVISED_METHODS and "quant" not in said and _last(ruled_by(request, {"quant": None}), "quant") is not None:
        variants = _quant_variants(request, said, choices)
    else:
        variants = (UPCAST,) if said.get("quant") in BITSANDBYTES else ({},)
    if METHODS[method].has_rank:
        choices += _adapter_choices(request, architecture, method, said)
    if METHODS[method].prompt is not None and said.get(VIRTUAL_TOKENS.key) is None:
        choices.append(VIRTUAL_TOKENS)
    if METHODS[method].top_blocks_only and said.get(BLOCKS_THAT_MOVE.key) is None and request.loop.layers is None:
        choices.append(msgspec.structs.replace(BLOCKS_THAT_MOVE, value=min(TOP_BLOCKS, architecture.depth)))
    global_batch_size, batch_choice = _global_batch(request)
    choices += batch_choice
    filled = {choice.key: choice.value for choice in choices if choice.key not in ("global_batch_size", "quant")}
    of_loop = [choice for choice in loop_choices(request) if choice.key not in said_of_loop(request)]
    return Advice(
        training=filled | said | {"method": method},
        variants=variants,
        global_batch_size=global_batch_size,
        choices=(*choices, *of_loop),
    )


def fixed_by_pack(request: Request, architecture: Architecture) -> dict[str, Any]:
    """What of `training` a base that was packed here settles; nothing for a method that trains its linears, which takes plain
    weights.
    """
    packed, method = packed_of(architecture), request.training.get("method", AUTO)
    if packed is None or (method in METHODS and METHODS[method].moves_linears):
        return {}
    return packed.fixed()


def _last(choices: list[Choice], key: str) -> Choice | None:
    """What decided this key in the end."""
    return next((choice for choice in reversed(choices) if choice.key == key), None)


def _quant_variants(request: Request, said: dict[str, Any], choices: list[Choice]) -> tuple[dict[str, Any], ...]:
    """How frozen weights may be held: as was said, as a rule has it (which then is one of the `choices`), else any way."""
    ruled = _last(ruled_by(request, {"quant": None}), "quant")
    if "quant" not in said and ruled is None:
        return QUANT_VARIANTS
    if "quant" not in said and ruled is not None:
        choices.append(ruled)
    quant = said["quant"] if "quant" in said or ruled is None else ruled.value
    known = tuple(variant for variant in QUANT_VARIANTS if variant["quant"] == quant)
    return known or (UPCAST if quant in BITSANDBYTES else {},)


def _adapter_choices(request: Request, architecture: Architecture, method: str, said: dict[str, Any]) -> list[Choice]:
    """Targets, rank, alpha and dropout where nothing was said; a method with a rank of its own in peft keeps that."""
    default_rank = METHODS[method].default_rank
    filled = {choice.key: choice for choice in LORA_DEFAULTS}
    if default_rank != DEFAULT_RANK:
        filled["rank"] = Choice(key="rank", value=default_rank, reason="the default of this method", source="peft 0.21")
    if method in ADVISED_METHODS:
        so_far = {"rank": default_rank, "dropout": 0.0}
        counted = _capacity_rules(request, architecture, method, said)
        filled |= {choice.key: choice for choice in ruled_by(request, so_far, counted=counted)}
    rank = said.get("rank", filled["rank"].value)
    alpha = None if rank is None else ALPHA_PER_RANK * rank
    filled["alpha"] = msgspec.structs.replace(filled["alpha"], value=alpha)
    return [choice for choice in filled.values() if choice.key not in said and choice.value is not None]


def _capacity_rules(request: Request, architecture: Architecture, method: str, said: dict[str, Any]) -> tuple[Rule, ...]:
    """The lowest rank whose adapters can hold what one pass over the data tells; none needed where no use was named."""
    if request.purpose.use_case is None or "rank" in said:
        return ()
    num_tokens = request.data.num_examples * request.data.mean_tokens
    targets = said.get("target_modules", LORA_DEFAULTS[0].value)
    probe = said | {"model": request.model, "method": method, "target_modules": targets}
    if request.loop.layers is not None:
        probe["method_options"] = said.get("method_options", {}) | {LAYERS: list(request.loop.layers)}
    one, two = (adapter_params(architecture, strategy_of(read_case(probe | {"rank": rank}))) for rank in (1, 2))
    bits_per_rank = BITS_PER_PARAMETER * (two - one)  # DoRA's magnitudes are as many at every rank
    rank = next((rank for rank in RANKS if rank * bits_per_rank >= num_tokens * BITS_PER_TOKEN), RANKS[-1])
    reason = f"{num_tokens / 1e6:,.0f} million tokens tell a bit each, and a trained number holds two"
    return (Rule(when={"use_case": USE_CASES}, key="rank", bound="at least", value=rank, reason=reason, source=REGRET),)


# ── the batch ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _global_batch(request: Request) -> tuple[int, list[Choice]]:
    """Sequences per optimizer step: as said, else 16 or what a rule has, halved until the run has enough steps. Nothing is
    chosen where a pass and the passes of a step were said: the batch follows.
    """
    if request.global_batch_size is not None:
        return request.global_batch_size, []
    a_pass, passes = (request.training.get(key) for key in ("micro_batch_size", "gradient_accumulation_steps"))
    if a_pass is not None and passes is not None:
        return a_pass * passes * (request.where.num_gpus or 1), []
    key = "global_batch_size"
    usual = Choice(key=key, value=GLOBAL_BATCH_SIZE, reason="as for 7B and 13B in the source", source=QLORA_SOURCE)
    chosen = _last(ruled_by(request, {key: GLOBAL_BATCH_SIZE}), key) or usual
    size = chosen.value
    sequences = request.data.num_examples * request.loop.epochs
    while size > 1 and sequences / size < MINIMUM_STEPS:
        size //= 2
    if size != chosen.value:
        chosen = Choice(key=key, value=size, reason=f"smaller, for at least {MINIMUM_STEPS} steps", source=OF_STEPS)
    return size, [chosen]
