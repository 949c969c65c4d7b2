"""What a stack makes of a strategy: where it does otherwise than it is asked, the other way is what is estimated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from catalogs.bases.architectures import Architecture
from planner.strategy.cuts import cut_of
from planner.strategy.precision import BITSANDBYTES
from planner.strategy.stack import Stack
from remote.contract import Autocast, Strategy

# derived: their models and loops are built of fused kernels, whatever is asked (unsloth/kernels, megatron/core/fusions)
FUSED_STACKS: Final = frozenset({"unsloth", "nemo", "megatron"})


class Departure(NamedTuple):
    """When a stack departs from a strategy, what it runs instead, and the sentence that says so."""

    holds: Callable[[Architecture, Strategy, Stack], bool]
    instead: dict[str, Any]
    sentence: str  # `{architecture}` and `{stack}` stand for what was asked


def _leaves_linears(architecture: Architecture, strategy: Strategy, stack: Stack) -> bool:
    return architecture.own_linears and stack.has("exact_linears") and strategy.quant in BITSANDBYTES


def _leaves_unprepared(_: Architecture, strategy: Strategy, stack: Stack) -> bool:
    """derived: SFTTrainer prepares a quantized base unless that is sharded (`is_sharded_qlora`, trl/trainer/sft_trainer.py)."""
    return stack.name == "trl" and cut_of(strategy).weights and strategy.quant != "none" and strategy.kbit_upcast != "none"


def _fuses(_: Architecture, strategy: Strategy, stack: Stack) -> bool:
    return stack.name in FUSED_STACKS and strategy.kernels == "eager"


def _cast_by_engine(dtype: Autocast) -> Departure:
    """derived: DeepSpeed's engine casts the whole module (`_configure_distributed_model`, or zero.Init before it), and
    accelerate turns no autocast on beside it.
    """
    return Departure(
        lambda _, strategy, __: cut_of(strategy).engine == "deepspeed" and strategy.autocast == dtype,
        {"param_dtype": dtype, "adapter_dtype": dtype, "kbit_upcast": "none", "autocast": "none"},
        f"DeepSpeed's engine casts the model to {dtype}, adapter and upcast weights with it, and computes without autocast: "
        "that is estimated, with its fp32 masters",
    )


DEPARTURES: Final = (
    Departure(
        _leaves_linears,
        {"quant": "none", "double_quant": False},
        "transformers 5 leaves {architecture.model_type}'s linears unquantized, their class not being nn.Linear: "
        "16 bits are estimated; versions.transformers 4.57 quantizes them",
    ),
    Departure(
        _leaves_unprepared,
        {"kbit_upcast": "none"},
        "trl does not prepare a quantized base that is sharded: kbit_upcast none is estimated",
    ),
    _cast_by_engine("bfloat16"),
    _cast_by_engine("float16"),
    Departure(_fuses, {"kernels": "fused"}, "{stack.name} has fused kernels alone: kernels fused is estimated"),
)


def as_run(architecture: Architecture, strategy: Strategy, stack: Stack) -> Strategy:
    """The strategy as the stack carries it out: memory and time are both of this one."""
    for departure in DEPARTURES:
        if departure.holds(architecture, strategy, stack):
            strategy = msgspec.structs.replace(strategy, **departure.instead)
    return strategy


def at_rest(strategy: Strategy) -> Strategy:
    """The strategy as its weights lie on the card: a base that is not quantized and is cast to fp32 whole is one of fp32,
    whatever it was loaded in, and what trains of it has gradients and states of that.
    """
    if strategy.quant == "none" and strategy.kbit_upcast == "full":
        return msgspec.structs.replace(strategy, param_dtype="float32", kbit_upcast="none")
    return strategy


def departures(architecture: Architecture, strategy: Strategy, stack: Stack) -> Iterator[str]:
    """A sentence for each thing that the stack does otherwise than it is asked."""
    for departure in DEPARTURES:
        if departure.holds(architecture, strategy, stack):
            yield departure.sentence.format(architecture=architecture, stack=stack)
