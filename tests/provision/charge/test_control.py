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
from provision.charge import control, handover
from provision.charge.control import end, ended_or_told, find_run, longest_end_s, told_if_cut_off
from provision.charge.controller import Hands, hands_of, in_control
from provision.charge.orphans import Orphans, find_orphans
from provision.charge.strays import end_stray
from provision.cli import call
from provision.commands import ending
from provision.errors import BadInput, ConnectionFailed, Exit, Held, MissingPart, RentuneError
from provision.home.clocks import Clocks
from provision.home.places import Places
from provision.home.processes import boot_id
from provision.prepare.inputs import find_base
from provision.prepare.opening import open_run
from provision.provisioner import Answer, Box, Claim, InCharge, Owned, Resource, ResourceEnd, Teardown, unshared
from provision.walk.held import read_run
from provision.walk.rescue import RESCUE_S
from provision.walk.stopping import MOST_S
from provision.walk.timekeeping import with_held_clock
from remote.contract import encode
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Paper
from tests.provision.account.receipts import outcome_of
from tests.provision.plans import attempted, between_attempts
from tests.provision.rigs import await_true

HOUR_S = 3600.0


def test_a_run_is_found_by_a_part_of_its_id(run_id: str, ledger: Ledger) -> None:
    """The end of it is enough to type."""
    assert find_run(ledger, run_id[-4:]).run_id == run_id
    with pytest.raises(BadInput, match="There is no run"):
        find_run(ledger, "zzzz")


def test_down_ends_what_nobody_controls_and_closes_its_books(run_id: str, places: Places, ledger: Ledger) -> None:
    """Ended, billed, and no orphan any more."""
    paper = Paper()
    paper.boxes[run_id] = Resource(kind="instance", id="i-1", run_id=run_id)
    teardown = end(run_id, places=places, display=Quiet(), make=lambda _launch: paper)
    assert teardown.clean
    state = ledger.runs()[run_id]
    assert state.billed is not None
    assert state.over
    assert end(run_id, places=places, display=Quiet(), make=lambda _launch: paper) == teardown


def test_what_down_could_not_end_stays_an_orphan(run_id: str, places: Places, ledger: Ledger) -> None:
    """The verdict is kept with the command that finishes it, and the next try may succeed."""
    paper = Paper()
    paper.boxes[run_id] = Resource(kind="instance", id="i-1", run_id=run_id)
    paper.stubborn = True
    assert end(run_id, places=places, display=Quiet(), make=lambda _launch: paper).command == f"rentune down {run_id}"
    assert hands_of(ledger.runs()[run_id], places.run(run_id).lock, now_s=time.time()) is Hands.NOBODY
    assert not ledger.runs()[run_id].over
    paper.stubborn = False
    assert end(run_id, places=places, display=Quiet(), make=lambda _launch: paper).clean
    assert ledger.runs()[run_id].over


def test_ctrl_c_once_too_often_says_what_may_bill(run_id: str, ledger: Ledger) -> None:
    """It cuts off the ending itself: with 3 where a box may live, with 130 once it is gone or was never asked for."""

    def cut_off() -> RentuneError:
        with pytest.raises(RentuneError) as told, told_if_cut_off(run_id, ledger):
            raise KeyboardInterrupt
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
    with in_control(run_id, places.run(run_id), ledger, clock=time.time):
        ledger.append(Controlled(run_id=run_id, at_s=2.0, pid=1, process_started_s=0.0, boot_id="another boot"))
        teardown = end(run_id, places=places, display=Quiet(), make=lambda _launch: Paper(), hand_over_s=0.1)
    assert (teardown.verdict, teardown.command) == ("unknown", f"rentune down {run_id}")


@pytest.mark.parametrize(
    ("suspended", "words"),
    [(True, "process {pid} is suspended. Wake it: kill -CONT {pid}"), (False, "for process {pid} to let go")],
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
        end(run_id, places=places, display=display, make=lambda _launch: Paper(), hand_over_s=0.3)
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
        end(run_id, places=places, display=display, make=lambda _launch: Paper(), hand_over_s=3.0)
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
        assert end(run_id, places=places, display=Quiet(), make=lambda _launch: Paper(), discard=discard).clean
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
    held = read_run(run_id, places=places, ledger=ledger, make=lambda _claim: paper, display=Quiet(), clocks=clocks)
    teardown = control.end_with_books(with_held_clock(dataclasses.replace(held, connect=nobody_answers)))
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
        assert end(run_id, places=places, display=Quiet(), make=lambda _launch: Paper()) == gone
    assert other_process.is_running()
    assert other_process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("words", [["down", ""], ["down", "--orphans", ""], ["logs", ""], ["resume", ""], ["report", ""]])
def test_an_empty_id_fits_no_run(run_id: str, words: list[str], ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    """An unset variable in a script must not end the only run there is."""
    assert call(words) == Exit.REFUSED
    assert "The run's id is empty." in capsys.readouterr().err
    assert ledger.runs()[run_id].teardown is None


def test_a_part_that_fits_several_runs_names_them(run_id: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    """The newest five: what to type is one of these."""
    others = [f"{run_id[:9]}99999{number}-abcd" for number in range(5)]
    for other in others:
        ledger.append(msgspec.structs.replace(ledger.runs()[run_id].opened, run_id=other))
    assert call(["logs", run_id[:8]]) == Exit.REFUSED
    assert f"6 runs fit {run_id[:8]!r}: …, {', '.join(others)}." in capsys.readouterr().err


def test_a_letter_or_two_end_no_run(run_id: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    """They are enough to look at the only run there is."""
    assert call(["down", run_id[-2:]]) == Exit.REFUSED
    assert "type at least 4 letters" in capsys.readouterr().err
    assert ledger.runs()[run_id].teardown is None
    assert call(["down", run_id[-4:]]) == Exit.OK


def test_down_waits_for_as_long_as_a_cloud_may_take() -> None:
    """The trainer leaves, a result comes home, and the provisioner takes its worst time."""
    slow = Paper()
    slow.worst_teardown_s = 4000.0
    assert longest_end_s(slow) >= MOST_S + ANSWER_S + RESCUE_S + 4000.0


def test_a_run_that_asked_for_nothing_is_ended_without_its_providers_sdk(run_id: str, places: Places, ledger: Ledger) -> None:
    """The part that is missing would have nothing to do."""

    def make(_claim: Claim) -> Paper:
        raise MissingPart("The SDK is not installed.")

    assert end(run_id, places=places, display=Quiet(), make=make).clean
    assert ledger.runs()[run_id].billed is not None


def test_one_that_asked_is_not(run_id: str, places: Places, ledger: Ledger) -> None:
    """A box may be there: the verdict is unknown and says what is missing."""
    ledger.append(attempted(run_id, at_s=1.0))

    def make(_claim: Claim) -> Paper:
        raise MissingPart("The SDK is not installed.", hint="Install it.")

    told = ended_or_told(run_id, lambda: end(run_id, places=places, display=Quiet(), make=make))
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
    assert end(run_id, places=places, display=Quiet(), make=lambda _claim: paper).clean
    written = ledger.path.read_bytes()
    assert end(run_id, places=places, display=Quiet(), make=lambda _claim: paper).clean
    assert ledger.path.read_bytes() == written, "nothing was there, and nothing is written"
    paper.boxes[run_id] = box
    again = end(run_id, places=places, display=Quiet(), make=lambda _claim: paper)
    assert (again.verdict, paper.boxes) == ("destroyed", {})
    assert ledger.path.read_bytes() != written
    paper.boxes[run_id], paper.stubborn = box, True
    assert end(run_id, places=places, display=Quiet(), make=lambda _claim: paper).verdict == "orphaned"


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
    assert end(run_id, places=places, display=Quiet(), make=lambda _claim: paper).kept == ()
    paper.kept = (Resource(kind="volume", id="vol-1", run_id=run_id, name="models"),)
    assert end(run_id, places=places, display=Quiet(), make=lambda _claim: paper).kept == paper.kept
    assert ledger.runs()[run_id].kept == paper.kept
    written = ledger.path.read_bytes()
    assert end(run_id, places=places, display=Quiet(), make=lambda _claim: paper).kept == paper.kept
    assert ledger.path.read_bytes() == written


def test_what_is_ended_of_a_run_that_was_over_is_written_into_its_ledger(run_id: str, places: Places, ledger: Ledger) -> None:
    """Whoever reads the book must find all that the run had, and when it went; what does not go bills on, and stands there."""
    first, late = (Resource(kind="instance", id=id, run_id=run_id) for id in ("i-1", "i-late"))
    ledger.append(attempted(run_id, at_s=1.0))
    gone = ResourceEnd(resource=first, gone=Answer.YES, at_s=2.0)
    ledger.append(Ended(run_id=run_id, at_s=2.0, teardown=Teardown.destroyed(run_id, "", resources=(gone,))))
    provider = ledger.runs()[run_id].provider
    sky = Told()
    end_it = partial(end_stray, run_id, provider, places=places, environment={}, make=lambda _claim: sky)

    written = ledger.path.read_bytes()
    assert end_it().clean
    assert ledger.path.read_bytes() == written, "nothing was there, and nothing is written"
    sky.boxes[run_id], sky.stubborn = late, True
    assert end_it().verdict == "orphaned"
    assert ledger.runs()[run_id].standing == "asked"
    sky.stubborn = False
    assert end_it().clean
    state = ledger.runs()[run_id]
    assert state.over
    assert state.teardown is not None
    assert [(end.resource.id, end.gone) for end in state.teardown.resources] == [("i-1", Answer.YES), ("i-late", Answer.YES)]


def test_a_stray_of_a_run_that_nobody_here_knows_is_ended_and_written_nowhere(places: Places, ledger: Ledger) -> None:
    sky = Told()
    sky.boxes["stranger"] = Resource(kind="instance", id="i-late", run_id="stranger")
    assert end_stray("stranger", "aws", places=places, environment={}, make=lambda _claim: sky).clean
    assert (sky.boxes, ledger.runs(), places.run("stranger").root.exists()) == ({}, {}, False)


def test_a_run_that_goes_on_has_no_strays(run_id: str, places: Places, ledger: Ledger) -> None:
    """Between two attempts a controller may live, which looks itself; what it rents next must not be ended under it."""
    between_attempts(run_id, ledger)
    written, sky = ledger.path.read_bytes(), Told()
    sky.boxes[run_id] = Resource(kind="instance", id="i-late", run_id=run_id)
    with pytest.raises(Held, match="is not over"):
        end_stray(run_id, "aws", places=places, environment={}, make=lambda _claim: sky)
    assert (list(sky.boxes), ledger.path.read_bytes()) == ([run_id], written)


@pytest.mark.parametrize("meant", [False, True])
def test_a_stray_whose_run_somebody_has_in_hand_is_left_alone(run_id: str, places: Places, ledger: Ledger, meant: bool) -> None:
    """Its controller closes the books, or has just taken it up: the look that called it a stray was before that. One whose
    deadline has passed is ended all the same.
    """
    ledger.append(attempted(run_id, at_s=1.0))
    ledger.append(Ended(run_id=run_id, at_s=2.0, teardown=Teardown.destroyed(run_id, "")))
    sky = Told()
    sky.boxes[run_id] = Resource(kind="instance", id="i-late", run_id=run_id)
    with places.run(run_id).lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Held, match="is controlled by"):
            end_stray(run_id, "aws", places=places, environment={}, make=lambda _claim: sky)
        assert list(sky.boxes) == [run_id]
        if meant:
            assert end_stray(run_id, "aws", places=places, environment={}, make=lambda _claim: sky, meant=True).clean
    assert end_stray(run_id, "aws", places=places, environment={}, make=lambda _claim: sky).clean
    assert sky.boxes == {}


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
            end(run_id, places=places, display=display, make=lambda _claim: paper, meant=False)
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
        patched.setattr("provision.charge.handover.os.kill", denied)
        fcntl.flock(held, fcntl.LOCK_EX)
        end_it = partial(end, run_id, places=places, display=Quiet(), make=lambda _claim: Paper())
        told = control.told_if_it_bills(run_id, ledger, end_it)
    assert told.verdict == "unknown"
    assert f"Process {other_process.pid}, which controls run {run_id}, is another user's" in told.message
    assert told.message.endswith(f"As that user: rentune down {run_id}")


def controlled_by(process: psutil.Process, run_id: str) -> Controlled:
    return Controlled(run_id=run_id, at_s=1.0, pid=process.pid, process_started_s=process.create_time(), boot_id=boot_id())


class Told(Paper):
    """Names what it has ended."""

    def destroy(self, claim: Claim, in_charge: InCharge = unshared) -> Teardown:
        held, teardown = self.boxes.get(claim.run_id), super().destroy(claim, in_charge)
        if held is None or not teardown.clean:
            return teardown
        return msgspec.structs.replace(teardown, resources=(ResourceEnd(resource=held, gone=Answer.YES, at_s=9.0),))


def test_a_run_that_left_things_at_two_clouds_is_ended_at_both(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """It went from one to the other on a computer that is lost: by run alone one of them would stand, and exit 0 be said."""
    clouds = {"aws": Paper(), "hetzner": Paper()}
    for name, kind in (("aws", "instance"), ("hetzner", "key_pair")):
        left = Resource(kind=kind, id=name, run_id="r9", installation="here", deadline_at_s=1.0, bills=kind == "instance")
        clouds[name].boxes["r9"] = left

    def look(_places: Places) -> Orphans:
        owned = {name: cloud.owned() for name, cloud in clouds.items()}
        return find_orphans({}, owned, installation="here", now_s=2.0)

    really = end_stray
    monkeypatch.setattr(ending, "look_for_orphans", look)
    monkeypatch.setattr(ending, "end_stray", lambda *of, **more: really(*of, **more, make=lambda claim: clouds[claim.provider]))
    done = ending.end_orphans(places, None, discard=False)
    assert [each.verdict for each in done.teardowns] == ["destroyed", "destroyed"]
    assert not any(cloud.boxes for cloud in clouds.values())
