"""What the trainer gives up when memory runs out, one rung after the other, and what it takes where memory is free.

What is learned stays the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from remote.contract import BY_TWO_SLOTS, CAPABILITIES, EndReason, Strategy, Streaming, Task
from remote.telemetry import Events

# A rung may change these of a Strategy and no others: which rows make a step, and all that trains, stay as they are.
GIVEN_UP: Final = (
    *("micro_batch_size", "gradient_accumulation_steps", "gradient_checkpointing", "loss"),
    *("offload", "streaming", "kernels"),
)
NOT_RECOMPUTED: Final = ("prefix_tuning",)  # a block that is computed again would meet its prefix twice

# the reasons of a change, beside memory's
NOT_COMPILED: Final = "not_compiled"
HEADROOM: Final = "headroom"
SLOW_LINK: Final = "slow_link"

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


def _less_at_a_visit(strategy: Strategy) -> Strategy | None:
    """Of a base that is streamed: all blocks computed again, then half as many micro-batches side by side."""
    said = strategy.streaming
    if strategy.offload != "stream" or said is None or (said.num_visits == 1 and not said.num_blocks_without_recompute):
        return None
    visits = said.num_visits if said.num_blocks_without_recompute else said.num_visits // 2
    streaming = msgspec.structs.replace(said, num_visits=visits, num_blocks_without_recompute=0)
    return msgspec.structs.replace(strategy, streaming=streaming)


TRAINING: Final[tuple[Rung, ...]] = (_smaller_micro_batch, _recomputing, _less_at_a_visit, _loss_in_chunks)
JUDGING: Final[tuple[Rung, ...]] = (_smaller_micro_batch, _loss_in_chunks)  # without gradients nothing is kept
WHOLE_LOGITS: Final[Mapping[tuple[Rung, ...], tuple[Rung, ...]]] = {  # of a model whose output matrix is not a plain one
    TRAINING: TRAINING[:-1],
    JUDGING: JUDGING[:-1],
}


def above(strategy: Strategy) -> Strategy | None:
    """Twice as many rows at once, and half as many times before the optimizer steps; None where the step has no such half."""
    if strategy.gradient_accumulation_steps % 2:
        return None
    half, said = strategy.gradient_accumulation_steps // 2, strategy.streaming
    if said is not None:
        said = msgspec.structs.replace(said, num_visits=min(said.num_visits, half))
    return msgspec.structs.replace(
        strategy,
        micro_batch_size=strategy.micro_batch_size * 2,
        gradient_accumulation_steps=half,
        streaming=said,
    )


def with_visits(strategy: Strategy) -> Strategy | None:
    """Twice as many micro-batches served by one visit of a streamed block; None where one visit serves all of a step."""
    said = strategy.streaming or BY_TWO_SLOTS
    visits = min(2 * said.num_visits, strategy.gradient_accumulation_steps)
    if visits <= said.num_visits:
        return None
    return msgspec.structs.replace(strategy, streaming=msgspec.structs.replace(said, num_visits=visits))


def with_residents(strategy: Strategy, num_more: int, *, from_disk: int) -> Strategy:
    """So many streamed blocks more that stay on the card, some of which waited on the disk."""
    said = strategy.streaming or BY_TWO_SLOTS
    streaming = msgspec.structs.replace(
        said,
        num_resident_blocks=said.num_resident_blocks + num_more,
        num_disk_blocks=max(0, said.num_disk_blocks - from_disk),
    )
    return msgspec.structs.replace(strategy, streaming=streaming)


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


def _told(before: Strategy, after: Strategy) -> dict[str, list[Any]]:
    """The same, and of how blocks pass only what differs."""
    found = changes(before, after)
    if after.streaming is None or "streaming" not in found:
        return found
    del found["streaming"]
    was, now = before.streaming or BY_TWO_SLOTS, after.streaming
    pairs = {name: [getattr(was, name), getattr(now, name)] for name in Streaming.__struct_fields__}
    return found | {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def tell_change(
    events: Events, step: int, before: Strategy, after: Strategy, why: str, *, reason: str = EndReason.OUT_OF_MEMORY
) -> None:
    """Tell of another strategy, by which the same is learned."""
    found = _told(before, after)
    told = ", ".join(f"{name} from {was} to {now}" for name, (was, now) in found.items())
    message = f"{why}; the run goes on with {told}, and learns the same"
    events.emit("strategy_changed", reason=reason, step=step, changes=found, message=message)
