"""Who is in charge, and what has no owner."""

from __future__ import annotations

import fcntl
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from catalogs.hardware import Offer
from planner.plan import Plan
from planner.request import Budget
from provision.aboard.detached import ANSWER_S
from provision.account.ledger import Billed, Controlled, Created, Ended, Ledger, PhaseStarted
from provision.charge.control import end, ended_or_told, find_run, longest_end_s, told_if_cut_off
from provision.charge.controller import boot_id, in_control, is_alive, is_locked, is_orphan, this_process
from provision.charge.orphans import Orphans, find_orphans, only_run, other_sentences, stray_run_ids
from provision.cli import call
from provision.errors import BadInput, Exit, MissingPart, Refused, RentuneError
from provision.interrupt import interruptible
from provision.places import Places
from provision.prepare.inputs import find_base
from provision.prepare.opening import allowed_s, new_run_id, open_run, read_launch, require_time_to_train
from provision.providers import boxes_folder
from provision.provisioner import Answer, Box, Launch, Owned, Resource, ResourceEnd, Teardown
from provision.walk.crash import POINTS, read_crash_point
from provision.walk.phases import Display
from provision.walk.rescue import RESCUE_S
from provision.walk.training import STOP_PATIENCE_S
from remote.contract import Event
from tests.provision.plans import tiny_files, tiny_plan


class Silent:
    def phase(self, name: str) -> None: ...

    def note(self, sentence: str) -> None: ...

    def event(self, event: Event) -> None: ...


class Paper:
    """A provisioner whose machines are names on a list."""

    name = "local"
    list_lag_s = 0.0
    worst_teardown_s = 0.0

    def __init__(self) -> None:
        self.boxes: dict[str, Resource] = {}
        self.stubborn = False

    def up(self, offer: Offer, launch: Launch) -> Box:
        raise NotImplementedError

    def destroy(self, launch: Launch) -> Teardown:
        held = self.boxes.get(launch.run_id)
        if held is not None and self.stubborn:
            end_of = ResourceEnd(resource=held, gone=Answer.NO, at_s=0.0)
            command = f"rentune down {launch.run_id}"
            return Teardown(run_id=launch.run_id, verdict="orphaned", resources=(end_of,), message="No.", command=command)
        self.boxes.pop(launch.run_id, None)
        return Teardown(run_id=launch.run_id, verdict="destroyed", resources=(), message="")

    def owned(self, tag: str | None = None) -> Owned:
        found = tuple(box for run_id, box in self.boxes.items() if tag in (None, run_id))
        return Owned(resources=found, complete=Answer.YES)

    def console(self, launch: Launch) -> str:
        return ""


DISPLAY: Display = Silent()


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return tiny_plan(*tiny_files(tmp_path))


@pytest.fixture
def ledger(places: Places) -> Ledger:
    return Ledger(places.ledger)


@pytest.fixture
def run_id(plan: Plan, places: Places, ledger: Ledger) -> str:
    return open_run(plan, find_base(plan.request.model), places=places, ledger=ledger, clock=time.time)


@pytest.fixture
def other_process() -> Iterator[psutil.Process]:
    """A process of somebody else that goes on until it is ended."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    yield psutil.Process(process.pid)
    process.kill()
    process.wait()


# ── opening ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_intent_is_on_disk_before_anything_is_rented(run_id: str, places: Places, ledger: Ledger, plan: Plan) -> None:
    """Price, billing rule, deadline and the key are there; the folder is nobody else's."""
    state = ledger.runs()[run_id]
    opened = state.opened
    assert (opened.usd_per_hour, opened.billing, opened.provider) == (plan.offer.usd_per_hour, plan.billing, "local")
    folder = places.run(run_id)
    assert folder.root.stat().st_mode & 0o777 == 0o700
    launch = read_launch(folder, state)
    assert launch.public_key.startswith("ssh-ed25519 ")
    assert (launch.folder, launch.deadline_at_s) == (folder.root, opened.deadline_at_s)


def test_a_state_folder_that_cannot_be_written_is_bad_input(plan: Plan, tmp_path: Path) -> None:
    """Told before anything is rented, with the variable that names another."""
    (tmp_path / "file").touch()
    places = Places(home=tmp_path / "file", cache=tmp_path)
    with pytest.raises(BadInput, match="can't be written to: Not a directory") as refused:
        open_run(plan, find_base(plan.request.model), places=places, ledger=Ledger(places.ledger), clock=time.time)
    assert str(refused.value.hint).startswith("RENTUNE_HOME=")


def test_a_lost_directory_leaves_enough_to_destroy(run_id: str, places: Places, ledger: Ledger) -> None:
    """The ledger alone names run, owner, tags and deadline."""
    state = ledger.runs()[run_id]
    places.run(run_id).launch.unlink()
    launch = read_launch(places.run(run_id), state)
    assert (launch.run_id, launch.owner, launch.deadline_at_s) == (run_id, state.opened.owner, state.deadline_at_s)


DAMAGED = {"cut off": b'{"run_id": "r", "own', "of a wrong type": b"[1, 2]", "not text": b"\xff\xfe\x00", "empty": b""}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_launch_is_ended_by_its_tag(run_id: str, places: Places, ledger: Ledger, content: bytes) -> None:
    """`down` ends it and closes its books, `ls` lists it."""
    places.run(run_id).launch.write_bytes(content)
    assert call(["ls"]) == Exit.OK
    paper = Paper()
    paper.boxes[run_id] = Resource(kind="instance", id="i-1", run_id=run_id)
    assert end(run_id, places=places, display=DISPLAY, make=lambda _launch: paper).clean
    assert not paper.boxes
    assert ledger.runs()[run_id].billed is not None


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("paper", ["plan", "base", "launch"])
def test_a_run_with_a_damaged_paper_cannot_go_on(
    run_id: str, places: Places, paper: str, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence that names the file, and the command that ends the run."""
    file = places.run(run_id).root / f"{paper}.json"
    file.write_bytes(content)
    assert call(["resume", run_id]) == Exit.REFUSED
    assert capsys.readouterr().err == (
        f"Error: {file} is damaged, and the run can't go on without it.\nHint: rentune down {run_id}\n"
    )


def test_a_run_on_the_users_own_host_is_found_again_without_its_papers(run_id: str, places: Places, ledger: Ledger) -> None:
    """Address and host key of the box stand in the ledger, too."""
    box = Box(
        run_id=run_id, provider="host", host="fe80::1", port=2222, user="me", host_key="ssh-ed25519 A", folder="/f", ours=False
    )
    ledger.append(Created(run_id=run_id, at_s=1.0, box=box))
    places.run(run_id).launch.write_text("{")
    launch = read_launch(places.run(run_id), ledger.runs()[run_id])
    assert (launch.user_at_host, launch.host_key) == ("me@[fe80::1]:2222", "ssh-ed25519 A")


def test_books_that_cannot_be_closed_do_not_keep_a_box(run_id: str, places: Places, ledger: Ledger) -> None:
    """Without its plan a run has no report; it is ended all the same."""
    places.run(run_id).plan.write_text("{")
    assert end(run_id, places=places, display=DISPLAY, make=lambda _launch: Paper()).clean
    assert ledger.runs()[run_id].ended


def test_the_deadline_follows_from_plan_and_budget(plan: Plan) -> None:
    """p90 with slack; never past the hours, never past the money."""
    assert allowed_s(plan) == pytest.approx(16.0 * 1.3 * 1.5 + 600)

    def with_budget(budget: Budget) -> Plan:
        return msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, budget=budget))

    assert allowed_s(with_budget(Budget(max_hours=0.1))) == 360.0
    assert allowed_s(with_budget(Budget(max_usd=Decimal("0.36")))) == pytest.approx(0.95 * 360.0)
    assert allowed_s(with_budget(Budget(max_usd=Decimal(1000), max_hours=1000))) == allowed_s(plan)


def test_limits_that_leave_no_time_to_train_are_refused_before_anything_is_rented(plan: Plan) -> None:
    """Start-up, the result's way home and the teardown are planned to take 12 of the 16 seconds."""

    def within(max_hours: float) -> Plan:
        budget = Budget(max_hours=max_hours)
        return msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, budget=budget))

    with pytest.raises(Refused, match=r"limits of this plan leave 11\.0 s, and all but the training, .*, takes 12\.0 s"):
        require_time_to_train(within(11 / 3600))
    require_time_to_train(within(13 / 3600))


def test_where_time_is_not_money_the_deadline_is_patient(plan: Plan) -> None:
    """A machine of one's own may be busy with other work; what is late there costs nothing."""
    free = msgspec.structs.replace(plan, offer=msgspec.structs.replace(plan.offer, usd_per_hour=Decimal(0)))
    assert allowed_s(free) == pytest.approx(16.0 * 1.3 * 1.5 + 7200)


def test_run_ids_sort_by_time_and_never_meet() -> None:
    """They stand in file names, tags and consoles."""
    ids = [new_run_id(float(at_s)) for at_s in range(0, 100_000, 1000)]
    assert ids == sorted(ids)
    assert len({new_run_id(0.0) for _ in range(50)}) > 40


def test_a_run_is_found_by_a_part_of_its_id(run_id: str, ledger: Ledger) -> None:
    """The end of it is enough to type."""
    assert find_run(ledger, run_id[-4:]).run_id == run_id
    with pytest.raises(BadInput, match="There is no run"):
        find_run(ledger, "zzzz")


# ── in charge ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_process_is_in_charge_and_the_next_is_refused(run_id: str, places: Places, ledger: Ledger) -> None:
    """The refusal names the process that holds the run."""
    folder = places.run(run_id)
    with in_control(run_id, folder, ledger, clock=time.time):
        assert is_locked(folder)
        with pytest.raises(Refused, match="Another process controls run"), in_control(run_id, folder, ledger, clock=time.time):
            pass
    assert not is_locked(folder)


def test_a_pid_alone_means_nothing(other_process: psutil.Process) -> None:
    """The same pid with another start, or of another boot, is somebody else."""
    line = msgspec.structs.replace(
        this_process("r", at_s=0.0, detached=False),
        pid=other_process.pid,
        process_started_s=other_process.create_time(),
    )
    assert is_alive(line)
    assert not is_alive(msgspec.structs.replace(line, process_started_s=line.process_started_s - 60))
    assert not is_alive(msgspec.structs.replace(line, boot_id="another boot"))
    other_process.kill()
    other_process.wait()
    assert not is_alive(line)


def test_down_ends_what_nobody_controls_and_closes_its_books(run_id: str, places: Places, ledger: Ledger) -> None:
    """Ended, billed, and no orphan any more."""
    paper = Paper()
    paper.boxes[run_id] = Resource(kind="instance", id="i-1", run_id=run_id)
    teardown = end(run_id, places=places, display=DISPLAY, make=lambda _launch: paper)
    assert teardown.clean
    state = ledger.runs()[run_id]
    assert state.billed is not None
    assert not is_orphan(state)
    assert end(run_id, places=places, display=DISPLAY, make=lambda _launch: paper) == teardown


def test_what_down_could_not_end_stays_an_orphan(run_id: str, places: Places, ledger: Ledger) -> None:
    """The verdict is kept with the command that finishes it, and the next try may succeed."""
    paper = Paper()
    paper.boxes[run_id] = Resource(kind="instance", id="i-1", run_id=run_id)
    paper.stubborn = True
    assert end(run_id, places=places, display=DISPLAY, make=lambda _launch: paper).command == f"rentune down {run_id}"
    assert is_orphan(ledger.runs()[run_id])
    paper.stubborn = False
    assert end(run_id, places=places, display=DISPLAY, make=lambda _launch: paper).clean
    assert ledger.runs()[run_id].ended


def test_ctrl_c_once_too_often_says_what_may_bill(run_id: str, ledger: Ledger) -> None:
    """It cuts off the ending itself: with 3 where a box may live, with 130 once it is gone or was never asked for."""

    def cut_off() -> RentuneError:
        with pytest.raises(RentuneError) as told, told_if_cut_off(run_id, ledger):
            raise KeyboardInterrupt
        return told.value

    gone = Teardown(run_id=run_id, verdict="destroyed", resources=(), message="")
    for line, code, words in (
        (PhaseStarted(run_id=run_id, at_s=1.0, phase="prepare"), Exit.INTERRUPTED, f"Nothing of run {run_id} bills"),
        (PhaseStarted(run_id=run_id, at_s=2.0, phase="create"), Exit.STILL_BILLS, "may still bill"),
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
        teardown = end(run_id, places=places, display=DISPLAY, make=lambda _launch: Paper(), hand_over_s=0.1)
    assert (teardown.verdict, teardown.command) == ("unknown", f"rentune down {run_id}")


@pytest.mark.parametrize(("ending", "phase"), [(True, "train"), (False, "teardown"), (False, "confirm")])
def test_who_is_ending_a_run_is_waited_for_and_not_signalled(
    run_id: str, places: Places, ledger: Ledger, other_process: psutil.Process, ending: bool, phase: str
) -> None:
    """Two `down` at once, or one on a controller that has come to its end: the verdict is taken from whoever was first."""
    folder = places.run(run_id)
    started_s = other_process.create_time()
    gone = Teardown(run_id=run_id, verdict="destroyed", resources=(), message="By the other.")

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
        assert end(run_id, places=places, display=DISPLAY, make=lambda _launch: Paper()) == gone
    assert other_process.is_running()
    assert other_process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(("rented", "code"), [(True, Exit.STILL_BILLS), (False, Exit.REFUSED)])
def test_a_run_without_its_directory_cannot_go_on(
    run_id: str,
    places: Places,
    ledger: Ledger,
    rented: bool,
    code: Exit,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One sentence and the command that ends it; code 3 where its box may live."""
    if rented:
        ledger.append(PhaseStarted(run_id=run_id, at_s=1.0, phase="create"))
    shutil.rmtree(places.run(run_id).root)
    assert call(["resume", run_id]) == code
    assert capsys.readouterr().err == (
        f"Error: {places.run(run_id).plan} is missing, and the run can't go on without it.\nHint: rentune down {run_id}\n"
    )


@pytest.mark.parametrize("words", [["down", ""], ["down", "--orphans", ""], ["logs", ""], ["resume", ""], ["report", ""]])
def test_an_empty_id_fits_no_run(run_id: str, words: list[str], ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    """An unset variable in a script must not end the only run there is."""
    assert call(words) == Exit.REFUSED
    assert "The run's id is empty." in capsys.readouterr().err
    assert ledger.runs()[run_id].teardown is None


def test_a_letter_or_two_end_no_run(run_id: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    """They are enough to look at the only run there is."""
    assert call(["down", run_id[-2:]]) == Exit.REFUSED
    assert "Type at least 4 letters" in capsys.readouterr().err
    assert ledger.runs()[run_id].teardown is None
    assert call(["down", run_id[-4:]]) == Exit.OK


def test_down_waits_for_as_long_as_a_cloud_may_take() -> None:
    """The trainer leaves, a result comes home, and the provisioner takes its worst time."""
    slow = Paper()
    slow.worst_teardown_s = 4000.0
    assert longest_end_s(slow) >= STOP_PATIENCE_S + ANSWER_S + RESCUE_S + 4000.0


def test_a_look_at_the_lock_refuses_nobody(run_id: str, places: Places, ledger: Ledger) -> None:
    """Somebody who probes holds it for a moment; who takes charge in that moment waits."""
    folder = places.run(run_id)
    folder.lock.touch()
    with folder.lock.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.2, lambda: fcntl.flock(looking, fcntl.LOCK_UN)).start()
        with in_control(run_id, folder, ledger, clock=time.time):
            assert is_locked(folder)


def test_a_run_that_asked_for_nothing_is_ended_without_its_providers_sdk(run_id: str, places: Places, ledger: Ledger) -> None:
    """The part that is missing would have nothing to do."""

    def make(_launch: Launch) -> Paper:
        raise MissingPart("The SDK is not installed.")

    assert end(run_id, places=places, display=DISPLAY, make=make).clean
    assert ledger.runs()[run_id].billed is not None


def test_one_that_asked_is_not(run_id: str, places: Places, ledger: Ledger) -> None:
    """A box may be there: the verdict is unknown and says what is missing."""
    ledger.append(PhaseStarted(run_id=run_id, at_s=1.0, phase="create"))

    def make(_launch: Launch) -> Paper:
        raise MissingPart("The SDK is not installed.", hint="Install it.")

    told = ended_or_told(run_id, lambda: end(run_id, places=places, display=DISPLAY, make=make))
    assert (told.verdict, told.message) == ("unknown", "The SDK is not installed. Install it.")


def test_a_box_that_cannot_be_ended_does_not_keep_the_next_one(places: Places, plan: Plan, ledger: Ledger) -> None:
    """`down --orphans` with a run that can't be taken charge of: code 3, and the others are ended."""
    base = find_base(plan.request.model)
    blocked, sound = (open_run(plan, base, places=places, ledger=ledger, clock=time.time) for _ in range(2))
    places.run(blocked).lock.mkdir()
    assert call(["down", "--orphans"]) == Exit.STILL_BILLS
    assert ledger.runs()[sound].ended
    assert not ledger.runs()[blocked].ended


def test_two_signals_at_one_moment_are_one() -> None:
    """The second must not cut short the orderly stop that the first began."""
    with interruptible():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)


def test_a_closed_terminal_stops_only_what_nobody_takes_over() -> None:
    """Answered otherwise, the process goes on; under nohup it is not even heard."""
    with interruptible(lambda: True):
        signal.raise_signal(signal.SIGHUP)
    with interruptible(lambda: False), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGHUP)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


# ── orphans ────────────────────────────────────────────────────────────────────────────────────────────────────────


def resource(run_id: str | None, **tags: Any) -> Resource:
    return Resource(kind="instance", id=f"i-{run_id}", run_id=run_id, **tags)


def orphans(ledger: Ledger, owned: dict[str, Owned] | None = None) -> Orphans:
    return find_orphans(ledger.runs(), owned or {}, installation="here", now_s=1000.0)


def seen(*resources: Resource) -> dict[str, Owned]:
    return {"aws": Owned(resources=resources, complete=Answer.YES)}


def test_an_opened_run_without_a_controller_is_an_orphan(run_id: str, ledger: Ledger) -> None:
    """Opened and not ended, and its process is gone."""
    assert [state.run_id for state in orphans(ledger).runs] == [run_id]
    ledger.append(this_process(run_id, at_s=1.0, detached=False))
    assert orphans(ledger).nothing
    ledger.append(Controlled(run_id=run_id, at_s=2.0, pid=1, process_started_s=0.0, boot_id=boot_id()))
    assert len(orphans(ledger).runs) == 1


def test_what_was_rented_from_here_is_a_stray_when_no_run_of_the_ledger_lives_by_it(run_id: str, ledger: Ledger) -> None:
    """A ledger that was lost hides nothing; a teardown that was believed is not the last word."""
    gone = Teardown(run_id=run_id, verdict="destroyed", resources=(), message="")
    assert not orphans(ledger, seen(resource(run_id))).strays
    ledger.append(Ended(run_id=run_id, at_s=1.0, teardown=gone))
    found = orphans(ledger, seen(resource(run_id), resource("lost", installation="here")))
    assert stray_run_ids(found) == {run_id: "aws", "lost": "aws"}
    assert stray_run_ids(orphans(ledger, {"local": seen(resource("folder"))["aws"]})) == {"folder": "local"}


def test_somebody_else_s_box_is_shown_and_left_alone_until_its_deadline(ledger: Ledger) -> None:
    """A shared account: a colleague's run trains on it. Past its deadline nobody can want it; named, the user wants it gone."""
    theirs = resource("theirs", installation="there", deadline_at_s=1001.0, owner="bob")
    over = resource("over", installation="there", deadline_at_s=999.0)
    untold = resource("untold")
    found = orphans(ledger, seen(theirs, over, untold, resource(None)))

    assert stray_run_ids(found) == {"over": "aws"}
    assert {each.run_id for _, each in found.others} == {"theirs", "untold", None}
    assert any("bob" in sentence and "rentune down --orphans theirs" in sentence for sentence in other_sentences(found))
    assert stray_run_ids(only_run(found, "theirs")) == {"theirs": "aws"}


def test_a_provider_that_cannot_be_asked_is_named(ledger: Ledger) -> None:
    """Not seeing anything is not the same as there being nothing."""
    found = find_orphans(
        {}, {"aws": Owned(resources=(), complete=Answer.UNKNOWN, message="no credentials")}, installation=None, now_s=0.0
    )
    assert found.unseen == {"aws": "no credentials"}
    assert not found.nothing


@pytest.mark.parametrize("words", [["ls", "--orphans"], ["down", "--orphans"]])
def test_a_damaged_ledger_is_not_a_clean_look(
    run_id: str, ledger: Ledger, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The line may have been the only sign of a box: code 3, and its number."""
    ledger.append(
        Ended(run_id=run_id, at_s=1.0, teardown=Teardown(run_id=run_id, verdict="destroyed", resources=(), message=""))
    )
    with ledger.path.open("ab") as file:
        file.write(b'{"kind":"op\n')
    assert call(words) == Exit.STILL_BILLS
    assert "line 3 of" in capsys.readouterr().err
    assert call(["ls"]) == Exit.OK
    assert "Line 3 of" in capsys.readouterr().err


def test_a_run_in_other_hands_is_left_alone_and_named(
    run_id: str, ledger: Ledger, other_process: psutil.Process, capsys: pytest.CaptureFixture[str]
) -> None:
    """`down --orphans` does not pass over in silence what goes on billing."""
    line = Controlled(
        run_id=run_id, at_s=1.0, pid=other_process.pid, process_started_s=other_process.create_time(), boot_id=boot_id()
    )
    ledger.append(line)
    assert call(["down", "--orphans"]) == Exit.OK
    said = f"1 run is controlled by process {other_process.pid} and left alone; to end it: rentune down {run_id}.\n"
    assert capsys.readouterr().out == said


def test_a_report_that_cannot_be_written_or_read_is_one_sentence(
    run_id: str, places: Places, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that is not there, a folder itself, and a receipt that a crash has torn."""
    end(run_id, places=places, display=DISPLAY, make=lambda _launch: Paper())
    for target in (tmp_path / "nowhere" / "page.html", tmp_path):
        assert call(["report", run_id, "--html", str(target)]) == Exit.REFUSED
        assert f"Error: {target} can't be written: " in capsys.readouterr().err
    places.run(run_id).receipt.write_text("{")
    assert call(["report", run_id]) == Exit.REFUSED
    assert "is damaged." in capsys.readouterr().err


def test_down_takes_the_id_of_a_box_that_is_in_no_ledger(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    """What `ls --orphans` names is ended by its name; going on with it is not offered."""
    folder = boxes_folder(places) / "20260101-000000-aaaa"
    folder.mkdir(parents=True)
    assert call(["ls", "--orphans"]) == Exit.STILL_BILLS
    assert "rentune resume" not in capsys.readouterr().out
    assert call(["down", "20260101-000000-aaaa"]) == Exit.OK
    assert not folder.exists()


# ── crash points ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_crash_points_are_the_phases() -> None:
    """Before and after each; a misspelt one is refused rather than passed over."""
    assert read_crash_point({}) is None
    assert read_crash_point({"RENTUNE_CRASH_AT": "train"}) == "train:before"
    assert read_crash_point({"RENTUNE_CRASH_AT": "fetch:after"}) == "fetch:after"
    assert len(POINTS) == 28
    with pytest.raises(BadInput, match="names no crash point"):
        read_crash_point({"RENTUNE_CRASH_AT": "lunch"})
