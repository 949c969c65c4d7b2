"""What the planner chooses where nothing was said: method, rank, targets, batch, with a reason and a source for each.

Values, not prose: the search reads them, `--explain` prints them, and any of them can be overruled by saying the key.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from planner.asking.request import Request
from planner.methods import DEFAULT_RANK, METHODS, NF4, QLORA, QLORA_MEANS
from planner.precision import BITSANDBYTES
from remote.contract import ALPHA_PER_RANK, Loop

AUTO: Final = "auto"


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One key of the estimate contract that the planner fills, and why so."""

    key: str
    value: Any
    reason: str
    source: str


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that hold for every strategy, and the variants among which the search chooses, lightest change first."""

    training: dict[str, Any]  # said by the user, or chosen here
    variants: tuple[dict[str, Any], ...]  # `training` is laid over each: what was said stands
    global_batch_size: int
    choices: tuple[Choice, ...]  # only what the planner chose


LORA_SOURCE: Final = "Schulman et al., LoRA Without Regret, 2025"
QLORA_SOURCE: Final = "Dettmers et al., QLoRA, arXiv:2305.14314"

LORA_DEFAULTS: Final = (
    Choice(key="target_modules", value="all-linear", reason="adapters on attention alone fall behind", source=QLORA_SOURCE),
    Choice(
        key="rank", value=DEFAULT_RANK, reason="beyond 8 the rank hardly changes small instruction sets", source=QLORA_SOURCE
    ),
    Choice(
        key="alpha",
        value=ALPHA_PER_RANK * DEFAULT_RANK,
        reason="twice the rank is the field's habit",
        source="defaults of TRL 1.10: r 16, alpha 32",
    ),
)
METHOD_CHOICE: Final = Choice(
    key="method",
    value="lora",
    reason="equals full tuning on small and medium data at two thirds of the compute and far less memory",
    source=LORA_SOURCE,
)

# The authors' own training code holds norms in fp32 and leaves embedding and head in 16 bits (github.com/artidoro/qlora);
# peft's prepare_model_for_kbit_training would hold those two in fp32 as well, gigabytes of it with a large vocabulary.
UPCAST: Final = {"kbit_upcast": "norms"}
QUANT_VARIANTS: Final = ({"quant": "none"}, {"quant": "int8"} | UPCAST, NF4 | UPCAST)  # 2, 1, 0.52 bytes a frozen parameter
OPTIMIZER_VARIANTS: Final = ({"optimizer": "adamw_torch_fused"}, {"optimizer": "adamw_8bit"})  # 8 and 2 bytes of state

GLOBAL_BATCH_SIZE: Final = 16  # QLoRA, arXiv:2305.14314, appendix B: 16 for 7B and 13B
MINIMUM_STEPS: Final = 20  # assumed: fewer optimizer steps than this and the schedule has no shape

# derived: LoRA's best rate is about ten times that of full tuning (LoRA Without Regret, 2025), and the Loop's default is LoRA's
LEARNING_RATE_OF_WEIGHTS: Final = 2e-5


def loop_for(method: str | None) -> Loop:
    """The loop that is used where nothing was said: its learning rate follows the method."""
    row = METHODS.get(method or AUTO)
    return Loop(learning_rate=LEARNING_RATE_OF_WEIGHTS) if row is not None and "weights" in row.moves else Loop()


def advise(request: Request) -> Advice:
    """Resolve `method: auto` and fill rank, alpha, targets and batch where the request is silent."""
    said = dict(request.training)
    method = said.pop("method", AUTO)
    choices: list[Choice] = []
    if method == AUTO:
        choices.append(METHOD_CHOICE)
        method = "lora"
        variants = _quant_variants(said)
    elif method == QLORA:
        method, variants = QLORA_MEANS["method"], (NF4 | UPCAST,)
    elif METHODS[method].moves_all and "optimizer" not in said:
        variants = OPTIMIZER_VARIANTS
    else:
        variants = (UPCAST,) if said.get("quant") in BITSANDBYTES else ({},)
    if METHODS[method].has_rank:
        choices += _adapter_choices(METHODS[method].default_rank, said)
    global_batch_size, batch_choice = _global_batch(request)
    choices += batch_choice
    filled = {choice.key: choice.value for choice in choices if choice.key != "global_batch_size"}
    return Advice(
        training=filled | said | {"method": method},
        variants=variants,
        global_batch_size=global_batch_size,
        choices=tuple(choices),
    )


def _quant_variants(said: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    if "quant" not in said:
        return QUANT_VARIANTS
    known = tuple(variant for variant in QUANT_VARIANTS if variant["quant"] == said["quant"])
    return known or (UPCAST if said["quant"] in BITSANDBYTES else {},)


def _adapter_choices(default_rank: int | None, said: dict[str, Any]) -> list[Choice]:
    """Targets, rank and alpha where nothing was said; a method with a rank of its own in peft keeps that."""
    rank = said.get("rank", default_rank)
    values = {"rank": default_rank, "alpha": None if rank is None else ALPHA_PER_RANK * rank}
    filled = [msgspec.structs.replace(choice, value=values.get(choice.key, choice.value)) for choice in LORA_DEFAULTS]
    if default_rank != DEFAULT_RANK:
        filled[1] = msgspec.structs.replace(filled[1], reason="the default of this method", source="peft 0.21")
    return [choice for choice in filled if choice.key not in said and choice.value is not None]


def _global_batch(request: Request) -> tuple[int, list[Choice]]:
    """Sequences per optimizer step: as said, else 16, halved until the run has enough steps."""
    if request.global_batch_size is not None:
        return request.global_batch_size, []
    size = GLOBAL_BATCH_SIZE
    sequences = request.data.num_examples * request.loop.epochs
    while size > 1 and sequences / size < MINIMUM_STEPS:
        size //= 2
    reason = "as for 7B and 13B in the source" if size == GLOBAL_BATCH_SIZE else f"smaller, for at least {MINIMUM_STEPS} steps"
    return size, [Choice(key="global_batch_size", value=size, reason=reason, source=QLORA_SOURCE)]
