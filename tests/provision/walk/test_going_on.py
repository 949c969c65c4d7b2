"""The job file that goes on where a run was stopped: what of its loop is left."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from provision.walk.going_on import Stopped, job_that_goes_on, rest_of, stopped_at
from provision.watch.view import fold
from remote.contract import Event, Loop, Phase
from remote.training.schedule import learning_rate
from tests.provision.plans import tiny_files, tiny_plan

PER_EPOCH = 40.0
LOOP = Loop(epochs=5.0, schedule="linear", warmup_ratio=0.05)  # 200 steps, 10 of them warm-up


def rates(loop: Loop, total_steps: int) -> list[float]:
    return [learning_rate(step, total_steps, loop, steps_per_epoch=PER_EPOCH) for step in range(total_steps)]


@pytest.mark.parametrize("schedule", ["linear", "constant"])
@pytest.mark.parametrize("step", [10, 11, 150, 199])
def test_a_rate_that_falls_evenly_goes_on_as_if_nothing_had_happened(schedule: str, step: int) -> None:
    """Step for step what the run would have had; and as many of them."""
    loop = msgspec.structs.replace(LOOP, schedule=schedule)
    rest = rest_of(loop, Stopped(step, 200, PER_EPOCH))
    assert rest.epochs * PER_EPOCH == pytest.approx(200 - step)
    assert rates(rest, 200 - step) == pytest.approx(rates(loop, 200)[step:], rel=1e-4)


def test_a_cosine_falls_from_where_it_stood_to_none_again() -> None:
    """Never above that, and down to none; a half wave that begins anew is flat at first."""
    loop = msgspec.structs.replace(LOOP, schedule="cosine")
    rest = rates(rest_of(loop, Stopped(100, 200, PER_EPOCH)), 100)
    whole = rates(loop, 200)[100:]
    assert rest[0] == pytest.approx(whole[0], rel=1e-4)
    assert rest == sorted(rest, reverse=True)
    assert rest[-1] < 0.01 * rest[0]


def test_what_was_left_of_the_warm_up_is_left() -> None:
    """To the whole rate, and a constant one stays there."""
    rest = rest_of(msgspec.structs.replace(LOOP, schedule="constant"), Stopped(4, 200, PER_EPOCH))
    assert (rest.warmup_steps, rest.learning_rate) == (6, LOOP.learning_rate)
    by_epochs = msgspec.structs.replace(LOOP, warmup_epochs=1.0)
    assert rest_of(by_epochs, Stopped(4, 200, PER_EPOCH)).warmup_steps == 36
    warms_only = msgspec.structs.replace(LOOP, warmup_ratio=1.0, max_steps=200)
    assert rest_of(warms_only, Stopped(4, 200, PER_EPOCH)).warmup_steps == 195  # one has the whole rate, or the file is refused


def test_restarts_that_were_left_begin_with_the_whole_rate_again() -> None:
    """Each of them does."""
    loop = msgspec.structs.replace(LOOP, schedule="cosine_with_restarts", cycles=4)
    rest = rest_of(loop, Stopped(100, 200, PER_EPOCH))
    assert (rest.cycles, rest.learning_rate) == (2, LOOP.learning_rate)


def test_a_training_that_had_made_all_its_steps_makes_one_more() -> None:
    """It was stopped while it was judged or saved: its weights are what is wanted, and no result comes of no step."""
    rest = rest_of(msgspec.structs.replace(LOOP, max_steps=200), Stopped(200, 200, PER_EPOCH))
    assert rest.max_steps == 1
    assert rest.epochs * PER_EPOCH == pytest.approx(1)


def test_how_far_it_came_is_the_trainers_word_else_the_plans(tmp_path: Path) -> None:
    """A trainer that said nothing, or whose words are lost, made the steps that were planned."""
    plan = tiny_plan(*tiny_files(tmp_path), steps=8)
    data = {"step": 3, "total_steps": 12, "epoch": 0.5}
    said = Event(seq=0, kind="step", phase=Phase.TRAIN, at_s=1.0, monotonic_s=1.0, data=data)
    assert stopped_at(3, plan, fold([said])) == Stopped(3, 12, 6.0)
    assert stopped_at(3, plan, fold([])).total_steps == plan.duration.num_steps


def test_the_file_says_what_it_carries_on(tmp_path: Path) -> None:
    """Whoever opens it sees that it is no new beginning, and what of it is."""
    plan = tiny_plan(*tiny_files(tmp_path), steps=8)
    text = job_that_goes_on(plan, run_id="20261128-0001", model="m", checkpoint="/c/step-5", stopped=Stopped(5, 8, 4.0))
    assert "# It goes on with what run 20261128-0001 had learned by step 5 of 8: see loop.init_adapter.\n" in text
    assert "without a warm-up." in text
    assert "# Begun anew: the optimizer's moments, the order of the rows," in text
    for line in ("global_batch_size: 4", "epochs: 0.75", "max_steps: 3", "warmup_ratio: 0.0", "init_adapter: /c/step-5"):
        assert f"\n  {line}" in text
