"""`run --detach`: a controller that outlives the terminal, holds the lease, fetches and destroys."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import psutil
import pytest

from provision.account.ledger import Ledger
from provision.charge.finding import find_run
from provision.charge.supervise import start_supervisor
from provision.cli import call
from provision.errors import Exit, TrainingFailed
from provision.home.clocks import CLOCKS
from provision.home.places import Places
from provision.walk.books import read_receipt
from tests.faults.rehearsal import Rehearsal, wait_until
from tests.provision.plans import tiny_files, tiny_texts

pytestmark = [pytest.mark.box, pytest.mark.torch]


@pytest.fixture
def detached_run(places: Places, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """A tiny job, planned from the command line and left to a supervisor: its run id."""
    model, data = tiny_files(tmp_path)
    tiny_texts(data)
    words = ["run", "--model", str(model), "--data", str(data), "--provider", "local", "--seq-len", "64", "--epochs", "1"]
    assert call([*words, "--optimizer", "adamw_torch", "--detach", "--yes", "--json"]) == Exit.OK
    run_id = json.loads(capfd.readouterr().out)["data"]["run_id"]
    assert isinstance(run_id, str)
    return run_id


def test_a_supervisor_in_its_own_session_brings_the_run_to_its_end(detached_run: str, places: Places) -> None:
    """It is in the ledger, nobody's child terminal, and leaves an adapter, a receipt and no box."""
    ledger = Ledger(places.ledger)
    controlled = find_run(ledger, detached_run).controlled
    assert controlled is not None
    assert controlled.detached
    assert os.getsid(controlled.pid) == controlled.pid != os.getsid(0)
    wait_until(lambda: find_run(ledger, detached_run).billed is not None)
    receipt = read_receipt(places.run(detached_run))
    assert receipt is not None
    assert receipt.exit_code == Exit.OK
    assert (places.run(detached_run).adapter / "adapter_model.safetensors").exists()
    assert not (places.home / "boxes" / detached_run).exists()


def test_a_supervisor_that_cannot_take_charge_is_told(places: Places, tmp_path: Path) -> None:
    """The plan was lost: the sentence says where its words are."""
    rehearsal = Rehearsal(places, tmp_path)
    run_id = rehearsal.open()
    places.run(run_id).plan.write_text("{}")
    with pytest.raises(TrainingFailed, match="did not take charge"):
        start_supervisor(run_id, places=places, clocks=CLOCKS)
    assert find_run(Ledger(places.ledger), run_id).over
    assert "is not a plan" in places.run(run_id).controller_log.read_text()


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_whoever_does_not_wait_for_the_supervisor_has_ended_the_run(
    places: Places, tmp_path: Path, asked: signal.Signals
) -> None:
    """Stopped means stopped: nothing comes to life behind the back of whoever was told so."""
    run_id = Rehearsal(places, tmp_path).open()
    threading.Timer(0.5, os.kill, (os.getpid(), asked)).start()
    with pytest.raises(KeyboardInterrupt):
        start_supervisor(run_id, places=places, clocks=CLOCKS, command=("/bin/sh", "-c", "echo $$; exec sleep 300", "sh"))
    assert not psutil.pid_exists(int(places.run(run_id).controller_log.read_text()))
    assert find_run(Ledger(places.ledger), run_id).over


def test_a_supervisor_that_is_late_is_ended_and_rents_nothing(places: Places, tmp_path: Path) -> None:
    """What was reported as failed must not come to life afterwards."""
    run_id = Rehearsal(places, tmp_path).open()
    with pytest.raises(TrainingFailed, match="did not take charge"):
        start_supervisor(
            run_id, places=places, clocks=CLOCKS, command=("/bin/sh", "-c", "echo $$; exec sleep 300", "sh"), start_s=0.5
        )
    assert not psutil.pid_exists(int(places.run(run_id).controller_log.read_text()))
    assert find_run(Ledger(places.ledger), run_id).over
