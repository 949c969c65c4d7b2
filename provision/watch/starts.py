"""What a trainer's events say of kills that it came through, and of the rows that it is judged by. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from provision.watch.view import View, after
from remote.contract import Event, Phase


class Again(NamedTuple):
    """A trainer that was killed, or whose box was rebooted, and the one that was started in its place."""

    rebooted: bool
    steps_lost: int  # that were taken, and taken again
    phase: str | None  # that was cut off; None = it was between two
    cut_off_s: float  # of that phase, which never told its seconds: until the next trainer began


def is_restart(event: Event) -> bool:
    """Each start begins with the environment, and only the first is numbered 0."""
    return event.kind == "phase_started" and event.phase == Phase.ENVIRONMENT and event.seq != 0


def restarts_of(events: Sequence[Event]) -> tuple[Again, ...]:
    """Each time that it was started again, oldest first."""
    view, found = View(), []
    for place, event in enumerate(events):
        if is_restart(event):
            found.append(_again(view, event, events[place + 1 :]))
        view = after(view, event)
    return tuple(found)


def _again(view: View, event: Event, later: Iterable[Event]) -> Again:
    is_cut_off = view.phase is not None and view.phase_since_s is not None
    return Again(
        rebooted=view.last_monotonic_s is not None and event.monotonic_s < view.last_monotonic_s,
        steps_lost=max(0, view.step - _goes_on_from(later, view.step)),
        phase=view.phase if is_cut_off else None,
        cut_off_s=max(0.0, event.at_s - view.phase_since_s) if view.phase_since_s is not None else 0.0,
    )


def _goes_on_from(later: Iterable[Event], step: int) -> int:
    """The step that the next trainer had before its first; `step` where it was killed before that, or lost nothing."""
    for event in later:
        if is_restart(event):
            return step
        if event.kind == "resumed":
            return int(event.data.get("step", step))
        if event.kind == "step":
            return int(event.data.get("step", step + 1)) - 1
    return step


def held_out_twins(events: Iterable[Event]) -> int:
    """Held-out rows that say word for word what is learned; a trainer that was started again told them again."""
    return max((int(event.data.get("held_out_twins", 0)) for event in events if event.kind == "warning"), default=0)
