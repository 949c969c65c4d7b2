"""Ctrl-C in each phase: the trainer is stopped, the box is gone, the books are closed, the exit code says interrupted."""

from __future__ import annotations

import signal

import pytest

from provision.cli import call
from provision.errors import Exit
from provision.home.checkpoints import steps_at_home
from provision.walk.books import read_receipt
from remote.contract import CHECKPOINT_FILES, checkpoint_name
from tests.doubles.displays import CtrlC
from tests.faults.rehearsal import Rehearsal, wait_until

pytestmark = [pytest.mark.box, pytest.mark.torch]

CONTROLLER_PHASES = ("prepare", "create", "boot", "environment", "download", "teardown", "confirm")
TRAINER_PHASES = ("load", "probe", "evaluate", "train")
NEVER_DONE = 100_000  # steps: a trainer that would be done before it is asked to stop is no trainer to stop


@pytest.mark.parametrize("phase", [*CONTROLLER_PHASES, *TRAINER_PHASES])
@pytest.mark.fault("F8", tier="box")
def test_ctrl_c_ends_the_run_and_its_box(rehearsal: Rehearsal, phase: str) -> None:
    """Whatever was going on, nothing is left to bill."""
    run_id = rehearsal.open(steps=NEVER_DONE) if phase in TRAINER_PHASES else rehearsal.open()
    receipt = rehearsal.drive(run_id, CtrlC(at=phase))
    assert receipt.exit_code == Exit.INTERRUPTED
    assert rehearsal.is_gone(run_id)
    state = rehearsal.state(run_id)
    assert state.over
    assert state.billed is not None
    assert not rehearsal.places.run(run_id).keys.exists()


def test_ctrl_c_while_the_result_is_saved_keeps_it_where_it_was_finished(rehearsal: Rehearsal) -> None:
    """Saving takes a moment: whichever comes first, the code says what is at home, and the box is gone."""
    run_id = rehearsal.open()
    receipt = rehearsal.drive(run_id, CtrlC(at="save"))
    assert receipt.exit_code == (Exit.OK if receipt.trained else Exit.INTERRUPTED)
    assert rehearsal.is_gone(run_id)
    assert rehearsal.state(run_id).billed is not None


def test_a_real_signal_does_the_same(rehearsal: Rehearsal, capsys: pytest.CaptureFixture[str]) -> None:
    """SIGINT to a controller in a process of its own, in the middle of training: what was learned by then is at home."""
    run_id = rehearsal.open(steps=10_000)  # as many epochs as a job file takes
    controller = rehearsal.start_controller(run_id)
    wait_until(lambda: rehearsal.num_steps(run_id) > 3)
    controller.send_signal(signal.SIGINT)
    assert controller.wait(60) == Exit.INTERRUPTED
    assert rehearsal.is_gone(run_id)
    controlled = rehearsal.state(run_id).controlled
    assert controlled is not None
    assert controlled.ending  # a `down` in that time waited for it
    folder = rehearsal.places.run(run_id)
    assert folder.outcome.exists()
    receipt = read_receipt(folder)
    assert receipt is not None
    (step,) = steps_at_home(folder.checkpoints)[-1:]
    assert f"stopped on request after step {step} of" in receipt.ending.message
    assert receipt.ending.message.endswith(f" Its last checkpoint is at home: {folder.checkpoints / checkpoint_name(step)}")
    checkpoint = folder.checkpoints / checkpoint_name(step)
    assert {file.name for file in checkpoint.iterdir()} == set(CHECKPOINT_FILES)
    assert f"rentune run {folder.go_on}" in receipt.ending.message
    capsys.readouterr()
    assert call(["down", run_id]) == Exit.OK
    told = capsys.readouterr().out
    assert f"Its last checkpoint is at home: {checkpoint}." in told
    assert f"Another run goes on with its weights, for what was left: rentune run {folder.go_on}" in told
    assert call(["check", str(folder.go_on)]) == Exit.OK  # base, rank and targets fit, and the data are where they were
    assert f"init_adapter: {checkpoint}" in folder.go_on.read_text()
    capsys.readouterr()
    assert call(["resume", run_id]) == Exit.REFUSED
    assert f"Hint: rentune run {folder.go_on}" in capsys.readouterr().err
