"""Ending a run from outside: `down`, alone or against whoever is in charge."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from decimal import Decimal
from functools import partial
from typing import Never

import msgspec
import psutil
import pytest

from planner.plan import Plan
from provision.aboard.detached import ANSWER_S
from provision.account.ledger import Ledger
from provision.account.lines import Billed, Controlled, Created, Ended, PhaseEnded, PhaseStarted
from provision.charge.controller import Hands, hands_of, in_control
from provision.charge.ends import handover
from provision.charge.ends.ending import end, end_with_books, longest_end_s
from provision.charge.ends.verdicts import RunEnd, end_of, told_if_cut_off
from provision.charge.rings.knell import ended_and_told
from provision.cli import call
from provision.errors import ConnectionFailed, EndUnseen, Exit, Held, MissingPart, RentuneError
from provision.home.clocks import CLOCKS, Clocks
from provision.home.places import Places
from provision.home.processes import boot_id
from provision.prepare.inputs import find_base
from provision.prepare.opening import open_run
from provision.seam import Box, Claim, InCharge, Owned, Resource, Teardown, unshared
from provision.walk.driven import Reach, read_run
from provision.walk.edges import Edges
from provision.walk.job.rescue import RESCUE_S
from provision.walk.job.stopping import MOST_S
from provision.walk.timekeeping import with_steady_clock
from remote.contract import encode
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Paper
from tests.provision.account.receipts import outcome_of
from tests.provision.plans import attempted
from tests.provision.rigs import await_true

HOUR_S = 3600.0


def test_down_ends_what_nobody_controls_and_closes_its_books(run_id: str, places: Places, ledger: Ledger) -> None:
    """Ended, billed, and no orphan any more."""
    paper = Paper()
    paper.boxes[run_id] = Resource(kind="instance", id="i-1", run_id=run_id)
    teardown = end(run_id, Edges(places, Quiet(), make=lambda _launch: paper))
    assert teardown.clean
    state = ledger.runs()[run_id]
    assert state.billed is not None
    assert state.over
    assert end(run_id, Edges(places, Quiet(), make=lambda _launch: paper)) == teardown


def test_what_down_could_not_end_stays_an_orphan(run_id: str, places: Places, ledger: Ledger) -> None:
    """The verdict is kept with the command that finishes it, and the next try may succeed."""
    paper = Paper()
    paper.boxes[run_id] = Resource(kind="instance", id="i-1", run_id=run_id)
    paper.stubborn = True
    assert end(run_id, Edges(places, Quiet(), make=lambda _launch: paper)).command == f"rentune down {run_id}"
    assert hands_of(ledger.runs()[run_id], places.run(run_id).lock, now_s=time.time()) is Hands.NOBODY
    assert not ledger.runs()[run_id].over
    paper.stubborn = False
    assert end(run_id, Edges(places, Quiet(), make=lambda _launch: paper)).clean
    assert ledger.runs()[run_id].over


def test_ctrl_c_once_too_often_says_what_may_bill(run_id: str, ledger: Ledger) -> None:
    """It cuts off the ending itself: with 3 where a box may live, with 130 once it is gone or was never asked for."""

    def interrupted() -> Teardown:
        raise KeyboardInterrupt

    def cut_off() -> RentuneError:
        with pytest.raises(RentuneError) as driven, told_if_cut_off(run_id, ledger):
            interrupted()
        ended = end_of(run_id, interrupted, ledger=ledger)
        assert (ended.cut_off, ended.teardown.clean) == (True, False)
        with pytest.raises(type(driven.value)) as told:
            ended.told()
        assert (str(told.value), told.value.hint) == (str(driven.value), driven.value.hint), "driven or ended, the same is said"
        return told.value

    gone = Teardown.destroyed(run_id, "")
    for line, code, words in (
        (PhaseStarted(run_id=run_id, at_s=1.0, phase="prepare"), Exit.INTERRUPTED, f"Nothing of run {run_id} bills"),
        (attempted(run_id, at_s=2.0), Exit.STILL_BILLS, "may still bill"),
        (Ended(run_id=run_id, at_s=3.0, teardown=gone), Exit.INTERRUPTED, f"Nothing of run {run_id} bills"),
    ):
        ledger.append(line)
        told = cut_off()
        assert (told.exit_code, str(told.hint).startswith(f"rentune down {run_id}")) == (code, True)
        assert words in str(told)


def test_a_controller_that_does_not_let_go_is_an_unknown_end(run_id: str, places: Places, ledger: Ledger) -> None:
    """It may go on billing: a verdict that reaches the exit code, and the command to repeat."""
    with in_control(run_id, places.run(run_id), ledger, clocks=CLOCKS):
        ledger.append(Controlled(run_id=run_id, at_s=2.0, pid=1, process_started_s=0.0, boot_id="another boot"))
        teardown = end(run_id, Edges(places, Quiet(), make=lambda _launch: Paper()), hand_over_s=0.1)
    assert (teardown.verdict, teardown.command) == ("unknown", f"rentune down {run_id}")


@pytest.mark.parametrize(
    ("suspended", "words"),
    [(True, "process {pid} is suspended. Wake it: kill -CONT {pid}"), (False, "Waiting for process {pid}, ")],
)
def test_down_says_what_it_waits_for(
    run_id: str,
    places: Places,
    ledger: Ledger,
    other_process: psutil.Process,
    monkeypatch: pytest.MonkeyPatch,
    suspended: bool,
    words: str,
) -> None:
    """A controller may need many minutes; one that was suspended hears nothing, and lets go once somebody wakes it."""
    monkeypatch.setattr(handover, "SILENCE_S", 0.1)
    pid, started_s, display = other_process.pid, other_process.create_time(), Quiet()
    if suspended:
        other_process.suspend()
        await_true(lambda: other_process.status() == psutil.STATUS_STOPPED)
    with places.run(run_id).lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ledger.append(Controlled(run_id=run_id, at_s=1.0, pid=pid, process_started_s=started_s, boot_id=boot_id(), ending=True))
        end(run_id, Edges(places, display, make=lambda _launch: Paper()), hand_over_s=0.3)
    assert words.format(pid=pid) in display.notes[-1]


def test_who_has_the_lock_and_has_not_said_so_yet_is_asked_once_it_does(
    run_id: str, places: Places, ledger: Ledger, other_process: psutil.Process
) -> None:
    """`down` just after `run`: a controller that was never asked would be waited for until it had trained."""
    seen, display = ledger.runs()[run_id], Quiet()
    assert seen.controlled is None
    mine = Controlled(
        run_id=run_id, at_s=1.0, pid=other_process.pid, process_started_s=other_process.create_time(), boot_id=boot_id()
    )
    with places.run(run_id).lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        threading.Timer(0.5, lambda: ledger.append(mine)).start()
        end(run_id, Edges(places, display, make=lambda _launch: Paper()), hand_over_s=3.0)
    await_true(lambda: not other_process.is_running() or other_process.status() == psutil.STATUS_ZOMBIE)
    assert [note for note in display.notes if "Asking" in note] == [
        f"Asking its controller (process {other_process.pid}) to stop and tear down."
    ]


STOPS_IN_TWO_WAYS = """
import time
from provision.home.interrupt import interruptible
with interruptible():
    try:
        print("begun", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("asked", flush=True)
        try:
            time.sleep(5)
        except KeyboardInterrupt:
            print("at once", flush=True)
"""


def let_go_after(controller: subprocess.Popen[str], lock: int) -> None:
    controller.wait()
    fcntl.flock(lock, fcntl.LOCK_UN)


@pytest.mark.parametrize(("discard", "said"), [(False, ["asked"]), (True, ["asked", "at once"])])
def test_a_controller_is_asked_twice_where_its_result_is_to_be_discarded(
    run_id: str, places: Places, ledger: Ledger, discard: bool, said: list[str]
) -> None:
    """Two signals at one moment are one to it: the second is sent once it counts by itself."""
    controller = subprocess.Popen([sys.executable, "-c", STOPS_IN_TWO_WAYS], stdout=subprocess.PIPE, text=True)
    assert controller.stdout is not None
    with controller, places.run(run_id).lock.open("w") as held:
        assert controller.stdout.readline() == "begun\n"
        fcntl.flock(held, fcntl.LOCK_EX)
        started_s = psutil.Process(controller.pid).create_time()
        ledger.append(Controlled(run_id=run_id, at_s=1.0, pid=controller.pid, process_started_s=started_s, boot_id=boot_id()))
        threading.Thread(target=let_go_after, args=(controller, held.fileno())).start()
        assert end(run_id, Edges(places, Quiet(), make=lambda _launch: Paper()), discard=discard).clean
        assert controller.stdout.read().splitlines() == said


@pytest.mark.parametrize(
    ("set_s", "ahead_s", "left_s", "is_over"),
    [(0.0, None, -60.0, True), (HOUR_S, HOUR_S, 600.0, False), (HOUR_S, None, 600.0, True), (-HOUR_S, -HOUR_S, -60.0, True)],
    ids=["nobody tells the time", "ours is ahead", "ours is ahead, and nobody tells", "ours is behind"],
)
def test_the_only_copy_of_a_result_keeps_its_box_until_its_deadline_by_its_provider_s_clock(
    run_id: str, places: Places, ledger: Ledger, set_s: float, ahead_s: float | None, left_s: float, is_over: bool
) -> None:
    """A clock here that is an hour ahead would end the box, and the result with it, while it may still be brought home."""
    paper, now_s = Clocked(ahead_s), time.time()
    box = paper.boxes[run_id] = Resource(kind="instance", id="i-1", run_id=run_id)
    ledger.append(attempted(run_id, at_s=now_s - 60.0, deadline_at_s=now_s + left_s))
    there = Box(
        run_id=run_id, provider="local", host="192.0.2.1", port=22, user="u", host_key="k", folder="/f", resources=(box,)
    )
    ledger.append(Created(run_id=run_id, at_s=now_s - 50.0, box=there))
    places.run(run_id).outcome.write_bytes(encode(outcome_of(run_id=run_id)))
    clocks = Clocks(wall=lambda: now_s + set_s)
    held = read_run(run_id, Edges(places, Quiet(), make=lambda _claim: paper, clocks=clocks), ledger=ledger)
    teardown = end_with_books(with_steady_clock(dataclasses.replace(held, reach=Reach(connect=nobody_answers))))
    assert teardown.verdict == ("destroyed" if is_over else "orphaned")
    assert teardown.command == (None if is_over else f"rentune down --discard {run_id}")
    assert paper.boxes == ({} if is_over else {run_id: box})


class Clocked(Paper):
    """Whose answers tell by how much this machine's clock is ahead."""

    def __init__(self, ahead_s: float | None) -> None:
        super().__init__()
        self.ahead_s = ahead_s

    def owned(self, claim: Claim | None = None) -> Owned:
        return msgspec.structs.replace(super().owned(claim), ahead_s=self.ahead_s)


def nobody_answers(*_asked: object, **_more: object) -> Never:
    raise ConnectionFailed("No answer.")


@pytest.mark.parametrize(("ending", "phase"), [(True, "train"), (False, "teardown"), (False, "confirm")])
def test_who_is_ending_a_run_is_waited_for_and_not_signalled(
    run_id: str, places: Places, ledger: Ledger, other_process: psutil.Process, ending: bool, phase: str
) -> None:
    """Two `down` at once, or one on a controller that has come to its end: the verdict is taken from whoever was first."""
    folder = places.run(run_id)
    started_s = other_process.create_time()
    gone = Teardown.destroyed(run_id, "By the other.")

    def finish() -> None:
        ledger.append(Ended(run_id=run_id, at_s=2.0, teardown=gone))
        ledger.append(billed)
        fcntl.flock(held, fcntl.LOCK_UN)

    with folder.lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        billed = Billed(
            run_id=run_id, at_s=3.0, exit_code=130, trained=False, planned_usd=Decimal(0), metered_usd=Decimal(0), wall_s=1.0
        )
        ledger.append(
            Controlled(
                run_id=run_id, at_s=1.0, pid=other_process.pid, process_started_s=started_s, boot_id=boot_id(), ending=ending
            )
        )
        ledger.append(PhaseStarted(run_id=run_id, at_s=1.5, phase=phase))
        threading.Timer(0.3, finish).start()
        assert end(run_id, Edges(places, Quiet(), make=lambda _launch: Paper())) == gone
    assert other_process.is_running()
    assert other_process.status() != psutil.STATUS_ZOMBIE


def test_down_waits_for_as_long_as_a_cloud_may_take() -> None:
    """The trainer leaves, a result comes home, and the provisioner takes its worst time."""
    slow = Paper()
    slow.worst_teardown_s = 4000.0
    assert longest_end_s(slow) >= MOST_S + ANSWER_S + RESCUE_S + 4000.0


def test_a_run_that_asked_for_nothing_is_ended_without_its_providers_sdk(run_id: str, places: Places, ledger: Ledger) -> None:
    """The part that is missing would have nothing to do."""

    def make(_claim: Claim) -> Paper:
        raise MissingPart("The SDK is not installed.")

    assert end(run_id, Edges(places, Quiet(), make=make)).clean
    assert ledger.runs()[run_id].billed is not None


def test_one_that_asked_is_not(run_id: str, places: Places, ledger: Ledger) -> None:
    """A box may be there: the verdict is unknown and says what is missing."""
    ledger.append(attempted(run_id, at_s=1.0))

    def make(_claim: Claim) -> Paper:
        raise MissingPart("The SDK is not installed.", hint="Install it.")

    told = end_of(run_id, lambda: end(run_id, Edges(places, Quiet(), make=make))).teardown
    assert (told.verdict, told.message) == ("unknown", "The SDK is not installed. Install it.")


def test_a_box_that_cannot_be_ended_does_not_keep_the_next_one(places: Places, plan: Plan, ledger: Ledger) -> None:
    """`down --orphans` with a run whose cloud this version does not know: code 3, and the others are ended."""
    base = find_base(plan.request.model)
    blocked, sound = (open_run(plan, base, places=places, ledger=ledger, clock=time.time) for _ in range(2))
    nowhere = msgspec.structs.replace(plan.offer, provider="no-such-cloud")
    ledger.append(msgspec.structs.replace(attempted(blocked, plan, at_s=1.0), offer=nowhere))
    assert call(["down", "--orphans"]) == Exit.STILL_BILLS
    assert ledger.runs()[sound].over
    assert not ledger.runs()[blocked].over


def test_what_its_provider_lists_again_is_ended_again_though_the_books_are_closed(
    run_id: str, places: Places, ledger: Ledger
) -> None:
    """Lists lag. `down` of a run that is over asks once before it says so; what it can't ask stands as it was written."""
    paper = Paper()
    box = paper.boxes[run_id] = Resource(kind="instance", id="i-1", run_id=run_id)
    ledger.append(attempted(run_id, at_s=time.time()))
    assert end(run_id, Edges(places, Quiet(), make=lambda _claim: paper)).clean
    written = ledger.path.read_bytes()
    assert end(run_id, Edges(places, Quiet(), make=lambda _claim: paper)).clean
    assert ledger.path.read_bytes() == written, "nothing was there, and nothing is written"
    paper.boxes[run_id] = box
    again = end(run_id, Edges(places, Quiet(), make=lambda _claim: paper))
    assert (again.verdict, paper.boxes) == ("destroyed", {})
    assert ledger.path.read_bytes() != written
    paper.boxes[run_id], paper.stubborn = box, True
    assert end(run_id, Edges(places, Quiet(), make=lambda _claim: paper)).verdict == "orphaned"


class WithVolumes(Paper):
    """Whose lists show what outlives its boxes."""

    kept: tuple[Resource, ...] = ()

    def owned(self, claim: Claim | None = None) -> Owned:
        return msgspec.structs.replace(super().owned(claim), kept=self.kept)

    def destroy(self, claim: Claim, in_charge: InCharge = unshared) -> Teardown:
        return msgspec.structs.replace(super().destroy(claim, in_charge), kept=self.kept)


def test_a_volume_that_is_listed_late_stands_in_the_ledger_once_somebody_looks(
    run_id: str, places: Places, ledger: Ledger
) -> None:
    """Its run was over; from then on `ls` and `down` say what it costs on. One that they know is no news."""
    paper = WithVolumes()
    ledger.append(attempted(run_id, at_s=1.0))
    ledger.append(PhaseEnded(run_id=run_id, at_s=2.0, phase="environment", duration_s=1.0, ok=True))
    assert end(run_id, Edges(places, Quiet(), make=lambda _claim: paper)).kept == ()
    paper.kept = (Resource(kind="volume", id="vol-1", run_id=run_id, name="models"),)
    assert end(run_id, Edges(places, Quiet(), make=lambda _claim: paper)).kept == paper.kept
    assert ledger.runs()[run_id].kept == paper.kept
    written = ledger.path.read_bytes()
    assert end(run_id, Edges(places, Quiet(), make=lambda _claim: paper)).kept == paper.kept
    assert ledger.path.read_bytes() == written


@pytest.mark.parametrize("locked", [True, False])
def test_who_took_a_run_up_since_the_look_hears_nothing_of_down_orphans(
    run_id: str, places: Places, ledger: Ledger, other_process: psutil.Process, locked: bool
) -> None:
    """Nobody has said that this very run is to end, so no signal is sent, whether its lock can be seen or not."""
    display, paper = Quiet(), Paper()
    paper.boxes[run_id] = Resource(kind="instance", id="i-1", run_id=run_id)
    ledger.append(attempted(run_id, at_s=1.0))
    ledger.append(controlled_by(other_process, run_id))
    with places.run(run_id).lock.open("w") as held:
        if locked:
            fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Held, match=f"is controlled by process {other_process.pid}"):
            end(run_id, Edges(places, display, make=lambda _claim: paper), meant=False)
    assert other_process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    assert (list(paper.boxes), display.notes) == ([run_id], [])


def test_a_controller_of_another_user_is_told_and_not_waited_for(
    run_id: str, places: Places, ledger: Ledger, other_process: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody but that user may ask it to stop: an end that is unknown, with what to type."""

    def denied(_pid: int, _number: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    ledger.append(attempted(run_id, at_s=1.0))
    ledger.append(controlled_by(other_process, run_id))
    with places.run(run_id).lock.open("w") as held, monkeypatch.context() as patched:
        patched.setattr("provision.charge.ends.handover.os.kill", denied)
        fcntl.flock(held, fcntl.LOCK_EX)
        end_it = partial(end, run_id, Edges(places, Quiet(), make=lambda _claim: Paper()))
        told = end_of(run_id, end_it, ledger=ledger).told()
    assert told.verdict == "unknown"
    assert f"Process {other_process.pid}, which controls run {run_id}, is another user's" in told.message
    assert told.message.endswith(f"As that user: rentune down {run_id}")


def test_a_verdict_outlives_the_ledger(run_id: str, places: Places, ledger: Ledger) -> None:
    """The file goes while the run is ended, and none can be made in its place: the verdict in hand is what is told."""
    ledger.append(attempted(run_id, at_s=1.0))
    left = Teardown.orphaned(run_id, "The delete was refused.")

    def refused() -> Teardown:
        ledger.path.unlink()
        ledger.path.mkdir()
        return left

    end_it = partial(end_of, run_id, refused, ledger=ledger)
    assert ended_and_told(run_id, end_it, Edges(places, Quiet())) == RunEnd(left)


def test_a_fault_of_ours_while_a_run_is_driven_says_what_may_bill(run_id: str, ledger: Ledger) -> None:
    """With 3 and the command where it was rented; where nothing was the fault is told as any other."""

    def fails() -> None:
        with told_if_cut_off(run_id, ledger):
            raise KeyError("a key")

    with pytest.raises(KeyError):
        fails()
    ledger.append(attempted(run_id, at_s=2.0))
    with pytest.raises(EndUnseen, match="may still bill") as told:
        fails()
    assert (told.value.exit_code, told.value.hint) == (Exit.STILL_BILLS, f"rentune down {run_id}")
    assert isinstance(told.value.__cause__, KeyError), "RENTUNE_DEBUG shows where"


def controlled_by(process: psutil.Process, run_id: str) -> Controlled:
    return Controlled(run_id=run_id, at_s=1.0, pid=process.pid, process_started_s=process.create_time(), boot_id=boot_id())
