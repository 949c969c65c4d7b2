"""What a trainer has saved when its lease ended is not given up for a store, a line or a home that is away for a moment."""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from catalogs.hardware import Offer
from provision.aboard.checkpoints import Fetched, fetch_newest
from provision.aboard.marks import LEASE_ENDED_FILE
from provision.account.runs import Standing
from provision.charge.ends.ending import end, end_with_books
from provision.errors import Exit, HomeFailed, Reason, RentuneError, StoreFailed, TransferFailed
from provision.home.checkpoints import steps_at_home
from provision.home.places import Places
from provision.home.wish import end_wished
from provision.providers import boxes_folder
from provision.seam import Answer, Box, Claim, InCharge, Launch, Owned, Teardown, unshared
from provision.ssh import Shell
from provision.state.checkpoints import PushedCheckpoints, pushed_folder
from provision.store.bucket import Bucket
from provision.walk.books import read_receipt
from provision.walk.driven import Run
from provision.walk.edges import Edges
from provision.walk.job.training import train
from provision.walk.run import walk
from remote.contract import EXIT_CODES, EndReason
from tests.doubles.displays import Quiet
from tests.doubles.proxy import Proxy
from tests.doubles.services.bucket import Storage
from tests.faults.leases.test_leased import leased
from tests.faults.rehearsal import Rehearsal, wait_until
from tests.faults.standins import FINISH, LEARN, PUSH, ScriptedBox
from tests.faults.test_elsewhere import opened

pytestmark = pytest.mark.box

LEAVES: Final = f"touch ../{LEASE_ENDED_FILE}; exit {EXIT_CODES[EndReason.INTERRUPTED]}"
GOES_ON: Final = "if [ -e checkpoints/step-00000004/state.pt ]; then\n  cat checkpoints/step-*/trainable.safetensors > log;"
# Saves, pushes, and has nothing left on its disk, as a rented box that is gone.
PUSHES: Final = f"{LEARN}\n  {sys.executable} $HERE/push.py; rm -rf checkpoints; {LEAVES}"
TRAINS: Final = f"{GOES_ON} {FINISH}\nelse\n  {PUSHES}\nfi"
SAVES: Final = f"{GOES_ON} {FINISH}\nelse\n  {LEARN}\n  {LEAVES}\nfi"
LEARNED: Final = "weights of 00000002weights of 00000004"


class Shaky(PushedCheckpoints):
    """A store that can't be asked the first times."""

    num_away = 0

    def bring_newest(self, home: Path) -> int | None:
        if self.num_away > 0:
            Shaky.num_away -= 1
            raise StoreFailed("The store is away.")
        return super().bring_newest(home)


class Far(ScriptedBox):
    """Its files are its own, as a rented one's."""

    def up(self, offer: Offer, launch: Launch) -> Box:
        return msgspec.structs.replace(super().up(offer, launch), shares_files=False)


@pytest.fixture
def line() -> Iterator[Proxy]:
    with Proxy(target_port=0) as line:
        yield line


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provision.walk.job.carrying.RECONNECT_S", 0.05)
    monkeypatch.setattr("provision.walk.job.patience.RECONNECT_S", 0.05)


@pytest.fixture(params=["heard", "unheard"])
def pushing(request: pytest.FixtureRequest, rehearsal: Rehearsal, line: Proxy, stored: Storage) -> Run:
    """A run whose first box ends by its lease once its trainer has pushed, which the controller has heard of or not."""
    box = ScriptedBox(rehearsal, line, TRAINS)
    events = "events.jsonl" if request.param == "heard" else "lost.jsonl"
    (box.stack / "push.py").write_text(PUSH.replace("events.jsonl", events))
    run = opened(rehearsal, box, change=lambda plan: leased(plan, lease_s=600.0))
    pushed = Shaky(Bucket(f"{stored.place}/leased"), pushed_folder(run.run_id))
    return dataclasses.replace(run, pushed=pushed, display=Quiet())


def test_no_box_is_rented_while_what_was_pushed_can_not_be_fetched(pushing: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shaky, "num_away", 3)
    receipt = walk(pushing)
    assert receipt.exit_code == Exit.OK, receipt.ending.message
    assert [each.reason for each in receipt.tries] == [Reason.LEASE, None]
    assert pushing.folder.log.read_text() == LEARNED


def left_open(run: Run, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is said of a run whose store stays away."""
    monkeypatch.setattr("provision.walk.job.carrying.STORE_WAIT_S", 0.0)
    monkeypatch.setattr(Shaky, "num_away", 1000)
    receipt = walk(run)
    assert receipt.exit_code == Exit.FAILED
    monkeypatch.setattr(Shaky, "num_away", 0)
    return receipt.ending.message


def test_a_store_that_stays_away_leaves_the_run_open_and_resume_goes_on(pushing: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    said = left_open(pushing, monkeypatch)
    assert pushing.pushed is not None
    assert pushing.pushed.place in said
    assert f"rentune resume {pushing.run_id}" in said
    state = pushing.state
    assert (state.standing, state.billed, len(state.rentals)) == (Standing.BETWEEN, None, 1)

    receipt = walk(pushing)
    assert receipt.exit_code == Exit.OK, receipt.ending.message
    assert pushing.folder.log.read_text() == LEARNED


def test_ctrl_c_while_a_store_is_waited_for_leaves_the_run_open(pushing: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever would not wait has not given up what lies there: closed books would leave its place in a note alone."""
    asked = list[int]()

    def away(*_: object) -> int | None:
        asked.append(1)
        if len(asked) == 2:  # the first is at once, before the last box is confirmed to be gone
            raise KeyboardInterrupt
        raise StoreFailed("The store is away.")

    with monkeypatch.context() as patched:
        patched.setattr(Shaky, "bring_newest", away)
        receipt = walk(pushing)
    assert receipt.exit_code == Exit.INTERRUPTED
    assert pushing.pushed is not None
    assert pushing.pushed.place in receipt.ending.message
    assert f"rentune resume {pushing.run_id} goes on from it." in receipt.ending.message
    assert (pushing.state.standing, pushing.state.billed) == (Standing.BETWEEN, None)
    receipt = walk(pushing)
    assert receipt.exit_code == Exit.OK, receipt.ending.message
    assert pushing.folder.log.read_text() == LEARNED


@pytest.mark.parametrize("then", ["down", "resume"])
@pytest.mark.parametrize("ends", ["ctrl-c", "by itself"])
def test_past_the_deadline_such_a_run_stays_open_for_whoever_brings_home_what_lies_there(
    ends: str, then: str, pushing: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is rented then, and books that were closed would have the place of it in a note alone."""
    late_s, asked = list[float](), list[int]()

    def trained(*given: Any) -> None:
        try:
            train(*given)
        finally:
            late_s.append(1000.0)

    def away(*_: object) -> int | None:
        asked.append(1)
        if ends == "ctrl-c" and len(asked) == 2:
            raise KeyboardInterrupt
        raise StoreFailed("The store is away.")

    run = dataclasses.replace(pushing, clocks=dataclasses.replace(pushing.clocks, wall=lambda: time.time() + sum(late_s)))
    assert run.pushed is not None
    with monkeypatch.context() as patched:
        patched.setattr("provision.walk.attempt.train", trained)
        patched.setattr("provision.walk.job.carrying.STORE_WAIT_S", 0.0)
        patched.setattr(Shaky, "bring_newest", away)
        receipt = walk(run)
    assert receipt.ending.left_open
    assert receipt.exit_code == (Exit.INTERRUPTED if ends == "ctrl-c" else Exit.FAILED)
    assert f"What lies at {run.pushed.place} did not come home: rentune down {run.run_id} brings it" in receipt.ending.message
    assert (run.state.billed, len(run.state.rentals)) == (None, 1)
    ended = end_with_books(run).clean if then == "down" else not walk(run).ending.left_open
    assert ended
    assert (run.state.billed is not None, len(run.state.rentals)) == (True, 1)
    assert steps_at_home(run.folder.checkpoints)[-1:] == [4]


def test_a_step_that_waits_in_a_store_that_is_away_is_a_step_more(pushing: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that ended without one is counted; one of which nobody can say that yet is not, until the store has answered."""
    monkeypatch.setattr("provision.walk.run.MAX_LEASES", 1)
    monkeypatch.setattr(Shaky, "num_away", 1)
    receipt = walk(pushing)
    assert receipt.exit_code == Exit.OK, receipt.ending.message
    assert pushing.folder.log.read_text() == LEARNED


def test_down_brings_home_what_was_pushed(pushing: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    left_open(pushing, monkeypatch)
    assert end_with_books(pushing).clean
    assert steps_at_home(pushing.folder.checkpoints)[-1:] == [4]


def test_down_names_what_it_can_not_bring_home(pushing: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    left_open(pushing, monkeypatch)
    monkeypatch.setattr(Shaky, "num_away", 1000)
    assert end_with_books(pushing).clean
    receipt = read_receipt(pushing.folder)
    assert receipt is not None
    assert pushing.pushed is not None
    said = f"What its trainer pushed lies at {pushing.pushed.place}: rentune down {pushing.run_id} brings home what is whole."
    assert said in receipt.ending.message
    assert "checkpoints are gone" not in receipt.ending.message


def test_down_once_more_brings_home_what_the_first_could_not(pushing: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its books are closed by then, and no other command asked the store for it."""
    left_open(pushing, monkeypatch)
    monkeypatch.setattr(Shaky, "num_away", 1000)
    assert end_with_books(pushing).clean
    assert steps_at_home(pushing.folder.checkpoints) == []
    monkeypatch.setattr(Shaky, "num_away", 0)
    monkeypatch.setattr("provision.charge.ends.ending.pushed_of", lambda *_: pushing.pushed)
    assert end(pushing.run_id, Edges(pushing.places, Quiet(), make=pushing.make)).clean
    assert steps_at_home(pushing.folder.checkpoints)[-1:] == [4]
    assert pushing.folder.go_on.exists()


def test_down_once_more_ends_what_bills_before_it_asks_the_store(pushing: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its provider lists all the same billed on for as long as the fetch took."""
    left_open(pushing, monkeypatch)
    monkeypatch.setattr(Shaky, "num_away", 1000)
    assert end_with_books(pushing).clean
    box, done = pushing.state.box, list[str]()
    assert box is not None

    def ends(_self: ScriptedBox, claim: Claim, *_: object) -> Teardown:
        done.append("end")
        return Teardown.destroyed(claim.run_id, "It is gone.")

    def fetches(*_: object) -> None:
        done.append("fetch")

    lists = Owned(resources=box.resources, complete=Answer.YES)
    monkeypatch.setattr(ScriptedBox, "owned", lambda *_: Owned(resources=(), complete=Answer.YES) if done else lists)
    monkeypatch.setattr(ScriptedBox, "destroy", ends)
    monkeypatch.setattr(Shaky, "bring_newest", fetches)
    monkeypatch.setattr("provision.charge.ends.ending.pushed_of", lambda *_: pushing.pushed)
    assert end(pushing.run_id, Edges(pushing.places, Quiet(), make=pushing.make)).clean
    assert done == ["end", "fetch"]


class Killed(BaseException):
    """Of a controller: nothing answers it."""


def test_resume_goes_on_where_a_controller_died_while_it_fetched(pushing: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ledger had the box's end and not why, so the run was over, and what lay there was gone on from by nobody."""

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Shaky, "bring_newest", killed)
        with pytest.raises(Killed):
            walk(pushing)
    assert pushing.state.standing is Standing.BETWEEN
    receipt = walk(pushing)
    assert receipt.exit_code == Exit.OK, receipt.ending.message
    assert pushing.folder.log.read_text() == LEARNED


class Told(ScriptedBox):
    """While it is ended somebody says that its run is to end, and no signal comes."""

    home: Places

    def destroy(self, claim: Claim, in_charge: InCharge = unshared) -> Teardown:
        with end_wished(self.home.run(claim.run_id), Quiet().note):
            return super().destroy(claim, in_charge)


class Unseen(ScriptedBox):
    """Nobody can see whether it is gone."""

    def destroy(self, claim: Claim, in_charge: InCharge = unshared) -> Teardown:
        super().destroy(claim, in_charge)
        return Teardown.unknown(claim.run_id, "Nobody could see.")


def of_lease(box: ScriptedBox, rehearsal: Rehearsal, stored: Storage) -> Run:
    """A run on this box, which ends by its lease once its trainer has pushed."""
    (box.stack / "push.py").write_text(PUSH)
    run = opened(rehearsal, box, change=lambda plan: leased(plan, lease_s=600.0))
    return dataclasses.replace(run, pushed=Shaky(Bucket(f"{stored.place}/told"), pushed_folder(run.run_id)), display=Quiet())


@pytest.mark.parametrize("is_back", [True, False], ids=["store back", "store away"])
def test_a_run_that_is_to_end_asks_the_store_once_more_or_names_the_place(
    is_back: bool, rehearsal: Rehearsal, line: Proxy, stored: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its books were closed without what lay there, and without a word of where."""
    box = Told(rehearsal, line, TRAINS)
    box.home = rehearsal.places
    run = of_lease(box, rehearsal, stored)
    monkeypatch.setattr(Shaky, "num_away", 1 if is_back else 1000)
    receipt = walk(run)
    assert receipt.exit_code == Exit.INTERRUPTED
    assert run.state.billed is not None
    assert run.pushed is not None
    assert (steps_at_home(run.folder.checkpoints)[-1:] == [4]) == is_back
    assert (f"lies at {run.pushed.place}: rentune down {run.run_id}" in receipt.ending.message) == (not is_back)


def test_a_box_whose_end_is_unseen_names_the_place_while_the_store_is_away(
    rehearsal: Rehearsal, line: Proxy, stored: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other box follows, before which it would be asked again."""
    run = of_lease(Unseen(rehearsal, line, TRAINS), rehearsal, stored)
    monkeypatch.setattr(Shaky, "num_away", 1000)
    receipt = walk(run)
    assert len(run.state.rentals) == 1
    assert run.pushed is not None
    assert f"lies at {run.pushed.place}: rentune down {run.run_id}" in receipt.ending.message


GONE: Final = "rm -rf checkpoints; touch pushed; sleep 600"
PUSHES_AND_STAYS: Final = f"{GOES_ON} {FINISH}\nelse\n  {LEARN}\n  {sys.executable} $HERE/push.py; {GONE}\nfi"


@pytest.fixture(params=["on_demand", "spot"])
def taken(request: pytest.FixtureRequest, rehearsal: Rehearsal, line: Proxy, stored: Storage) -> Run:
    """A run without a lease, whose first box is taken away once its trainer has pushed, which nobody has heard of."""
    box = ScriptedBox(rehearsal, line, PUSHES_AND_STAYS)
    (box.stack / "push.py").write_text(PUSH.replace("events.jsonl", "lost.jsonl"))
    run = opened(rehearsal, box, purchase=request.param)
    pushed = Shaky(Bucket(f"{stored.place}/taken"), pushed_folder(run.run_id))

    def take_away() -> None:
        wait_until((boxes_folder(rehearsal.places) / run.run_id / "job" / "pushed").exists)
        box.destroy(run.claim)

    threading.Thread(target=take_away, daemon=True).start()
    return dataclasses.replace(run, pushed=pushed, display=Quiet())


def test_what_was_pushed_comes_home_however_its_box_has_ended(taken: Run) -> None:
    """A lease's end alone brought it; a machine on demand that was gone, and one past its deadline, left it there unsaid."""
    receipt = walk(taken)
    if taken.plan.offer.purchase == "spot":
        assert receipt.exit_code == Exit.OK, receipt.ending.message
        assert taken.folder.log.read_text() == LEARNED
    else:
        assert receipt.exit_code == Exit.FAILED
        assert steps_at_home(taken.folder.checkpoints)[-1:] == [4]


def test_what_nobody_has_heard_of_is_unknown_while_the_store_is_away(taken: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spot machine's job began anew from the first step, and its place was told of no other."""
    monkeypatch.setattr("provision.walk.job.carrying.STORE_WAIT_S", 0.0)
    monkeypatch.setattr(Shaky, "num_away", 1000)
    receipt = walk(taken)
    assert receipt.exit_code == Exit.FAILED
    assert taken.pushed is not None
    assert taken.pushed.place in receipt.ending.message
    assert len(taken.state.rentals) == 1
    is_spot = taken.plan.offer.purchase == "spot"
    assert receipt.ending.left_open == is_spot, "another spot machine may follow once it is known what there is"


@pytest.mark.parametrize(
    "error", [HomeFailed("Home takes no more."), TransferFailed("It was cut off.")], ids=["home is full", "cut off"]
)
def test_the_only_copy_is_fetched_again_before_its_box_is_ended(
    error: RentuneError, rehearsal: Rehearsal, line: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = [error, error]

    def fetch(shell: Shell, box: Box, home: Path) -> Fetched | None:
        if fails:
            raise fails.pop()
        return fetch_newest(shell, box, home)

    monkeypatch.setattr("provision.walk.job.carrying.fetch_newest", fetch)
    run = opened(rehearsal, Far(rehearsal, line, SAVES), change=lambda plan: leased(plan, lease_s=600.0))
    display = Quiet()
    receipt = walk(dataclasses.replace(run, display=display))
    assert receipt.exit_code == Exit.OK, receipt.ending.message
    assert [each.reason for each in receipt.tries] == [Reason.LEASE, None]
    assert f"{error} Trying again." in display.notes
    assert run.folder.log.read_text() == LEARNED
