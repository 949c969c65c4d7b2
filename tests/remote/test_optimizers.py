"""Optimizers by name, and the learning rate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.contract import CAPABILITIES, Loop
from remote.optimizers import OPTIMIZERS, learning_rate

SCHEDULES = ["constant", "linear", "cosine"]


def loop(schedule: str, warmup_ratio: float = 0.0) -> Loop:
    return Loop(learning_rate=1.0, schedule=schedule, warmup_ratio=warmup_ratio)  # type: ignore[arg-type]


def test_the_table_is_what_the_trainer_says_it_can_do() -> None:
    assert tuple(OPTIMIZERS) == CAPABILITIES.optimizers


@pytest.mark.parametrize(("schedule", "halfway"), [("constant", 1.0), ("linear", 0.5), ("cosine", 0.5)])
def test_the_rate_halfway(schedule: str, halfway: float) -> None:
    assert learning_rate(50, 100, loop(schedule)) == pytest.approx(halfway)


def test_warm_up_rises_in_even_steps_to_the_full_rate() -> None:
    assert [learning_rate(step, 100, loop("constant", 0.04)) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


@given(st.sampled_from(SCHEDULES), st.integers(1, 500), st.floats(0, 1))
def test_the_rate_rises_then_falls_and_never_leaves_its_bounds(schedule: str, steps: int, warmup_ratio: float) -> None:
    rates = [learning_rate(step, steps, loop(schedule, warmup_ratio)) for step in range(steps)]
    top = rates.index(max(rates))
    assert all(0.0 <= rate <= 1.0 for rate in rates)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
