"""The walk where no box comes up: whatever goes wrong is told in the receipt, and nothing is left to bill."""

from __future__ import annotations

import dataclasses
import errno
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from catalogs.hardware import Offer
from planner.plan import Plan
from provision.account.ledger import Ledger
from provision.account.lines import Ended, Opened, PhaseEnded
from provision.account.receipt.value import Receipt
from provision.charge.driving import drive
from provision.errors import Exit, ProvisionError
from provision.home.places import Places
from provision.home.whole import write_whole
from provision.prepare.inputs import find_base
from provision.prepare.opening import open_run
from provision.seam import Answer, Box, Claim, InCharge, Launch, Owned, Resource, Teardown, unshared
from provision.walk.books import read_receipt
from provision.walk.driven import read_run
from provision.walk.edges import Edges
from provision.walk.job.patience import wait_for_box
from provision.walk.run import UNTOLD
from remote.contract import Event, Phase, encode
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Failing, Paper
from tests.provision.plans import attempted


@pytest.fixture
def run(plan: Plan, places: Places) -> Callable[[Paper], Receipt]:
    """Open one run and drive it with a provisioner; again drives the same run."""
    ledger = Ledger(places.ledger)
    run_id = open_run(plan, find_base(plan.request.model), places=places, ledger=ledger, clock=time.time)
    return lambda provisioner: drive(run_id, Edges(places, Quiet(), make=lambda _launch: provisioner))


def test_a_provider_without_room_is_a_failure_that_costs_nothing(run: Callable[[Paper], Receipt]) -> None:
    """Exit 1, the provider's own words, gone."""
    receipt = run(Failing(ProvisionError("There is no such machine left.", hint="Try another region.")))
    assert receipt.exit_code == Exit.FAILED
    assert receipt.ending.message == "There is no such machine left. Try another region."
    assert receipt.teardown is not None
    assert receipt.teardown.clean


def test_what_a_failed_up_left_is_ended(run: Callable[[Paper], Receipt]) -> None:
    """An error is not "nothing happened"."""
    provider = Failing(ProvisionError("Unknown outcome."), buys=True)
    assert run(provider).exit_code == Exit.FAILED
    assert provider.boxes == {}


def test_what_could_not_be_ended_is_code_3_and_ended_by_the_next_try(run: Callable[[Paper], Receipt]) -> None:
    """Resume takes the leftover away before it asks for anything new."""
    provider = Failing(ProvisionError("Unknown outcome."), buys=True)
    provider.stubborn = True
    receipt = run(provider)
    assert receipt.exit_code == Exit.STILL_BILLS
    assert receipt.teardown is not None
    assert receipt.teardown.command
    provider.buys = False
    assert run(provider).exit_code == Exit.STILL_BILLS
    assert provider.calls == ["up"]
    provider.stubborn = False
    assert run(provider).exit_code == Exit.FAILED
    assert provider.calls == ["up", "up"]


def test_a_fault_of_ours_closes_the_books_all_the_same(run: Callable[[Paper], Receipt], places: Places) -> None:
    """The traceback is kept where the message says."""
    receipt = run(Failing(ZeroDivisionError("division by zero"), buys=True))
    assert receipt.exit_code == Exit.FAILED
    log = places.run(receipt.run_id).controller_log
    assert str(log) in receipt.ending.message
    assert "ZeroDivisionError" in log.read_text()


def test_ctrl_c_while_the_provider_works(run: Callable[[Paper], Receipt]) -> None:
    """Interrupted and gone."""
    provider = Failing(KeyboardInterrupt(), buys=True)
    assert run(provider).exit_code == Exit.INTERRUPTED
    assert provider.boxes == {}


def test_ctrl_c_on_a_full_disk_is_ctrl_c_all_the_same(run: Callable[[Paper], Receipt], places: Places) -> None:
    """The lines of stopping can't be written until the second try to end the box has made room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    class OnAFullDisk(Failing):
        def up(self, offer: Offer, launch: Launch) -> Box:
            resource.setrlimit(resource.RLIMIT_FSIZE, (places.ledger.stat().st_size + 5, hard))
            return super().up(offer, launch)

        def destroy(self, claim: Claim, in_charge: InCharge = unshared) -> Teardown:
            if claim.run_id not in self.boxes:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            return super().destroy(claim, in_charge)

    try:
        receipt = run(OnAFullDisk(KeyboardInterrupt(), buys=True))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert receipt.exit_code == Exit.INTERRUPTED
    assert Ledger(places.ledger).unreadable() == ()


def test_a_controller_that_died_before_it_could_say_why_is_told_as_such(
    run: Callable[[Paper], Receipt], places: Places, plan: Plan
) -> None:
    """The box was ended and the books were not closed: exit 1, and no empty sentence."""
    ledger = Ledger(places.ledger)
    [run_id] = ledger.runs()
    ledger.append(attempted(run_id, plan, at_s=time.time()))
    ledger.append(Ended(run_id=run_id, at_s=time.time(), teardown=Teardown.destroyed(run_id, "")))
    provider = Failing(ProvisionError("never asked"))
    receipt = run(provider)
    assert provider.calls == []
    assert (receipt.exit_code, receipt.ending.message) == (Exit.FAILED, UNTOLD)


def test_the_steps_of_a_stopped_run_are_in_its_receipt(run: Callable[[Paper], Receipt], places: Places) -> None:
    """Heard while it trained; an outcome that adds them up never came."""
    run_id = run(Failing(KeyboardInterrupt())).run_id
    step = Event(
        seq=1, kind="step", phase=Phase.TRAIN, at_s=1.0, monotonic_s=1.0, data={"step": 1, "tokens": 64, "step_s": 0.5}
    )
    places.run(run_id).events.write_bytes(encode(step) + b"\n")
    metered = {figure.name: figure.metered for figure in run(Failing(KeyboardInterrupt())).figures}
    assert (metered["optimizer steps"], metered["tokens computed"]) == (1, 64)


def test_nobody_to_ask_afterwards_takes_a_clean_verdict_back(run: Callable[[Paper], Receipt]) -> None:
    """Unknown is not no."""

    class Unseen(Failing):
        def owned(self, claim: Claim | None = None) -> Owned:
            return Owned(resources=(), complete=Answer.UNKNOWN, message="The list can't be read.")

    receipt = run(Unseen(ProvisionError("No room.")))
    assert receipt.exit_code == Exit.STILL_BILLS
    assert receipt.teardown is not None
    assert receipt.teardown.verdict == "unknown"


def test_a_provider_whose_list_breaks_has_shown_nothing(run: Callable[[Paper], Receipt]) -> None:
    """Whatever its SDK raises: a clean verdict needs somebody who looked."""

    class Broken(Failing):
        def owned(self, claim: Claim | None = None) -> Owned:
            raise ZeroDivisionError("a fault of the SDK")

    receipt = run(Broken(ProvisionError("No room.")))
    assert receipt.exit_code == Exit.STILL_BILLS
    assert receipt.teardown is not None
    assert receipt.teardown.verdict == "unknown"
    assert "ZeroDivisionError: a fault of the SDK" in receipt.teardown.message


def test_a_report_that_cannot_be_drawn_leaves_no_books_open(run: Callable[[Paper], Receipt], places: Places) -> None:
    """Receipt and ledger come first; the page can be made again."""
    run_id = run(Failing(ProvisionError("No room."))).run_id
    folder = places.run(run_id)
    folder.report.unlink()
    folder.report.mkdir()
    receipt = run(Failing(ProvisionError("No room.")))
    assert read_receipt(folder) == receipt
    assert Ledger(places.ledger).runs()[run_id].billed is not None


def test_a_receipt_that_cannot_be_written_hides_no_verdict(run: Callable[[Paper], Receipt], places: Places) -> None:
    """The caller has it all the same; the ledger says that the books are open."""
    run_id = run(Failing(ProvisionError("No room."))).run_id
    folder = places.run(run_id)
    folder.receipt.unlink()
    folder.receipt.mkdir()
    receipt = run(Failing(ProvisionError("No room.")))
    assert receipt.exit_code == Exit.FAILED
    assert receipt.ending.message.endswith(
        f"The books could not be closed: Is a directory. rentune resume {run_id} closes them."
    )
    assert Ledger(places.ledger).runs()[run_id].billed is None


def test_inputs_that_went_away_are_found_before_anything_is_rented(
    run: Callable[[Paper], Receipt], tmp_path: Path, places: Places
) -> None:
    """The data file was there when the run was opened."""
    (tmp_path / "rows.jsonl").unlink()
    provider = Failing(ProvisionError("never asked"))
    receipt = run(provider)
    assert provider.calls == []
    assert "is no longer there" in receipt.ending.message
    assert receipt.exit_code == Exit.FAILED


def test_the_ledger_times_every_phase_that_began(run: Callable[[Paper], Receipt], places: Places) -> None:
    """The opened line comes first; failed phases are marked."""
    run(Failing(ProvisionError("No room.")))
    lines = list(Ledger(places.ledger).lines())
    assert isinstance(lines[0], Opened)
    ended = {line.phase: line.ok for line in lines if isinstance(line, PhaseEnded)}
    assert ended == {"prepare": True, "create": False, "confirm": True}


def test_a_silent_box_is_told_where_we_are_now(plan: Plan, places: Places) -> None:
    """A cloud lets in the address at launch only; a laptop that moved must not lose its run by that."""
    ledger = Ledger(places.ledger)
    run_id = open_run(plan, find_base(plan.request.model), places=places, ledger=ledger, clock=time.time)
    admitted: list[str] = []

    class Gated(Paper):
        def readmit(self, claim: Claim) -> str:
            admitted.append(claim.run_id)
            return "203.0.113.7/32"

    gated = Gated()
    gated.boxes[run_id] = Resource(kind="instance", id="i-1", run_id=run_id)
    held = read_run(run_id, Edges(places, Quiet(), make=lambda _claim: gated), ledger=ledger)
    wait_for_box(dataclasses.replace(held, clocks=dataclasses.replace(held.clocks, sleep=lambda _duration_s: None)))
    assert admitted == [run_id]


def test_a_disk_that_is_full_is_no_fault_of_ours(run: Callable[[Paper], Receipt], places: Places) -> None:
    """Said in one sentence, without the name of an exception, and with what to do."""
    message = run(Failing(OSError(errno.ENOSPC, "No space left on device"))).ending.message
    assert message == f"{places.home} takes no more: No space left on device. Free space there."


def test_files_that_a_power_cut_has_torn_do_not_keep_the_books_open(run: Callable[[Paper], Receipt], places: Places) -> None:
    """What can't be read is passed over with a sentence, and made anew."""
    folder = places.run(run(Failing(ProvisionError("No room."))).run_id)
    folder.outcome.write_text('{"run_id": "')
    folder.receipt.write_text("{")
    receipt = run(Failing(ProvisionError("No room.")))
    assert f"{folder.outcome} is damaged" in receipt.ending.message
    assert read_receipt(folder) == receipt


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    """The disk takes half of the new one: the old one is still there, and nothing beside it."""
    path = tmp_path / "plan.json"
    write_whole(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_whole(path, b"x" * 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
