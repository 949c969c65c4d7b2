"""When a loss says that going on is of no use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import remote.step
import remote.training.fitting
from remote.__main__ import carry_out
from remote.contract import OUTCOME_FILE, EndReason, Evaluation, Event, Outcome, decode
from remote.training.patience import FACTOR, IN_A_ROW, LEAST_SEEN, Spikes, evaluations_in_vain
from remote.watch import Watch
from tests.remote.conftest import LOOP, MakeJob


def judged(losses: Sequence[float]) -> list[Evaluation]:
    return [Evaluation(step=step, mean_loss=loss, row_losses=(loss,)) for step, loss in enumerate(losses)]


@pytest.mark.parametrize(
    ("losses", "min_delta", "vain"),
    [
        ([5.0], 0.0, 0),  # the base alone
        ([1.0, 3.0, 2.0], 0.0, 0),  # it counts from the first after training began, whatever the base's
        ([5.0, 3.0, 3.0, 3.0], 0.0, 2),  # equal is not better
        ([5.0, 3.0, 2.95, 2.92], 0.1, 2),  # falls too little each time
        ([5.0, 3.0, 2.95, 2.92, 2.85], 0.1, 0),  # until it has fallen enough in all
        ([5.0, 3.0, 2.95, 2.9, 2.85], 0.0, 0),
        ([5.0, 3.0, 2.0, 9.0, 1.95], 0.1, 2),
    ],
)
def test_what_counts_as_better(losses: list[float], min_delta: float, vain: int) -> None:
    assert evaluations_in_vain(judged(losses), min_delta) == vain


@given(st.lists(st.floats(0, 9), min_size=2, max_size=9))
def test_without_a_least_difference_it_is_the_steps_since_the_best(losses: list[float]) -> None:
    after = losses[1:]
    assert evaluations_in_vain(judged(losses), 0.0) == len(after) - 1 - after.index(min(after))


def told(losses: Sequence[float]) -> list[int]:
    spikes = Spikes()
    return [step for step, loss in enumerate(losses, start=1) if spikes.saw(step, loss) is not None]


USUAL = [1.0] * LEAST_SEEN
HIGH = FACTOR + 0.1


@pytest.mark.parametrize(
    ("losses", "at"),
    [
        ([*USUAL, *[HIGH] * IN_A_ROW], [LEAST_SEEN + IN_A_ROW]),
        ([*USUAL, *[HIGH] * 20], [LEAST_SEEN + IN_A_ROW]),  # told once, and a spike is no measure for the next
        ([*USUAL, HIGH, 1.0, HIGH, HIGH, 1.0], []),  # single rows
        ([*USUAL, *[FACTOR] * 9], []),
        ([9.0, 5.0, *[HIGH] * 5], []),  # the beginning
        ([8.0 / (1 + step) for step in range(60)], []),  # one that falls
    ],
)
def test_a_loss_that_jumps_and_stays_is_told_once(losses: list[float], at: list[int]) -> None:
    assert told(losses) == at


@pytest.mark.torch
@pytest.mark.parametrize("on_spike", ["tell", "stop"])
def test_a_spike_is_told_or_ends_the_run_as_the_job_says(
    make_job: MakeJob, events_of: Callable[[Path], list[Event]], monkeypatch: pytest.MonkeyPatch, on_spike: str
) -> None:
    real, made = remote.step.step, iter(range(1, 99))

    def step(*given: object, **said: object) -> object:
        result = real(*given, **said)  # type: ignore[arg-type]
        number = next(made) - 2  # the probe's come first
        return remote.step.StepResult(loss=result.loss * (9 if number > LEAST_SEEN else 1), grad_norm=result.grad_norm)

    monkeypatch.setattr(remote.training.fitting, "step", step)
    loop = msgspec.structs.replace(LOOP, max_steps=LEAST_SEEN + 8, learning_rate=1e-4, evaluations=0, on_spike=on_spike)
    job = make_job(loop=loop)
    carry_out(job, watch=Watch())
    outcome = decode(job.with_name(OUTCOME_FILE).read_bytes(), Outcome)
    words = [str(event.data.get("message")) for event in events_of(job)]
    assert sum("the loss jumped: " in said and f"at step {LEAST_SEEN + IN_A_ROW}" in said for said in words) == 1
    assert outcome.reason == (EndReason.COMPLETED if on_spike == "tell" else EndReason.DIVERGED)
