"""What the trainer gives up when memory runs out, one rung after the other, and what it takes where memory is free.

What is learned stays the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from remote.contract import CAPABILITIES, EndReason, Strategy, Task
from remote.telemetry import Events

# A rung may change these of a Strategy and no others: which rows make a step, and all that trains, stay as they are.
GIVEN_UP: Final = (
    *("micro_batch_size", "gradient_accumulation_steps", "gradient_checkpointing", "loss"),
    *("offload", "streaming", "kernels"),
)
NOT_RECOMPUTED: Final = ("prefix_tuning",)  # a block that is computed again would meet its prefix twice

NOT_COMPILED: Final = "not_compiled"  # the reason of a change, beside memory's

STREAMED_TO: Final = ("cuda",)  # devices with a memory of their own
STREAMED_TASKS: Final = ("causal_lm",)  # a classifier's head is put on a base that is in one place

Rung = Callable[[Strategy], Strategy | None]


def _smaller_micro_batch(strategy: Strategy) -> Strategy | None:
    """Half as many rows at once, a third or less where they have no half, and so many more times before the optimizer steps."""
    size = strategy.micro_batch_size
    share = next((divisor for divisor in range(2, size + 1) if size % divisor == 0), None)
    if share is None:
        return None
    return msgspec.structs.replace(
        strategy,
        micro_batch_size=size // share,
        gradient_accumulation_steps=strategy.gradient_accumulation_steps * share,
    )


def _recomputing(strategy: Strategy) -> Strategy | None:
    """Activations of the blocks are computed again in the backward pass instead of being kept."""
    if strategy.gradient_checkpointing != "off" or strategy.method in NOT_RECOMPUTED:
        return None
    return msgspec.structs.replace(strategy, gradient_checkpointing="non_reentrant")


def _loss_in_chunks(strategy: Strategy) -> Strategy | None:
    """Logits of a few tokens at a time: of a large vocabulary they are what is largest by now."""
    return msgspec.structs.replace(strategy, loss="chunked") if strategy.loss == "hf" else None


TRAINING: Final[tuple[Rung, ...]] = (_smaller_micro_batch, _recomputing, _loss_in_chunks)
JUDGING: Final[tuple[Rung, ...]] = (_smaller_micro_batch, _loss_in_chunks)  # without gradients nothing is kept
WHOLE_LOGITS: Final[Mapping[tuple[Rung, ...], tuple[Rung, ...]]] = {  # of a model whose output matrix is not a plain one
    TRAINING: TRAINING[:-1],
    JUDGING: JUDGING[:-1],
}


def above(strategy: Strategy) -> Strategy | None:
    """Twice as many rows at once, and half as many times before the optimizer steps; None where the step has no such half."""
    if strategy.gradient_accumulation_steps % 2:
        return None
    return msgspec.structs.replace(
        strategy,
        micro_batch_size=strategy.micro_batch_size * 2,
        gradient_accumulation_steps=strategy.gradient_accumulation_steps // 2,
    )


def below(strategy: Strategy, rungs: tuple[Rung, ...]) -> Strategy | None:
    """The next strategy that takes less memory at once; None at the foot of the ladder."""
    return next((lower for rung in rungs if (lower := rung(strategy)) is not None), None)


def streamed_instead(strategy: Strategy, device: str, task: Task) -> Strategy | None:
    """The last resort: frozen blocks lie in host memory and pass by. The base has to be loaded anew for it.

    None where that is no way: the base is streamed already, or trains; a processor's memory is the host's own.
    """
    if device not in STREAMED_TO or task not in STREAMED_TASKS or strategy.offload != "none":
        return None
    strategy = msgspec.structs.replace(strategy, kernels="eager")  # a graph holds the addresses of weights that come and go
    recomputing = strategy if strategy.gradient_checkpointing != "off" else _recomputing(strategy)
    if recomputing is None:
        return None
    lower = msgspec.structs.replace(recomputing, offload="stream")
    return None if CAPABILITIES.missing(lower, task) else lower


def changes(before: Strategy, after: Strategy) -> dict[str, list[Any]]:
    """Field → what it was and what it is now, of those that differ."""
    return {
        name: [getattr(before, name), getattr(after, name)]
        for name in Strategy.__struct_fields__
        if getattr(before, name) != getattr(after, name)
    }


def tell_change(
    events: Events, step: int, before: Strategy, after: Strategy, why: str, *, reason: str = EndReason.OUT_OF_MEMORY
) -> None:
    """Tell of another strategy, by which the same is learned."""
    found = changes(before, after)
    told = ", ".join(f"{name} from {was} to {now}" for name, (was, now) in found.items())
    message = f"{why}; the run goes on with {told}, and learns the same"
    events.emit("strategy_changed", reason=reason, step=step, changes=found, message=message)
