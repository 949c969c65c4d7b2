"""A lease for the whole run: a box whose controller is gone saves and ends itself, and whoever comes back goes on from it."""

from __future__ import annotations

import dataclasses
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import pytest

from planner.plan import Plan
from provision.aboard.marks import LEASE_ENDED_FILE
from provision.cli import call
from provision.errors import BoxLost, Exit, Reason, TrainingFailed
from provision.home.checkpoints import steps_at_home
from provision.providers import boxes_folder
from provision.seam import Answer, Claim, InCharge, Teardown, unshared
from provision.state.checkpoints import PushedCheckpoints, pushed_folder
from provision.store.bucket import Bucket
from provision.walk.driven import Run
from provision.walk.job.training import train
from provision.walk.offers.attempts import MAX_LEASES
from provision.walk.run import LEASES_ENDED, walk
from remote.contract import EXIT_CODES, EndReason
from tests.doubles.displays import Quiet
from tests.doubles.proxy import Proxy
from tests.doubles.services.bucket import Storage
from tests.faults.rehearsal import Rehearsal, wait_until
from tests.faults.standins import FINISH, LEARN, PUSH, ScriptedBox
from tests.faults.test_elsewhere import opened

pytestmark = pytest.mark.box

MANY_STEPS = 100_000
LEASE_S = 20.0  # from a box's start to its first renewal passes less, also on a machine that is busy with other tests


def leased(plan: Plan, *, lease_s: float = LEASE_S) -> Plan:
    budget = msgspec.structs.replace(plan.request.budget, lease_hours=lease_s / 3600)
    return msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, budget=budget))


def nothing_runs(rehearsal: Rehearsal, run_id: str) -> bool:
    owned = rehearsal.box.owned()
    assert owned.complete is Answer.YES
    return not any(each.bills for each in owned.resources if each.run_id == run_id)


@pytest.mark.torch
@pytest.mark.long
@pytest.mark.fault("F13", tier="box")
def test_a_box_whose_supervisor_was_killed_saves_and_ends_and_resume_goes_on(
    rehearsal: Rehearsal, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kill -9 in the middle of the training, by the real trainer; the books and `resume` name the lease. One that lives keeps
    its box for longer than the lease.
    """
    run_id = rehearsal.open(steps=MANY_STEPS, change=leased)
    first = rehearsal.start_controller(run_id, renews_every_s=1.0)
    wait_until(lambda: rehearsal.num_steps(run_id) > 0)
    first.send_signal(signal.SIGKILL)
    first.wait()
    wait_until(lambda: nothing_runs(rehearsal, run_id))
    [*_, saved] = [each for each in rehearsal.events_on_box(run_id) if each.kind == "checkpoint"]
    assert saved.data["step"] == rehearsal.num_steps(run_id), "the last step that it took is in it"

    second = rehearsal.start_controller(run_id, renews_every_s=1.0)
    began_s = time.monotonic()
    wait_until(lambda: rehearsal.state(run_id).rental is not None and len(rehearsal.state(run_id).rentals) == 2)
    [ended, _] = rehearsal.state(run_id).rentals
    assert ended.tried is not None
    assert ended.tried.reason is Reason.LEASE
    assert ended.tried.message.startswith("Its lease ended, and the box itself: no renewal had reached it for 20.0 s.")
    wait_until(lambda: rehearsal.num_steps(run_id) > 0)
    goes_on = next(each for each in rehearsal.events_on_box(run_id) if each.kind == "step")
    assert goes_on.data["step"] == saved.data["step"] + 1
    wait_until(lambda: time.monotonic() - began_s > 1.5 * LEASE_S)
    assert not nothing_runs(rehearsal, run_id), "somebody is there"
    assert second.poll() is None
    assert call(["down", run_id]) == Exit.OK
    assert rehearsal.is_gone(run_id)
    second.wait()


# Pushes what it has learned when it is told to leave; goes on from what is there.
TRAINS = f"""if [ -e checkpoints/step-00000004/progress.json ]; then
  cat checkpoints/step-*/trainable.safetensors > log; {FINISH}
else
  {LEARN}
  leave() {{ {sys.executable} $HERE/push.py; [ ! -e $HERE/forgets ] || rm -rf checkpoints; }}
  trap 'leave; exit {EXIT_CODES[EndReason.INTERRUPTED]}' TERM
  touch learned; while :; do sleep 0.1; done
fi"""


@pytest.fixture
def line() -> Iterator[Proxy]:
    with Proxy(target_port=0) as line:
        yield line


def test_what_a_box_without_a_line_has_pushed_at_its_leases_end_is_gone_on_with(
    rehearsal: Rehearsal, line: Proxy, stored: Storage
) -> None:
    """The controller lives, and can't renew: it ends nothing, the box does; then another goes on from object storage."""
    box = ScriptedBox(rehearsal, line, TRAINS)
    (box.stack / "push.py").write_text(PUSH)
    (box.stack / "forgets").touch()  # a rented box's disk goes with it
    run = opened(rehearsal, box, change=lambda plan: leased(plan, lease_s=8.0))
    bucket, display = Bucket(f"{stored.place}/leased"), Quiet()

    def cut_off() -> None:
        wait_until((boxes_folder(rehearsal.places) / run.run_id / "job/learned").exists)
        line.cut()
        wait_until(lambda: nothing_runs(rehearsal, run.run_id))
        line.heal()

    threading.Thread(target=cut_off, daemon=True).start()
    pushed = PushedCheckpoints(bucket, pushed_folder(run.run_id))
    receipt = walk(dataclasses.replace(run, pushed=pushed, display=display))
    assert receipt.exit_code == Exit.OK, receipt.ending.message
    assert [each.reason for each in receipt.tries] == [Reason.LEASE, None]
    assert {each.offer for each in receipt.tries} == {run.plans[0].offer.key}, "the same machine is as good as before"
    assert receipt.tries[0].message == "Its lease ended, and the box itself: no renewal had reached it for 8.0 s."
    assert "The checkpoint of step 4 came home from object storage." in display.notes
    assert run.folder.log.read_text() == "weights of 00000002weights of 00000004"


@pytest.mark.fault("F13", tier="box")
def test_a_line_that_comes_back_while_the_trainer_leaves_is_gone_on_with(rehearsal: Rehearsal, line: Proxy) -> None:
    """Its renewals come too late, and are none: whether the box is asked before it goes or not, its lease is what ended it."""
    slowly = TRAINS.replace("leave() {", "leave() { sleep 3;")
    run = opened(rehearsal, ScriptedBox(rehearsal, line, slowly), change=lambda plan: leased(plan, lease_s=8.0))
    box = boxes_folder(rehearsal.places) / run.run_id

    def cut_off() -> None:
        wait_until((box / "job/learned").exists)
        line.cut()
        wait_until((box / LEASE_ENDED_FILE).exists)
        line.heal()

    threading.Thread(target=cut_off, daemon=True).start()
    display = Quiet()
    receipt = walk(dataclasses.replace(run, display=display))
    assert receipt.exit_code == Exit.OK, receipt.ending.message
    assert [each.reason for each in receipt.tries] == [Reason.LEASE, None]
    assert run.folder.log.read_text() == "weights of 00000002weights of 00000004"


def test_a_run_that_has_learned_nothing_is_not_begun_anew(rehearsal: Rehearsal, line: Proxy) -> None:
    """Neither store nor checkpoint: whoever comes back is told, and decides. Nothing more is rented."""
    box = ScriptedBox(rehearsal, line, "trap 'exit 1' TERM; touch learned; while :; do sleep 0.1; done")
    run = opened(rehearsal, box, change=lambda plan: leased(plan, lease_s=8.0))

    def cut_off() -> None:
        wait_until((boxes_folder(rehearsal.places) / run.run_id / "job/learned").exists)
        line.cut()

    threading.Thread(target=cut_off, daemon=True).start()
    receipt = walk(run)
    assert receipt.exit_code == Exit.FAILED
    assert receipt.ending.message == "Its lease ended, and the box itself: no renewal had reached it for 8.0 s."
    assert receipt.ending.ended_by == "lease"
    assert len(run.state.rentals) == 1


def cut_until_gone(rehearsal: Rehearsal, run: Run, line: Proxy) -> None:
    wait_until((boxes_folder(rehearsal.places) / run.run_id / "job/learned").exists)
    line.cut()
    wait_until(lambda: nothing_runs(rehearsal, run.run_id))
    line.heal()


def test_what_lies_on_this_disk_of_a_box_that_its_lease_ended_comes_home_before_it_is_removed(
    rehearsal: Rehearsal, line: Proxy
) -> None:
    """As where the controller was stopped for longer than the lease: what it never heard of is not lost."""
    run = opened(rehearsal, ScriptedBox(rehearsal, line, TRAINS), change=lambda plan: leased(plan, lease_s=8.0))
    threading.Thread(target=cut_until_gone, args=(rehearsal, run, line), daemon=True).start()
    receipt = walk(run)
    assert receipt.exit_code == Exit.OK, receipt.ending.message
    assert [each.reason for each in receipt.tries] == [Reason.LEASE, None]
    assert run.folder.log.read_text() == "weights of 00000002weights of 00000004"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TrainingFailed("The deadline came first.")], ids=["ctrl-c", "too late"])
def test_it_comes_home_whatever_its_controller_ends_with(
    error: BaseException, rehearsal: Rehearsal, line: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody wakes a stopped controller and ends it at once, or the deadline has passed by then."""

    def ended(*given: Any) -> None:
        try:
            train(*given)
        except BoxLost:
            raise error from None

    monkeypatch.setattr("provision.walk.attempt.train", ended)
    run = opened(rehearsal, ScriptedBox(rehearsal, line, TRAINS), change=lambda plan: leased(plan, lease_s=8.0))
    threading.Thread(target=cut_until_gone, args=(rehearsal, run, line), daemon=True).start()
    assert walk(run).exit_code != Exit.OK
    assert steps_at_home(run.folder.checkpoints)[-1:] == [4]


def test_what_its_trainer_saved_at_the_leases_end_comes_home_while_the_box_answers(rehearsal: Rehearsal, line: Proxy) -> None:
    """The box has said that its lease ended, is not off yet, and has the only copy."""
    trains = f"""if [ -e checkpoints/step-00000004/progress.json ]; then
  cat checkpoints/step-*/trainable.safetensors > log; {FINISH}
else
  {LEARN}
  touch ../{LEASE_ENDED_FILE}; exit {EXIT_CODES[EndReason.INTERRUPTED]}
fi"""
    run = opened(rehearsal, ScriptedBox(rehearsal, line, trains), change=lambda plan: leased(plan, lease_s=600.0))
    display = Quiet()
    receipt = walk(dataclasses.replace(run, display=display))
    assert receipt.exit_code == Exit.OK, receipt.ending.message
    assert receipt.tries[0].message == "Its lease ended: no renewal had reached it for 10 min 00 s."
    assert display.notes.count("The checkpoint of step 4 is at home.") == 2, "over the line, and what the disk has is no more"
    assert run.folder.log.read_text() == "weights of 00000002weights of 00000004"


# Says that its lease ended, on each box anew.
ENDS: Final = f"touch ../{LEASE_ENDED_FILE}; exit {EXIT_CODES[EndReason.INTERRUPTED]}"


def test_a_store_that_nothing_was_pushed_to_is_nothing_to_go_on_from(
    rehearsal: Rehearsal, line: Proxy, stored: Storage
) -> None:
    run = opened(rehearsal, ScriptedBox(rehearsal, line, ENDS), change=lambda plan: leased(plan, lease_s=600.0))
    pushed = PushedCheckpoints(Bucket(f"{stored.place}/leased"), pushed_folder(run.run_id))
    receipt = walk(dataclasses.replace(run, pushed=pushed))
    assert receipt.exit_code == Exit.FAILED
    assert len(run.state.rentals) == 1


def test_leases_that_end_while_somebody_is_there_are_bounded(rehearsal: Rehearsal, line: Proxy) -> None:
    run = opened(rehearsal, ScriptedBox(rehearsal, line, f"{LEARN}\n{ENDS}"), change=lambda plan: leased(plan, lease_s=600.0))
    receipt = walk(run)
    assert receipt.exit_code == Exit.FAILED
    assert [each.reason for each in receipt.tries] == [Reason.LEASE] * (1 + MAX_LEASES), "the first had learned something"
    assert LEASES_ENDED in receipt.ending.message
    assert receipt.ending.ended_by == "lease"


class Refusing(ScriptedBox):
    """A provider that takes no delete, for as long as it lasts."""

    def destroy(self, claim: Claim, in_charge: InCharge = unshared) -> Teardown:
        return Teardown.unknown(claim.run_id, "The provider says nothing.")


def test_a_box_whose_result_is_at_home_does_not_wait_for_its_deadline(rehearsal: Rehearsal, line: Proxy) -> None:
    """A delete that is refused, or a controller that dies before it: nothing on the box is of worth any more."""
    run = opened(rehearsal, Refusing(rehearsal, line, FINISH), change=lambda plan: leased(plan, lease_s=8.0))
    receipt = walk(run)
    assert (receipt.trained, receipt.exit_code) == (True, Exit.STILL_BILLS)
    wait_until(lambda: nothing_runs(rehearsal, run.run_id))
    assert run.left_s > 0
