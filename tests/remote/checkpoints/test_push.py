"""The real trainer pushes while it trains, and a box of its own goes on from what it had pushed. S3 is moto's, on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from provision.home.checkpoints import steps_at_home
from provision.state.checkpoints import PushedCheckpoints, pushed_folder
from provision.store.bucket import Bucket
from remote.__main__ import carry_out, take_grants
from remote.checkpoints.grants import GRANTS_VARIABLE, Grants
from remote.contract import CHECKPOINT_DIR, OUTCOME_FILE, Event, Outcome, decode, encode
from remote.watch import Watch
from tests.doubles.services.bucket import Storage
from tests.remote.conftest import LOOP, MakeJob

EventsOf = Callable[[Path], list[Event]]
LONG = msgspec.structs.replace(LOOP, max_steps=160, evaluations=7, checkpoint_every_s=0.1)


@pytest.fixture
def kept(stored: Storage, tmp_path: Path) -> PushedCheckpoints:
    return PushedCheckpoints(Bucket(f"{stored.place}/{tmp_path.name}"), pushed_folder("run-1"))


@pytest.mark.torch
def test_a_trainer_that_is_told_to_leave_has_pushed_its_last_step_by_then(
    make_job: MakeJob, events_of: EventsOf, kept: PushedCheckpoints, tmp_path: Path
) -> None:
    """Its disk is gone with the box; the next box goes on from that step. No cloud's credential was in its environment."""
    job, next_job = make_job("first", loop=LONG), make_job("next", loop=LONG)
    grants = tmp_path / "grants"
    grants.write_bytes(encode(kept.grant(valid_s=600)))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    command = [sys.executable, "-m", "remote", str(job)]
    with subprocess.Popen(command, env=environment | {GRANTS_VARIABLE: str(grants)}, stderr=subprocess.PIPE) as trainer:
        while not any(event.kind == "checkpoint_pushed" and event.data["step"] > 0 for event in events_of(job)):
            assert trainer.poll() is None, trainer.stderr and trainer.stderr.read().decode()
            time.sleep(0.02)
        assert not grants.exists()
        trainer.send_signal(signal.SIGTERM)
        assert trainer.wait() == 4
    last = max(event.data["step"] for event in events_of(job) if event.kind == "step")
    shutil.rmtree(job.parent / CHECKPOINT_DIR)
    assert kept.bring_newest(tmp_path / "home") == last
    shutil.copytree(tmp_path / "home", next_job.parent / CHECKPOINT_DIR)
    assert carry_out(next_job, watch=Watch()) == 0
    (resumed,) = [event for event in events_of(next_job) if event.kind == "resumed"]
    assert resumed.data["step"] == last
    outcome = decode(next_job.with_name(OUTCOME_FILE).read_bytes(), Outcome)
    assert outcome.trained
    assert steps_at_home(tmp_path / "home")[-1] == last


def test_grants_are_read_once_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in no variable: no process that the trainer starts has them."""
    place = tmp_path / "grants"
    place.write_bytes(encode(Grants(places=({"whole.json": "https://bucket/whole.json?X-Amz-Signature=secret"},))))
    monkeypatch.setenv(GRANTS_VARIABLE, str(place))
    grants = take_grants()
    assert grants is not None
    assert grants.places[0]["whole.json"].endswith("secret")
    assert not place.exists()
    assert not any("X-Amz-Signature=secret" in value for value in os.environ.values())
    assert take_grants() is None
