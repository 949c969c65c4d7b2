"""Killed in the middle and started again, as a process: the result is the one of a run that was never touched."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from remote.__main__ import carry_out
from remote.contract import MODEL_CACHE_VARIABLE, OUTCOME_FILE, EndReason, Event, Outcome, decode
from remote.watch import Watch
from tests.remote.conftest import STRATEGY, MakeJob
from tests.remote.killing import LONG, finished, job_to_kill, killed

pytestmark = pytest.mark.torch

EventsOf = Callable[[Path], list[Event]]


def started(job: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "remote", str(job)], stderr=subprocess.PIPE)


def signalled(job: Path, number: signal.Signals, events_of: EventsOf) -> int:
    """Start the trainer, signal it once it has trained past a checkpoint, and return its exit status."""
    with started(job) as process:
        while _checkpoints_in_training(events_of(job)) < 2:
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            time.sleep(0.02)
        process.send_signal(number)
        return process.wait()


def _checkpoints_in_training(events: list[Event]) -> int:
    return sum(event.kind == "checkpoint" and event.data["step"] > 0 for event in events)


def outcome_of(job: Path) -> Outcome:
    return decode(job.with_name(OUTCOME_FILE).read_bytes(), Outcome)


def weights(job: Path) -> str:
    return next(file.sha256 for file in outcome_of(job).adapter if file.path == "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("number", "status", "reason"),
    [(signal.SIGKILL, -signal.SIGKILL, None), (signal.SIGTERM, 4, EndReason.INTERRUPTED)],
)
def test_a_signal_costs_time_and_nothing_else(
    make_job: MakeJob, events_of: EventsOf, number: signal.Signals, status: int, reason: EndReason | None
) -> None:
    """A kill -9 leaves a checkpoint to go on from; SIGTERM leaves one of the very step, and says so."""
    strategy = msgspec.structs.replace(STRATEGY, dropout=0.1)
    killed, whole = make_job("killed", strategy=strategy, loop=LONG), make_job("whole", strategy=strategy, loop=LONG)
    assert signalled(killed, number, events_of) == status
    assert (outcome_of(killed).reason if killed.with_name(OUTCOME_FILE).exists() else None) == reason
    assert 0 < max(event.data["step"] for event in events_of(killed) if event.kind == "step") < 160
    assert carry_out(killed, watch=Watch()) == carry_out(whole, watch=Watch()) == 0
    assert weights(killed) == weights(whole)
    assert outcome_of(killed).after == outcome_of(whole).after
    assert [event.kind for event in events_of(killed)].count("resumed") == 1


def test_a_run_that_is_killed_five_times_at_chance_ends_with_the_very_same_weights(
    tmp_path: Path, model_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a save as well. `python -m benchmarks.training.kill_resume` does it with 36."""
    monkeypatch.setenv(MODEL_CACHE_VARIABLE, str(model_cache))
    chance, loop = random.Random(5), msgspec.structs.replace(LONG, max_steps=60)
    job, whole = job_to_kill(tmp_path / "killed", loop=loop), job_to_kill(tmp_path / "whole", loop=loop)
    kills = [killed(job, chance, in_save=number % 2 == 1) for number in range(5)]
    found = [kill for kill in kills if kill is not None]
    assert len(found) == 5
    assert [kill.in_save for kill in found[1::2]] == [True, True]
    assert finished(job) == finished(whole)


def test_a_checkpoint_that_was_never_finished_is_as_if_it_had_not_begun(make_job: MakeJob, events_of: EventsOf) -> None:
    job = make_job()
    half = job.parent / "checkpoints" / f".making-{os.getpid() + 1}"
    half.mkdir(parents=True)
    (half / "trainable.safetensors").write_bytes(b"half of it")
    assert carry_out(job, watch=Watch()) == 0
    assert "resumed" not in [event.kind for event in events_of(job)]
