"""kill -9 of the controller in each phase: the run is listed, can be taken up again or ended; its deadline ends it alone."""

from __future__ import annotations

import signal

import pytest

from provision.account.lines import Billed
from provision.charge.ends.ending import end
from provision.cli import call
from provision.errors import Exit
from provision.walk.edges import Edges
from tests.doubles.displays import Quiet
from tests.faults.rehearsal import PATIENCE_S, Rehearsal, wait_until

pytestmark = [pytest.mark.box, pytest.mark.torch]

MANY_STEPS = 100_000
LIVES_S = (35.0, 60.0, 120.0)  # from the opening to the deadline: a trainer has begun by then, also on a busy machine
PLACES = (
    "prepare",
    "create",
    "create:after",
    "download",
    "save",
    "fetch:after",
    "teardown",
    "confirm",
)  # in this order


def listed_as_orphan(rehearsal: Rehearsal, run_id: str, capsys: pytest.CaptureFixture[str]) -> bool:
    """What the command itself says."""
    code = call(["ls", "--orphans", "--json"])
    return run_id in capsys.readouterr().out and code == Exit.STILL_BILLS


@pytest.mark.parametrize("point", ["prepare", "create", "boot", "environment", "download", "load:after"])
@pytest.mark.fault("F2", tier="box")
def test_down_ends_what_a_killed_controller_left(rehearsal: Rehearsal, point: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Listed, ended, and no longer listed."""
    run_id = rehearsal.open()
    rehearsal.kill_controller_at(run_id, point)
    assert listed_as_orphan(rehearsal, run_id, capsys)
    assert call(["down", run_id]) == Exit.OK
    assert rehearsal.is_gone(run_id)
    assert call(["ls", "--orphans"]) == Exit.OK


@pytest.mark.fault("F2", tier="box")
@pytest.mark.fault("F20", tier="box")
def test_resume_brings_a_run_to_its_end_whose_controllers_are_killed_one_after_another(
    rehearsal: Rehearsal, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each resumes where the last one stood, and dies at the next place. The ninth: trained, at home, gone, and billed once."""
    run_id = rehearsal.open()
    for place in PLACES:
        rehearsal.kill_controller_at(run_id, place)
        assert listed_as_orphan(rehearsal, run_id, capsys) or rehearsal.state(run_id).over, place
    receipt = rehearsal.drive(run_id)
    assert receipt.exit_code == Exit.OK
    assert rehearsal.is_gone(run_id)
    assert (rehearsal.places.run(run_id).adapter / "adapter_model.safetensors").exists()
    assert [line.exit_code for line in rehearsal.ledger.lines() if isinstance(line, Billed)] == [Exit.OK]
    increments = len(rehearsal.state(run_id).rentals)  # each stretch is rounded up to a whole second
    assert receipt.span.billed_s <= receipt.span.wall_s + increments


@pytest.mark.parametrize("phase", ["probe", "evaluate", "train"])
@pytest.mark.fault("F13", tier="box")
def test_the_trainer_takes_another_step_after_the_kill(
    rehearsal: Rehearsal, phase: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody watches, and it trains on; then somebody takes charge and ends it."""
    run_id = rehearsal.open(steps=MANY_STEPS)
    rehearsal.kill_controller_at(run_id, phase)
    steps_at_kill = rehearsal.num_steps(run_id)
    wait_until(lambda: rehearsal.num_steps(run_id) > steps_at_kill)
    assert listed_as_orphan(rehearsal, run_id, capsys)
    teardown = end(run_id, Edges(rehearsal.places, Quiet()))
    assert teardown.verdict == "destroyed"
    assert rehearsal.is_gone(run_id)


@pytest.mark.parametrize("point", ["boot", "environment:after"])
def test_the_deadline_ends_a_box_that_nobody_controls(rehearsal: Rehearsal, point: str) -> None:
    """Before the trainer runs, nothing lives past the deadline; the books can be closed afterwards."""
    run_id = rehearsal.open(deadline_s=10.0)
    rehearsal.kill_controller_at(run_id, point)
    wait_until(lambda: rehearsal.is_gone(run_id), patience_s=30.0)
    receipt = rehearsal.drive(run_id)
    assert receipt.exit_code == Exit.FAILED
    assert "deadline" in receipt.ending.message


@pytest.mark.long
@pytest.mark.fault("F13", tier="box")
def test_the_deadline_ends_a_trainer_that_nobody_controls(rehearsal: Rehearsal) -> None:
    """In the middle of training: the box ends it, without controller, ledger or network."""
    run_id = killed_in_training(rehearsal)
    wait_until(lambda: rehearsal.is_gone(run_id), patience_s=max(LIVES_S))
    assert rehearsal.state(run_id).teardown is None


def killed_in_training(rehearsal: Rehearsal) -> str:
    """A run whose controller was killed before its deadline, which is as near as this machine's load allows."""
    for life_s in LIVES_S:
        run_id = rehearsal.open(steps=MANY_STEPS, deadline_s=life_s)
        if rehearsal.start_controller(run_id, crash_at="train").wait(PATIENCE_S) == -signal.SIGKILL:
            return run_id
        assert rehearsal.is_gone(run_id)
    pytest.fail(f"no trainer has begun within {max(LIVES_S):.0f} s")


@pytest.mark.fault("F15", tier="box")
def test_two_controllers_one_acts(rehearsal: Rehearsal, capsys: pytest.CaptureFixture[str]) -> None:
    """The second is refused with a sentence; `down` asks the first to stop and tear down."""
    run_id = rehearsal.open(steps=MANY_STEPS)
    controller = rehearsal.start_controller(run_id)
    wait_until(lambda: rehearsal.state(run_id).box is not None)
    assert call(["resume", run_id]) == Exit.REFUSED
    assert f"Another process controls run {run_id}" in capsys.readouterr().err
    assert call(["down", run_id]) == Exit.OK
    assert controller.wait(60) == Exit.INTERRUPTED
    assert rehearsal.is_gone(run_id)
