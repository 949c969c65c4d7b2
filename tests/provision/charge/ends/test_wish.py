"""Somebody has said that a run is to end: whatever it is at, nothing is ordered for it after that."""

from __future__ import annotations

import dataclasses
import fcntl
import threading
import time

import msgspec
import psutil
import pytest

from catalogs.hardware import Offer
from planner.plan import Plan
from provision.account.ledger import Ledger
from provision.account.lines import Controlled, Ended, PhaseStarted
from provision.account.runs import Standing
from provision.charge.driving import drive
from provision.charge.ends.ending import end
from provision.charge.ends.handover import is_ending
from provision.errors import Declined, Exit, Reason, Refused, Scope
from provision.home.clocks import Clocks
from provision.home.places import Places
from provision.home.processes import boot_id, start_of
from provision.home.wish import Wish, end_is_wished, end_wished, wish_no_end
from provision.prepare.inputs import find_base
from provision.prepare.opening import Agreed, open_run
from provision.seam import Box, Claim, InCharge, Launch, Teardown, unshared
from provision.walk.edges import Edges
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Market, Paper
from tests.provision.plans import attempted, between_attempts
from tests.provision.rigs import await_true

HERE, THERE = "aws/here/g5/on_demand", "aws/there/g5/on_demand"
FULL = {key: Declined(f"{key} is full.", reason=Reason.CAPACITY, scope=Scope.OFFER) for key in (HERE, THERE)}


@pytest.fixture
def opened(plan: Plan, places: Places, ledger: Ledger) -> str:
    """A run that may be tried here, and then there."""

    def at(key: str) -> Plan:
        provider, region, instance_type, purchase = key.split("/")
        offer = msgspec.structs.replace(
            plan.offer, provider=provider, region=region, instance_type=instance_type, purchase=purchase
        )
        return msgspec.structs.replace(plan, offer=offer)

    agreed = Agreed(alternatives=(at(THERE),))
    return open_run(at(HERE), find_base(plan.request.model), places=places, ledger=ledger, clock=time.time, agreed=agreed)


def say(places: Places, run_id: str) -> None:
    with end_wished(places.run(run_id), Quiet().note):
        pass


class Told(Market):
    """While what an attempt left is ended, or as the next is about to be ordered, somebody says that the run is to end, and
    no signal comes.
    """

    def __init__(self, places: Places, moment: str) -> None:
        super().__init__(FULL)
        self.places, self.moment = places, moment

    def destroy(self, claim: Claim, in_charge: InCharge = unshared) -> Teardown:
        if self.moment == "destroy":
            say(self.places, claim.run_id)
        return super().destroy(claim, in_charge)

    def up(self, offer: Offer, launch: Launch) -> Box:
        if self.moment == "up":
            say(self.places, launch.run_id)
        return super().up(offer, launch)


@pytest.mark.parametrize("moment", ["destroy", "up"])
def test_no_order_follows_the_word_that_a_run_is_to_end(moment: str, opened: str, places: Places, ledger: Ledger) -> None:
    """`down` found a controller that was ending an attempt, sent it no signal, and it rented the next box."""
    market = Told(places, moment)
    receipt = drive(opened, Edges(places, Quiet(), make=lambda _claim: market))
    assert market.asked == [HERE]
    assert receipt.exit_code == Exit.INTERRUPTED
    assert ledger.runs()[opened].standing is Standing.OVER


class Says(Quiet):
    """Says so when this phase begins."""

    def __init__(self, places: Places, run_id: str, at: str) -> None:
        super().__init__()
        self.places, self.run_id, self.at = places, run_id, at

    def phase(self, name: str) -> None:
        super().phase(name)
        if name == self.at:
            say(self.places, self.run_id)


@pytest.mark.parametrize("at", ["prepare", "create"])
def test_nor_where_it_comes_while_the_first_is_prepared(at: str, opened: str, places: Places, ledger: Ledger) -> None:
    """Its line may stand in the ledger by then."""
    market = Market(FULL)
    receipt = drive(opened, Edges(places, Says(places, opened, at), make=lambda _claim: market))
    assert (market.asked, receipt.exit_code) == ([], Exit.INTERRUPTED)
    assert ledger.runs()[opened].standing is Standing.OVER


def test_a_run_that_nobody_has_begun_with_yet_is_not_begun(opened: str, places: Places) -> None:
    say(places, opened)
    market = Market(FULL)
    assert drive(opened, Edges(places, Quiet(), make=lambda _claim: market)).exit_code == Exit.INTERRUPTED
    assert market.asked == []


def test_down_says_it_before_it_waits_for_anybody(run_id: str, places: Places, ledger: Ledger) -> None:
    """Whoever has the run may never hear a signal."""
    folder, waiting = places.run(run_id), Quiet()
    with folder.lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        end(run_id, Edges(places, waiting, make=lambda _launch: Paper()), hand_over_s=0.1)
        assert end_is_wished(folder)


def test_who_goes_on_with_a_run_says_so(opened: str, places: Places) -> None:
    """As `resume` does, after a `down` that has ended nothing."""
    say(places, opened)
    wish_no_end(places.run(opened), run_id=opened)
    market = Market(FULL)
    drive(opened, Edges(places, Quiet(), make=lambda _claim: market))
    assert market.asked == [HERE, THERE]


def test_nobody_goes_on_with_a_run_whose_end_somebody_waits_for(
    opened: str, places: Places, other_process: psutil.Process
) -> None:
    """`resume` comes between `down` and the lock: the word stays."""
    folder = places.run(opened)
    by_other = Wish(pid=other_process.pid, boot_id=boot_id(), start_ticks=start_of(other_process.pid))
    folder.wish.write_bytes(msgspec.json.encode(by_other))
    with pytest.raises(Refused, match=f"Process {other_process.pid} is ending run {opened}"):
        wish_no_end(folder, run_id=opened)
    assert end_is_wished(folder)


def test_a_look_of_somebody_else_at_the_lock_does_not_keep_the_word(opened: str, places: Places) -> None:
    """`resume` took it back where it had the lock at once; else it had it a moment later, and obeyed the word."""
    say(places, opened)
    folder, market = places.run(opened), Market(FULL)
    released = list[bool]()
    with folder.lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        def sleep(_seconds: float) -> None:  # once it has been seen to be held
            fcntl.flock(held, fcntl.LOCK_UN)
            released.append(end_is_wished(folder))

        edges = dataclasses.replace(Edges(places, Quiet(), make=lambda _claim: market), clocks=Clocks(sleep=sleep))
        drive(opened, edges, goes_on=True)
    assert released[0]
    assert market.asked == [HERE, THERE]


def test_a_word_that_can_not_be_taken_back_is_told(opened: str, places: Places) -> None:
    """A folder of that name ended in a fault of ours."""
    folder = places.run(opened)
    folder.wish.mkdir()
    with pytest.raises(Refused, match="can't be removed") as refused:
        wish_no_end(folder, run_id=opened)
    assert str(folder.wish) in str(refused.value)


def test_whoever_waits_no_longer_hears_that_the_word_stands(opened: str, places: Places) -> None:
    """Ctrl-C at a `down` that waited left it without saying so, and the run was ended at its next step."""
    display = Quiet()
    with pytest.raises(KeyboardInterrupt), end_wished(places.run(opened), display.note):
        raise KeyboardInterrupt
    assert end_is_wished(places.run(opened))
    assert any(f"Run {opened} is to end all the same" in note for note in display.notes)


def test_a_word_that_a_full_disk_cut_short_counts(opened: str, places: Places) -> None:
    folder = places.run(opened)
    folder.wish.touch()
    assert end_is_wished(folder)
    wish_no_end(folder, run_id=opened)
    assert not end_is_wished(folder)


def test_a_controller_that_ended_one_attempt_is_asked_once_it_is_between_two(
    run_id: str, places: Places, ledger: Ledger, other_process: psutil.Process
) -> None:
    """It was told of as ending the run already, and never asked again."""
    display = Quiet()
    pid, started_s = other_process.pid, other_process.create_time()
    ledger.append(Controlled(run_id=run_id, at_s=1.0, pid=pid, process_started_s=started_s, boot_id=boot_id()))
    ledger.append(attempted(run_id, at_s=2.0))
    ledger.append(PhaseStarted(run_id=run_id, at_s=3.0, phase="teardown"))
    assert is_ending(ledger.runs()[run_id])

    def between() -> None:
        await_true(lambda: any("is ending it already" in note for note in display.notes))
        between_attempts(run_id, ledger)
        ledger.append(PhaseStarted(run_id=run_id, at_s=4.0, phase="confirm"))
        other_process.wait()
        fcntl.flock(held, fcntl.LOCK_UN)

    with places.run(run_id).lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        threading.Thread(target=between, daemon=True).start()
        assert end(run_id, Edges(places, display, make=lambda _launch: Paper()), hand_over_s=120.0).clean
    assert [note.partition(";")[0] for note in display.notes if str(pid) in note][:2] == [
        f"Process {pid} is ending it already",
        f"Asking its controller (process {pid}) to stop and tear down.",
    ]


def test_a_controller_that_fetches_what_a_box_that_is_gone_has_pushed_is_asked(
    run_id: str, places: Places, ledger: Ledger, other_process: psutil.Process
) -> None:
    """It was waited for until the fetch was done, hours later, by a `down` that brings the same or discards it."""
    display, pid = Quiet(), other_process.pid
    started_s = other_process.create_time()
    ledger.append(Controlled(run_id=run_id, at_s=1.0, pid=pid, process_started_s=started_s, boot_id=boot_id()))
    ledger.append(attempted(run_id, at_s=2.0))
    ledger.append(PhaseStarted(run_id=run_id, at_s=3.0, phase="teardown"))
    ledger.append(Ended(run_id=run_id, at_s=4.0, teardown=Teardown.destroyed(run_id, "Gone.")))
    assert end(run_id, Edges(places, display, make=lambda _launch: Paper()), hand_over_s=120.0).clean
    assert f"Asking its controller (process {pid}) to stop and tear down." in display.notes
