"""Two steps of a log through the allocator: what each storage takes of it, and what it takes of the driver."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from planner.estimators.trace.allocator import Allocator
from planner.estimators.trace.recorder import Role, Stage, Trace


class Reserved(NamedTuple):
    """What the caching allocator holds after an event. `position` None: of the first of two steps, which a log has once."""

    position: int | None
    reserved_bytes: int


class Replayed(NamedTuple):
    """What a replay saw."""

    blocks: tuple[int, ...]  # bytes of each storage's block, in the second step where it has one in both; by number
    reserved: tuple[Reserved, ...]  # up to the end of the second step

    @property
    def reserved_peak_bytes(self) -> int:
        """The most that the caching allocator has taken from the driver."""
        return max(level.reserved_bytes for level in self.reserved)


def replayed(trace: Trace) -> Replayed:
    """Loading, a first step in whose end the optimizer's states are made, a second one, and evaluation.

    `max_memory_allocated` counts blocks: one whose rest is too small to be cut off is counted whole. transformers asks for the
    whole model in one piece before it loads (caching_allocator_warmup), so weights come out of one segment.
    """
    allocator = Allocator()
    blocks = [0] * len(trace.sizes)
    reserved: list[Reserved] = []
    end = _first(trace, Stage.EVALUATION)
    _warm_up(allocator, trace)
    for position, event in _played(trace):
        if event >= 0:
            number = event % len(trace.sizes)
            blocks[number] = allocator.allocate(event, trace.sizes[number])
        else:
            allocator.release(~event)
        if position is None or position < end:
            reserved.append(Reserved(position, allocator.reserved_bytes))
    return Replayed(tuple(blocks), tuple(reserved))


def _played(trace: Trace) -> Iterator[tuple[int | None, int]]:
    """Events in the order of a run, each with its place in the log, or None where it stands there for another step."""
    states, step, evaluation = (_first(trace, stage) for stage in (Stage.STATES, Stage.FORWARD, Stage.EVALUATION))
    loaded, made, stepped = trace.events[:states], trace.events[states:step], trace.events[step:evaluation]
    kept = _lasting(made)
    before = [number for number in kept if trace.roles[number] != Role.OPTIMIZER]
    late = sorted({*kept} - {*before})  # while the gradients are there: so they don't lie where the activations were
    until = _first(trace, Stage.OPTIMIZER_STEP) - step
    yield from enumerate(loaded)
    yield from _unplaced((*before, *stepped[:until], *late, *stepped[until:]))
    yield from _again(stepped, step, len(trace.sizes))
    yield from enumerate(trace.events[evaluation:], evaluation)


def _lasting(events: Sequence[int]) -> list[int]:
    """The storages that are born in these events and outlive them, in their order."""
    gone = {~event for event in events if event < 0}
    return [number for number in events if number >= 0 and number not in gone]


def _unplaced(events: Iterable[int]) -> Iterator[tuple[int | None, int]]:
    return ((None, event) for event in events)


def _again(step: Sequence[int], start: int, shift: int) -> Iterator[tuple[int | None, int]]:
    """The same step once more, without what only a first step does: what it left behind, and what it ended for good."""
    born = {event for event in step if event >= 0}
    passing = born & {~event for event in step if event < 0}
    for position, event in enumerate(step, start):
        if max(event, ~event) in passing:
            yield position, event + shift if event >= 0 else event - shift


def _first(trace: Trace, stage: Stage) -> int:
    return next(mark.position for mark in trace.marks if mark.stage == stage)


def _warm_up(allocator: Allocator, trace: Trace) -> None:
    """Ask for what the weights will take as they lie in the end, and give it back at once."""
    stay = _lasting(trace.events[: _first(trace, Stage.STATES)])
    allocator.allocate(-1, sum(trace.sizes[number] for number in stay if trace.roles[number] == Role.WEIGHTS))
    allocator.release(-1)
