"""The learning rate over a run."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.contract import Loop
from remote.training.schedule import learning_rate, warmup_steps

FALLING = ["constant", "linear", "cosine"]


def loop(schedule: str, warmup_ratio: float = 0.0, **more: Any) -> Loop:
    return Loop(learning_rate=1.0, schedule=schedule, warmup_ratio=warmup_ratio, **more)  # type: ignore[arg-type]


def rates_of(asked: Loop, steps: int) -> list[float]:
    return [learning_rate(step, steps, asked, steps_per_epoch=10.0) for step in range(steps)]


@pytest.mark.parametrize(("schedule", "halfway"), [("constant", 1.0), ("linear", 0.5), ("cosine", 0.5)])
def test_the_rate_halfway(schedule: str, halfway: float) -> None:
    assert rates_of(loop(schedule), 100)[50] == pytest.approx(halfway)


def test_warm_up_rises_in_even_steps_to_the_full_rate() -> None:
    assert rates_of(loop("constant", 0.04), 100)[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize(
    ("said", "steps"),
    [
        ({"warmup_ratio": 0.07}, 7),
        ({"warmup_steps": 12}, 12),
        ({"warmup_steps": 0}, 0),
        ({"warmup_epochs": 0.25}, 3),
        ({"warmup_epochs": 2.0}, 20),
        ({"warmup_steps": 1_000}, 100),
    ],
)
def test_a_warm_up_is_a_share_of_the_run_or_so_many_steps_or_epochs(said: dict[str, Any], steps: int) -> None:
    """An epoch here has ten steps, the run a hundred."""
    assert warmup_steps(loop("constant", **said), 100, 10.0) == steps


@pytest.mark.parametrize("cycles", [1, 2, 5])
def test_a_cosine_with_restarts_begins_each_cycle_with_the_whole_rate(cycles: int) -> None:
    rates = rates_of(loop("cosine_with_restarts", cycles=cycles), 100)
    assert [step for step, rate in enumerate(rates) if rate == 1.0] == list(range(0, 100, 100 // cycles))


@pytest.mark.torch
@pytest.mark.parametrize(
    ("schedule", "theirs", "options"),
    [
        ("linear", "get_linear_schedule_with_warmup", {}),
        ("cosine", "get_cosine_schedule_with_warmup", {}),
        ("cosine_with_restarts", "get_cosine_with_hard_restarts_schedule_with_warmup", {"num_cycles": 4}),
    ],
)
def test_after_the_warm_up_the_rates_are_those_of_transformers(schedule: str, theirs: str, options: dict[str, int]) -> None:
    import torch
    import transformers

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = getattr(transformers, theirs)(optimizer, num_warmup_steps=7, num_training_steps=60, **options)
    expected = []
    for _ in range(60):
        expected.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates_of(loop(schedule, warmup_steps=7), 60)[7:] == pytest.approx(expected[7:], abs=1e-9)


@given(st.sampled_from(FALLING), st.integers(1, 500), st.floats(0, 1))
def test_the_rate_rises_then_falls_and_never_leaves_its_bounds(schedule: str, steps: int, warmup_ratio: float) -> None:
    rates = rates_of(loop(schedule, warmup_ratio), steps)
    top = rates.index(max(rates))
    assert all(0.0 <= rate <= 1.0 for rate in rates)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


@given(st.integers(1, 300), st.integers(1, 40))
def test_restarts_never_leave_the_bounds_either(steps: int, cycles: int) -> None:
    rates = rates_of(loop("cosine_with_restarts", cycles=cycles), steps)
    assert all(0.0 <= rate <= 1.0 for rate in rates)
