"""How far a training is: one value, which each step replaces, and what a failed step goes back to."""

from __future__ import annotations

import msgspec

from remote.checkpoints.checkpoint import Progress
from remote.checkpoints.same_job import learned_by
from remote.contract import Strategy
from remote.training.standing import Standing
from tests.remote.conftest import LOOP, spec_of

STRATEGY = Strategy(method="lora", rank=4)
SPEC = spec_of("r", STRATEGY, LOOP)


def after(steps: int, *, saved_at: int | None = None) -> Standing:
    """So many steps of 10 tokens in half a second, with a checkpoint after one of them."""
    standing = Standing(Progress(peaks={"allocated_peak_bytes": 5}))
    for number in range(1, steps + 1):
        standing.stepped(0.5, 10)
        if number == saved_at:
            standing.is_saved()
    return standing


def test_steps_tokens_and_seconds_agree_after_each_step() -> None:
    """Not only where a checkpoint is made."""
    for steps in range(4):
        progress = after(steps).progress
        assert (progress.step, progress.tokens, progress.step_s) == (steps, 10 * steps, (0.5,) * steps)


def test_what_had_moved_weights_goes_back_to_the_newest_checkpoint_whole() -> None:
    """Its step, its tokens and its seconds; the peaks are of what did not fit, and forgotten."""
    standing = after(3, saved_at=2)
    assert standing.went_back(moved=True) == standing.saved
    assert standing.progress == msgspec.structs.replace(after(2).progress, peaks={})


def test_what_had_moved_nothing_stays_where_it_is_and_so_does_what_has_no_checkpoint() -> None:
    for standing, moved in ((after(3, saved_at=2), False), (after(3), True)):
        assert standing.went_back(moved=moved) is None
        assert standing.progress == msgspec.structs.replace(after(3).progress, peaks={})


def test_a_checkpoint_says_the_larger_of_the_peaks_and_the_strategy_that_is_carried_out() -> None:
    standing = after(1)
    peaks = {"allocated_peak_bytes": 3, "ram_peak_bytes": 7}
    noted = standing.noted(phase_s={"train": 1.0}, peaks=peaks, strategy=STRATEGY, learned=learned_by(SPEC))
    assert noted.peaks == {"allocated_peak_bytes": 5, "ram_peak_bytes": 7}
    assert (noted.strategy, noted.phase_s) == (STRATEGY, {"train": 1.0})
    assert noted == standing.progress
