"""Files of the home that go while a run is driven: somebody tidied up. The run goes on, and what it rented is not forgotten."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator

import pytest

from provision.account.ledger import Ledger
from provision.account.runs import Standing
from provision.charge.ends.ending import end
from provision.charge.rings.bell import bell
from provision.cli import call
from provision.errors import Exit
from provision.seam import Answer, Claim, InCharge, ResourceEnd, Teardown, unshared
from provision.walk.edges import Edges
from provision.walk.run import walk
from tests.doubles.displays import Quiet
from tests.doubles.proxy import Proxy
from tests.doubles.services.webhook import Letters
from tests.faults.controllers.test_resume import left_behind
from tests.faults.rehearsal import Rehearsal, wait_until
from tests.faults.standins import FINISH, ScriptedBox

pytestmark = pytest.mark.box

TRAINING = """printf '{"seq":0,"kind":"phase_started","phase":"train","at_s":1.0,"monotonic_s":1.0}\\n' > events.jsonl
sleep 1"""


@pytest.fixture
def line() -> Iterator[Proxy]:
    with Proxy(target_port=0) as line:
        yield line


class Refusing(ScriptedBox):
    """A provider that ends nothing, until it is allowed to."""

    allowed = False

    def destroy(self, claim: Claim, in_charge: InCharge = unshared) -> Teardown:
        if self.allowed:
            return super().destroy(claim, in_charge)
        left = tuple(ResourceEnd(resource=each, gone=Answer.NO, at_s=1.0) for each in self.owned(claim).resources)
        return Teardown.orphaned(claim.run_id, "The delete was refused.", resources=left)


class TidiedUp(Quiet):
    """A home that loses its ledger, and with `all_of_it` the run's directory too, once the trainer trains."""

    def __init__(self, rehearsal: Rehearsal, *, all_of_it: bool = False) -> None:
        super().__init__()
        self.places = rehearsal.places
        self.all_of_it = all_of_it

    def phase(self, name: str) -> None:
        super().phase(name)
        if name == "train":
            self.places.ledger.unlink()
            if self.all_of_it:
                shutil.rmtree(self.places.home / "runs")


@pytest.mark.fault("F23", tier="box")
def test_a_ledger_that_goes_while_a_run_is_driven_costs_no_result(rehearsal: Rehearsal, line: Proxy) -> None:
    """What is known of the run is written again, which is told once; it trains, ends and is billed as any other."""
    run, _ = left_behind(rehearsal, ScriptedBox(rehearsal, line, f"{TRAINING}; {FINISH}"))
    assert isinstance(told := run.display, Quiet)
    receipt = walk(dataclasses.replace(run, display=TidiedUp(rehearsal)))
    assert (receipt.exit_code, receipt.trained) == (Exit.OK, True)
    assert Ledger(rehearsal.places.ledger).runs()[run.run_id].standing is Standing.OVER
    assert [note for note in told.notes if "had lost run" in note] == [
        f"{rehearsal.places.ledger} had lost run {run.run_id}: what is known of it was written there again."
    ]


@pytest.mark.fault("F23", tier="box")
@pytest.mark.parametrize("all_of_it", [False, True], ids=["the ledger", "the run's directory too"])
def test_what_bills_is_told_and_can_be_ended_whatever_home_has_lost(
    rehearsal: Rehearsal, line: Proxy, *, all_of_it: bool
) -> None:
    """Exit 3 with the command, an alert, and a ledger that shows the run: it was "nothing was changed", and no run at all."""
    box = Refusing(rehearsal, line, f"{TRAINING}; {FINISH}")
    letters = Letters(rehearsal.folder / "letters")
    run, _ = left_behind(rehearsal, box, alerts=(letters.command,))
    display = TidiedUp(rehearsal, all_of_it=all_of_it)
    with bell(dataclasses.replace(run, display=display)) as ringing:
        receipt = walk(ringing.run)
        ringing.finished(receipt)
    assert (receipt.exit_code, receipt.trained) == (Exit.STILL_BILLS, True)
    assert receipt.teardown is not None
    assert receipt.teardown.command == f"rentune down {run.run_id}"
    assert "still_bills" in [body["kind"] for body in letters.bodies()]
    assert not [note for note in display.notes if "Details:" in note and not run.folder.controller_log.exists()]
    assert Ledger(rehearsal.places.ledger).runs()[run.run_id].may_bill
    box.allowed = True
    assert end(run.run_id, Edges(rehearsal.places, Quiet(), make=lambda _claim: box)).clean
    assert rehearsal.is_gone(run.run_id)


@pytest.mark.torch
@pytest.mark.fault("F23", tier="box")
def test_of_a_run_whose_directory_went_everybody_tells_the_same(
    rehearsal: Rehearsal, capsys: pytest.CaptureFixture[str]
) -> None:
    """`ls`, `doctor`, `resume` and `down` name its living controller, which `down` asks to stop: what was learned comes home,
    and the books are closed. It was ended under that one's feet, `doctor` saw nobody follow it, and its books stayed open.
    """
    run_id = rehearsal.open(steps=100_000)
    controller = rehearsal.start_controller(run_id)
    wait_until(lambda: rehearsal.num_steps(run_id) > 3)
    shutil.rmtree(rehearsal.places.run(run_id).root)
    assert call(["ls"]) == Exit.OK
    assert "running" in capsys.readouterr().out
    assert call(["doctor", run_id]) == Exit.OK
    assert f"process {controller.pid}" in capsys.readouterr().out
    assert call(["resume", run_id]) == Exit.REFUSED
    assert f"Another process controls run {run_id} (process {controller.pid})." in capsys.readouterr().err
    assert call(["down", run_id]) == Exit.OK
    said = capsys.readouterr()
    assert f"Asking its controller (process {controller.pid}) to stop and tear down." in said.err
    assert "Its last checkpoint is at home" in said.out
    assert rehearsal.is_gone(run_id)
    assert rehearsal.state(run_id).billed is not None
    assert controller.wait(60) == Exit.INTERRUPTED
