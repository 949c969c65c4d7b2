"""What a trace says: the peak and its parts, the peak of each instant, the memory that the allocator takes for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from planner.estimators.memory import COMPONENTS
from planner.estimators.stretches import MOST_POINTS, Stretch, TimeLine
from planner.estimators.trace import Traced
from planner.estimators.trace.recorder import Mark, Role, Stage, Trace
from planner.estimators.trace.replay import Replayed, replayed
from planner.plan import Instant

INSTANT_OF: Final[dict[Stage, Instant]] = {
    Stage.LOAD: "load",
    Stage.PREPARE: "prepare",
    Stage.FORWARD: "forward",
    Stage.BACKWARD: "backward",
    Stage.OPTIMIZER_STEP: "optimizer_step",
    Stage.EVALUATION: "evaluation",
}


class Span(NamedTuple):
    """Events from `start` up to `end`, all in one instant."""

    start: int
    end: int
    instant: Instant


class Peak(NamedTuple):
    """The fullest moment: right after event `position`."""

    allocated_bytes: int
    position: int
    instant: Instant


def spans(trace: Trace) -> Iterator[Span]:
    """The trace cut into instants. The loss is from the first logits to the last event that concerns any in backward."""
    ends = [mark.position for mark in trace.marks[1:]] + [len(trace.events)]
    for mark, end in zip(trace.marks, ends, strict=True):
        yield from _instants(trace, mark, end)


def _instants(trace: Trace, mark: Mark, end: int) -> Iterator[Span]:
    instant = INSTANT_OF.get(mark.stage)
    if instant is None or mark.position == end:
        return
    logits = [at for at in range(mark.position, end) if _role(trace, at) == Role.LOGITS]
    if mark.stage == Stage.FORWARD and logits:
        yield Span(mark.position, logits[0], "forward")
        yield Span(logits[0], end, "loss")
    elif mark.stage == Stage.BACKWARD and logits:
        yield Span(mark.position, logits[-1] + 1, "loss")
        yield Span(logits[-1] + 1, end, "backward")
    else:
        yield Span(mark.position, end, instant)


def _role(trace: Trace, at: int) -> Role:
    event = trace.events[at]
    return trace.roles[event if event >= 0 else ~event]


def levels(trace: Trace, blocks: Sequence[int]) -> list[int]:
    """Bytes allocated after each event. `blocks`: what each storage takes of the allocator."""
    found, level = [], 0
    for event in trace.events:
        level += blocks[event] if event >= 0 else -blocks[~event]
        found.append(level)
    return found


def peaks(trace: Trace, blocks: Sequence[int]) -> dict[Instant, Peak]:
    """The fullest moment of each instant that occurs."""
    after = levels(trace, blocks)
    found: dict[Instant, Peak] = {}
    for start, end, instant in spans(trace):
        if start == end:
            continue
        position = max(range(start, end), key=after.__getitem__)
        peak = Peak(after[position], position, instant)
        found[instant] = max(found.get(instant, peak), peak)
    return found


def components(trace: Trace, blocks: Sequence[int], position: int) -> dict[str, int]:
    """Bytes alive right after event `position`, by role; the contract's components are there at zero, too."""
    alive: set[int] = set()
    for event in trace.events[: position + 1]:
        (alive.add if event >= 0 else alive.discard)(event if event >= 0 else ~event)
    parts = dict.fromkeys(COMPONENTS, 0)
    for number in alive:
        role = str(trace.roles[number])
        parts[role] = parts.get(role, 0) + blocks[number]
    return parts


# ── to be drawn ────────────────────────────────────────────────────────────────────────────────────────────────────────


def time_line(trace: Trace) -> TimeLine:
    """The log from loading to the optimizer's step, thinned out to the fullest moment of each neighbourhood."""
    drawn, again = _stretches_of(trace), replayed(trace)
    after = levels(trace, again.blocks)
    num_events = sum(end - start for start, end, _ in drawn)
    chosen: list[int] = []
    stretches: list[Stretch] = []
    for start, end, instant in drawn:
        first = len(chosen)
        wide = max(1, num_events // MOST_POINTS)
        chosen += [max(range(at, min(end, at + wide)), key=after.__getitem__) for at in range(start, end, wide)]
        stretches.append(Stretch(instant=instant, start=first, end=len(chosen)))
    return TimeLine(
        engine="trace",
        num_events=num_events,
        stretches=tuple(stretches),
        components=_components_at(trace, again.blocks, chosen),
        reserved=_reserved_at(again, chosen),
    )


def _stretches_of(trace: Trace) -> list[Span]:
    """The instants in their order, neighbours of one kind joined; without evaluation."""
    found: list[Span] = []
    for span in spans(trace):
        if span.start == span.end or span.instant == "evaluation":
            continue
        if found and found[-1].instant == span.instant and found[-1].end == span.start:
            span = Span(found.pop().start, span.end, span.instant)
        found.append(span)
    return found


def _components_at(trace: Trace, blocks: Sequence[int], positions: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Bytes alive right after these events, by role; roles that never occur are left out."""
    wanted = set(positions)
    alive = dict.fromkeys(map(str, Role), 0)
    seen: dict[str, list[int]] = {name: [] for name in alive}
    for position, event in enumerate(trace.events):
        number = event if event >= 0 else ~event
        alive[str(trace.roles[number])] += blocks[number] * (1 if event >= 0 else -1)
        if position in wanted:
            for name, size in alive.items():
                seen[name].append(size)
    return {name: tuple(sizes) for name, sizes in seen.items() if any(sizes)}


def _reserved_at(again: Replayed, positions: Sequence[int]) -> tuple[int, ...]:
    """What is reserved after these events; an event that only a first step has keeps the level before it."""
    known = {level.position: level.reserved_bytes for level in again.reserved}
    found: list[int] = []
    for position in positions:
        found.append(known.get(position, found[-1] if found else 0))
    return tuple(found)


# ── in short ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def summary(trace: Trace) -> Traced:
    """Peaks and parts. Evaluation stands beside the peak, not in it."""
    again = replayed(trace)
    found = peaks(trace, again.blocks)
    training = [peak for instant, peak in found.items() if instant != "evaluation"]
    top = max(training, key=lambda peak: peak.allocated_bytes)
    return Traced(
        allocated_peak_bytes=top.allocated_bytes,
        reserved_peak_bytes=max(top.allocated_bytes, again.reserved_peak_bytes),
        evaluation_peak_bytes=found["evaluation"].allocated_bytes,
        peak_instant=top.instant,
        components=components(trace, again.blocks, top.position),
        by_instant={str(instant): peak.allocated_bytes for instant, peak in found.items()},
        num_trained=trace.num_trained,
        num_base=trace.num_base,
    )
