"""Checkpoints that can be trusted: read back when they are written, compared before they are used, and room made for them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from remote.__main__ import carry_out
from remote.checkpoints.checkpoint import Progress, Trained, bytes_of, read_progress, with_evaluation, write_checkpoint
from remote.checkpoints.files import fsynced, steps_in
from remote.checkpoints.room import SPARE_BYTES, make_room
from remote.contract import (
    CHECKPOINT_DIR,
    OUTCOME_FILE,
    PROGRESS_FILE,
    STATE_FILE,
    WEIGHTS_FILE,
    EndReason,
    Evaluation,
    Event,
    Outcome,
    checkpoint_name,
    decode,
)
from remote.ends import Ended
from remote.units import MIB
from remote.watch import Watch
from tests.remote.checkpoints.test_checkpoint import trained
from tests.remote.checkpoints.test_disk import Disk
from tests.remote.conftest import LOOP, Asked, MakeJob

pytestmark = pytest.mark.torch

EventsOf = Callable[[Path], list[Event]]


def evaluated(step: int, loss: float, progress: Progress) -> Progress:
    return with_evaluation(msgspec.structs.replace(progress, step=step), Evaluation(step=step, mean_loss=loss, row_losses=()))


def some(folder: Path) -> None:
    """Three, of which the middle one is the best so far."""
    live, progress = trained(), Progress()
    for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0)):
        progress = evaluated(step, loss, progress)
        write_checkpoint(folder, live, progress, keep=9)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])


def turn_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("harm", [cut, turn_a_bit, Path.unlink])
@pytest.mark.parametrize("name", [WEIGHTS_FILE, STATE_FILE, PROGRESS_FILE])
def test_a_torn_checkpoint_falls_back_to_the_one_before_it(name: str, harm: Callable[[Path], object], tmp_path: Path) -> None:
    """It goes, and is told of. A progress that can still be read is whole: nothing that counts stands in one bit of it."""
    some(tmp_path)
    harm(tmp_path / checkpoint_name(3) / name)
    told: list[str] = []
    progress = read_progress(tmp_path, told.append)
    assert progress is not None
    assert (progress.step, progress.best_step) == (2, 2)
    assert told == ["the checkpoint of step 3 is torn or was changed, so the run goes on from the one before it"]
    assert steps_in(tmp_path) == [1, 2]


def test_best_weights_that_are_torn_are_no_best_any_more(tmp_path: Path) -> None:
    some(tmp_path)
    turn_a_bit(tmp_path / checkpoint_name(2) / WEIGHTS_FILE)
    told: list[str] = []
    progress = read_progress(tmp_path, told.append)
    assert progress is not None
    assert (progress.step, progress.best_step) == (3, None)
    assert told == ["the best weights so far, of step 2, are torn or gone, so the best of those to come will be the result"]


def test_where_all_are_torn_the_run_begins_anew(tmp_path: Path) -> None:
    some(tmp_path)
    for step in (1, 2, 3):
        cut(tmp_path / checkpoint_name(step) / STATE_FILE)
    told: list[str] = []
    assert read_progress(tmp_path, told.append) is None
    assert len(told) == 3


def test_what_an_earlier_release_wrote_is_read(tmp_path: Path) -> None:
    """It has no hashes to compare."""
    some(tmp_path)
    file = tmp_path / checkpoint_name(3) / PROGRESS_FILE
    said = msgspec.json.decode(file.read_bytes())
    del said["sha256"], said["strategy"]
    file.write_bytes(msgspec.json.encode(said))
    progress = read_progress(tmp_path)
    assert progress is not None
    assert progress.step == 3


@pytest.mark.parametrize("name", [WEIGHTS_FILE, STATE_FILE])
def test_a_disk_that_does_not_give_back_what_it_was_given_ends_the_run_before_the_last_good_one_goes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from remote.checkpoints import checkpoint

    live = trained()
    write_checkpoint(tmp_path, live, Progress(step=1))
    forced = fsynced

    def harmful(path: Path) -> int:
        size = forced(path)
        if path.name == name:
            turn_a_bit(path)
        return size

    monkeypatch.setattr(checkpoint, "fsynced", harmful)
    with pytest.raises(Ended, match="the disk does not give back the checkpoint that was written to it") as end:
        write_checkpoint(tmp_path, live, Progress(step=2))
    assert end.value.reason is EndReason.VERIFY_FAILED
    assert steps_in(tmp_path) == [1]


def test_weights_that_are_not_numbers_are_written_as_they_are(tmp_path: Path) -> None:
    """A loss that was not finite is another end; the disk has done nothing wrong."""
    import torch

    live = trained()
    with torch.no_grad():
        live.model.weight.fill_(float("nan"))
    assert write_checkpoint(tmp_path, live, Progress(step=1)) > 0


# ── room ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Filling:
    """Stands for a disk: so much is free, and more with every checkpoint that goes."""

    def __init__(self, folder: Path, free: int, each: int) -> None:
        self.folder, self.free, self.each = folder, free, each
        self.before = len(steps_in(folder))

    def __call__(self, _folder: Path) -> Disk:
        free = self.free + self.each * (self.before - len(steps_in(self.folder)))
        return Disk(free, 0, free)


@pytest.mark.parametrize(
    ("short_of", "left"),
    [(0, [1, 2, 3, 4, 5]), (1, [2, 3, 4, 5]), (2, [2, 4, 5]), (3, [2, 5])],
)
def test_the_oldest_go_first_the_best_and_the_newest_never(
    short_of: int, left: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(1, 6):
        (tmp_path / checkpoint_name(step)).mkdir()
    told: list[str] = []
    monkeypatch.setattr(shutil, "disk_usage", Filling(tmp_path, SPARE_BYTES + (10 - 10 * short_of) * MIB, 10 * MIB))
    make_room(tmp_path, 10 * MIB, keep={2, None}, tell=told.append)
    assert steps_in(tmp_path) == left
    assert len(told) == short_of


def test_a_disk_without_room_is_not_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there stays whole, and the run can go on from it elsewhere."""
    for step in (3, 4):
        (tmp_path / checkpoint_name(step)).mkdir()
    monkeypatch.setattr(shutil, "disk_usage", Filling(tmp_path, 3 * MIB, 0))
    with pytest.raises(Ended, match=r"3 MiB of disk are free and a checkpoint needs 74; .* go on from step 4") as end:
        make_room(tmp_path, 10 * MIB, keep={3}, tell=print)
    assert end.value.reason is EndReason.DISK_FULL
    assert steps_in(tmp_path) == [3, 4]


def test_the_size_of_a_checkpoint_is_known_before_it_is_written(tmp_path: Path) -> None:
    """Weights and moments; what is beside them is small."""
    import torch

    from remote.contract import Loop, Strategy
    from remote.training.optimizers import build_optimizer

    model = torch.nn.Linear(300, 200)
    model(torch.ones(1, 300)).sum().backward()
    live = Trained(
        model=model, optimizer=build_optimizer(Strategy(method="lora", optimizer="adamw_torch"), model, Loop()), scaler=None
    )
    before = bytes_of(live)
    live.optimizer.step()
    assert bytes_of(live) == pytest.approx(3 * before, rel=0.01)
    assert write_checkpoint(tmp_path, live, Progress(step=1)) == pytest.approx(bytes_of(live), rel=0.05)


# ── whole runs ─────────────────────────────────────────────────────────────────────────────────────────────────────


def run(job: Path, watch: Watch | None = None) -> Outcome:
    carry_out(job, watch=watch or Watch())
    return decode(job.with_name(OUTCOME_FILE).read_bytes(), Outcome)


def weights(outcome: Outcome) -> str:
    return next(file.sha256 for file in outcome.adapter if file.path == "adapter_model.safetensors")


def test_a_run_whose_newest_checkpoint_is_torn_ends_as_if_it_had_never_stopped(make_job: MakeJob, events_of: EventsOf) -> None:
    whole, job = make_job("whole"), make_job("torn")
    expected = run(whole)
    assert run(job, Asked(24)).reason == EndReason.INTERRUPTED
    steps = steps_in(job.parent / CHECKPOINT_DIR)
    turn_a_bit(job.parent / CHECKPOINT_DIR / checkpoint_name(steps[-1]) / STATE_FILE)
    assert weights(run(job)) == weights(expected)
    events = events_of(job)
    assert [event.data["step"] for event in events if event.kind == "resumed"] == [steps[-2]]
    assert any(f"the checkpoint of step {steps[-1]} is torn" in str(event.data.get("message")) for event in events)


def test_checkpoints_come_at_the_steps_that_the_job_says_and_as_many_stay(make_job: MakeJob, events_of: EventsOf) -> None:
    loop: Any = msgspec.structs.replace(LOOP, checkpoint_every="3 steps", keep_checkpoints=3, evaluations=0)
    job = make_job(loop=loop)
    run(job)
    assert [event.data["step"] for event in events_of(job) if event.kind == "checkpoint"] == [0, 3, 6, 9, 12, 12]
    assert steps_in(job.parent / CHECKPOINT_DIR) == [6, 9, 12]


def test_a_rhythm_that_is_none_ends_the_job_before_anything_is_loaded(make_job: MakeJob) -> None:
    outcome = run(make_job(loop=msgspec.structs.replace(LOOP, checkpoint_every="often")))
    assert (outcome.reason, outcome.message) == (
        EndReason.BAD_JOB,
        "checkpoint_every 'often' is none of steps, epochs, s, min or h",
    )
