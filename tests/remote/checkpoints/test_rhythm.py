"""When a checkpoint is due, and how a job says it."""

from __future__ import annotations

import pytest

from remote.checkpoints.rhythm import is_due
from remote.contract import Every, Loop, read_every, rhythm_of


@pytest.mark.parametrize(
    ("words", "every"),
    [
        ("200 steps", Every(200, "steps")),
        ("1 step", Every(1, "steps")),
        ("0.5 epochs", Every(0.5, "epochs")),
        ("10 min", Every(600, "s")),
        ("90s", Every(90, "s")),
        ("2 hours", Every(7200, "s")),
    ],
)
def test_steps_epochs_and_time(words: str, every: Every) -> None:
    assert read_every(words) == every
    assert rhythm_of(Loop(checkpoint_every=words)) == every


@pytest.mark.parametrize("words", ["", "5", "often", "0 steps", "-1 s", "1e3 steps", "five min", "10 m", "3 weeks"])
def test_what_says_no_rhythm_is_none(words: str) -> None:
    assert read_every(words) is None
    with pytest.raises(ValueError, match="none of steps, epochs, s, min or h"):
        rhythm_of(Loop(checkpoint_every=words))


def test_without_words_the_seconds_count() -> None:
    assert rhythm_of(Loop(checkpoint_every_s=30.0)) == Every(30.0, "s")


def due(words: str, steps: range, *, steps_per_epoch: float = 10.0, saved: int = 0) -> list[int]:
    """The steps at which one is made, each resetting the count."""
    made, every = [], rhythm_of(Loop(checkpoint_every=words))
    for step in steps:
        if is_due(every, step=step, saved_step=saved, since_saved_s=step - saved, steps_per_epoch=steps_per_epoch):
            made.append(step)
            saved = step
    return made


def test_steps_and_epochs_count_from_the_beginning_of_the_run_and_time_from_the_last_one() -> None:
    assert due("4 steps", range(1, 14)) == [4, 8, 12]
    assert due("4 steps", range(7, 14), saved=6) == [8, 12]  # one in between was made for another reason
    assert due("0.25 epochs", range(1, 14)) == [3, 5, 8, 10, 13]
    assert due("0.1 epochs", range(1, 6), steps_per_epoch=30.0) == [3]
    assert due("5 s", range(1, 14)) == [5, 10]


def test_a_rhythm_shorter_than_a_step_is_each_step() -> None:
    assert due("0.01 epochs", range(1, 5)) == [1, 2, 3, 4]
