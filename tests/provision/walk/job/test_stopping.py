"""How long a trainer that is told to leave is waited for: as its own steps and checkpoints, and the plan, say."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from planner.plan import Plan
from provision.walk.job.stopping import LEAST_S, MOST_S, SLACK, leaving_s
from remote.contract import Event, Phase
from tests.provision.plans import about


def event(kind: str, phase: Phase = Phase.TRAIN, **data: Any) -> Event:
    return Event(seq=0, kind=kind, phase=phase, at_s=0.0, monotonic_s=0.0, data=data)


TRAINED = (
    event("checkpoint", seconds=4.0),
    event("step", step_s=40.0),
    event("checkpoint", seconds=30.0),
    event("step", step_s=20.0),
)


def test_one_that_has_said_nothing_has_nothing_to_save(plan: Plan) -> None:
    assert leaving_s((), plan) == LEAST_S


def test_the_longest_step_and_the_longest_checkpoint_are_waited_for(plan: Plan) -> None:
    """It looks between two steps, and then it saves: after ten seconds a step of forty was cut off, and all since the last
    checkpoint lost.
    """
    assert leaving_s(TRAINED, plan) == LEAST_S + SLACK * (40.0 + 30.0)


@pytest.mark.parametrize("phase", [Phase.EVALUATE, Phase.SAVE])
def test_a_result_that_is_being_made_has_the_time_that_the_plan_gives_it(plan: Plan, phase: Phase) -> None:
    slow = msgspec.structs.replace(plan.duration, phase_s={"evaluate": about(20.0), "save": about(50.0), "train": about(900.0)})
    longer = msgspec.structs.replace(plan, duration=slow)
    p90_s = slow.phase_s["evaluate"].p90 + slow.phase_s["save"].p90
    assert leaving_s((*TRAINED, event("phase_started", phase)), longer) == LEAST_S + SLACK * 70.0 + p90_s


def test_nobody_waits_for_ever(plan: Plan) -> None:
    assert leaving_s((event("step", step_s=1e6),), plan) == MOST_S


def test_figures_that_are_missing_count_for_nothing(plan: Plan) -> None:
    assert leaving_s((event("step"), event("checkpoint", seconds=None)), plan) == LEAST_S
