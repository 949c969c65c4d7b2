"""How long a trainer that is told to leave may take, by what it has said of its pace. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from planner.plan import Plan
from remote.contract import Event, Phase

LEAST_S: Final = 10.0  # assumed: to notice, and for its last words
MOST_S: Final = 600.0  # assumed: more would cost more than it saves; whoever waits may press Ctrl-C again
SLACK: Final = 1.5  # assumed, as the trainer does (remote/training/loop.py): so much longer than the longest so far
MAKING_RESULT: Final = (
    Phase.EVALUATE,
    Phase.SAVE,
)  # in these it may have trained to the end, and then it goes on to its result


def leaving_s(events: Sequence[Event], plan: Plan) -> float:
    """Seconds in which it ends the step that it is at and saves, or its result where that is what it is making.

    It looks between steps, and no more once it saves. `events`: its latest, oldest first.
    """
    step_s = _longest_s(events, ("step", "probe"), "step_s")
    save_s = _longest_s(events, ("checkpoint",), "seconds")
    result_s = _planned_s(plan) if events and events[-1].phase in MAKING_RESULT else 0.0
    return min(MOST_S, LEAST_S + SLACK * (step_s + save_s) + result_s)


def _longest_s(events: Iterable[Event], kinds: tuple[str, ...], key: str) -> float:
    return max((float(event.data.get(key) or 0.0) for event in events if event.kind in kinds), default=0.0)


def _planned_s(plan: Plan) -> float:
    """What judging and saving may take in all, by the plan's slow end."""
    return sum(plan.duration.phase_s[phase].p90 for phase in MAKING_RESULT if phase in plan.duration.phase_s)
