"""The account book: what was written is there after a crash, and folds into what a run is."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from provision.account.bill import billed_s
from provision.account.ledger import Ledger, damage
from provision.account.lines import AnyLine, Billed, Controlled, Created, Ended, Opened, PhaseEnded, PhaseStarted, Tried
from provision.account.runs import Standing, fold
from provision.errors import Reason, Scope
from provision.seam import Answer, Box, Resource, ResourceEnd, Teardown
from tests.provision.plans import FREE, attempted

OPENED = Opened(
    run_id="r1",
    at_s=100.0,
    owner="me",
    provider="local",
    region="here",
    instance_type="this-machine",
    model="tiny",
    usd_per_hour=Decimal("1.25"),
    billing=FREE,
    max_usd=Decimal(5),
    deadline_at_s=1000.0,
    tags={"team": "search"},
    versions={"rentune": "0.1.0"},
    folder="/runs/r1",
)
BOX = Box(run_id="r1", provider="local", host="127.0.0.1", port=2222, user="me", host_key="ssh-ed25519 AAAA", folder="/box")
GONE = Teardown.destroyed("r1", "")
STUCK = Teardown.orphaned("r1", "")

BILLED = Billed(
    run_id="r1",
    at_s=201.0,
    exit_code=0,
    trained=True,
    planned_usd=Decimal("0.1"),
    metered_usd=Decimal("0.12"),
    wall_s=101.0,
)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "home" / "ledger.jsonl")


def write(ledger: Ledger, *lines: AnyLine) -> None:
    for line in lines:
        ledger.append(line)


def test_every_line_reads_back_equal(ledger: Ledger) -> None:
    """Prices stay exact, and the file belongs to its owner alone."""
    lines: tuple[AnyLine, ...] = (
        OPENED,
        Controlled(run_id="r1", at_s=101.0, pid=7, process_started_s=99.0, boot_id="b"),
        attempted("r1", at_s=102.0),
        PhaseStarted(run_id="r1", at_s=102.0, phase="create"),
        Created(run_id="r1", at_s=103.0, box=BOX),
        PhaseEnded(run_id="r1", at_s=103.0, phase="create", duration_s=1.0, ok=True),
        Ended(run_id="r1", at_s=200.0, teardown=GONE),
        Billed(
            run_id="r1",
            at_s=201.0,
            exit_code=0,
            trained=True,
            planned_usd=Decimal("0.1"),
            metered_usd=Decimal("0.12"),
            wall_s=101.0,
        ),
    )
    write(ledger, *lines)
    assert tuple(ledger.lines()) == lines
    assert ledger.path.stat().st_mode & 0o777 == 0o600


def test_a_run_is_folded_from_its_lines(ledger: Ledger) -> None:
    """Phase, box and rental are where the lines left them."""
    write(
        ledger,
        OPENED,
        attempted("r1", at_s=110.0, deadline_at_s=900.0),
        PhaseStarted(run_id="r1", at_s=110.0, phase="create"),
        Created(run_id="r1", at_s=120.0, box=BOX),
        PhaseEnded(run_id="r1", at_s=120.0, phase="create", duration_s=10.0, ok=True),
        PhaseStarted(run_id="r1", at_s=121.0, phase="boot"),
    )
    state = ledger.runs()["r1"]
    assert (state.phase, state.box, state.deadline_at_s, state.over) == ("boot", BOX, 900.0, False)
    assert state.phase_s == {"create": 10.0}
    assert [(rental.asked_at_s, rental.up_at_s, rental.ended_at_s) for rental in state.rentals] == [(110.0, 120.0, None)]


@pytest.mark.parametrize(
    ("since_s", "from_s"),
    [
        ((), 110.0),
        ((115.0,), 115.0),
        ((118.0, 115.0), 115.0),
        ((None, 115.0), 110.0),
        ((100.0,), 100.0),
        ((-200.0,), 110.0),
        ((421.0,), 110.0),
    ],
    ids=["nothing", "one", "the first of two", "one of two", "by a clock behind", "before it was asked", "after it ran"],
)
def test_a_box_is_billed_from_when_its_provider_made_it(
    ledger: Ledger, since_s: tuple[float | None, ...], from_s: float
) -> None:
    """By the provider's own word, as it came with the box or was seen at its end; without one, from when it was asked for."""
    machines = tuple(Resource(kind="instance", id=str(at_s), since_s=at_s) for at_s in since_s)
    seen = (*machines, Resource(kind="key_pair", id="k", bills=False))
    ends = tuple(ResourceEnd(resource=each, gone=Answer.YES, at_s=200.0) for each in seen)
    told = msgspec.structs.replace(BOX, resources=seen)
    for run_id, box, left in (("told", told, ()), ("seen", BOX, ends)):
        write(ledger, msgspec.structs.replace(OPENED, run_id=run_id), attempted(run_id, at_s=110.0))
        write(ledger, Created(run_id=run_id, at_s=120.0, box=box))
        gone = msgspec.structs.replace(GONE, run_id=run_id, resources=left)
        write(ledger, Ended(run_id=run_id, at_s=200.0, teardown=gone))
        [rental] = ledger.runs()[run_id].rentals
        assert (rental.started_at_s, rental.making_s) == (from_s, 120.0 - from_s), run_id


def test_what_was_made_and_declined_is_billed_from_its_making(ledger: Ledger) -> None:
    """It never ran, and its provider bills it all the same."""
    pod = Resource(kind="instance", id="p", since_s=130.0)
    gone = msgspec.structs.replace(GONE, resources=(ResourceEnd(resource=pod, gone=Answer.YES, at_s=200.0),))
    write(ledger, OPENED, attempted("r1", at_s=110.0))
    write(ledger, PhaseEnded(run_id="r1", at_s=190.0, phase="create", duration_s=80.0, ok=False))
    write(ledger, Ended(run_id="r1", at_s=201.0, teardown=gone))
    [rental] = ledger.runs()["r1"].rentals
    assert (rental.created, rental.bought, rental.started_at_s, rental.ended_at_s) == (False, True, 130.0, 200.0)


def test_a_volume_s_own_bill_is_no_box_s(ledger: Ledger) -> None:
    """No box came, and the end showed only what was to outlive one."""
    volume = Resource(kind="volume", id="v", name="models", since_s=150.0)
    gone = msgspec.structs.replace(GONE, resources=(ResourceEnd(resource=volume, gone=Answer.YES, at_s=200.0),))
    write(ledger, OPENED, attempted("r1", at_s=110.0))
    write(ledger, PhaseEnded(run_id="r1", at_s=190.0, phase="create", duration_s=80.0, ok=False))
    write(ledger, Ended(run_id="r1", at_s=201.0, teardown=gone))
    [rental] = ledger.runs()["r1"].rentals
    assert (rental.bought, rental.started_at_s, rental.ended_at_s) == (False, 110.0, 201.0)


def test_a_volume_is_worth_keeping_once_the_environment_was_built_beside_it(ledger: Ledger) -> None:
    """Before that whatever the attempt made is blank; what an attempt before had filled is not, wherever this one stands."""

    def used() -> frozenset[str] | None:
        return ledger.runs()["r1"].used_volumes

    def built(*, ok: bool) -> PhaseEnded:
        return PhaseEnded(run_id="r1", at_s=3.0, phase="environment", duration_s=1.0, ok=ok)

    write(ledger, OPENED)
    assert used() is None, "nothing was asked for"
    write(ledger, attempted("r1", at_s=1.0))
    assert used() == frozenset()
    write(ledger, Created(run_id="r1", at_s=2.0, box=BOX), built(ok=False))
    assert used() == frozenset(), "a box ran, and nothing that it did there came to anything"
    write(ledger, built(ok=True))
    assert used() is None
    assert ledger.runs()["r1"].filled_volumes is None, "it had asked for none"
    volume = Resource(kind="volume", id="v", name="models")
    write(ledger, Ended(run_id="r1", at_s=4.0, teardown=msgspec.structs.replace(GONE, kept=(volume,))))
    write(ledger, attempted("r1", at_s=5.0))
    assert used() == frozenset({"v"})
    write(ledger, msgspec.structs.replace(attempted("r1", at_s=6.0), volume_gib=12), built(ok=True))
    assert (used(), ledger.runs()["r1"].filled_volumes) == (None, frozenset({"v"})), "those before it, and its own"


def test_seconds_of_a_phase_that_was_entered_twice_add_up(ledger: Ledger) -> None:
    """A resumed run boots again; both count."""
    twice = [PhaseEnded(run_id="r1", at_s=1.0, phase="boot", duration_s=seconds, ok=True) for seconds in (2.0, 3.0)]
    write(ledger, OPENED, *twice)
    assert ledger.runs()["r1"].phase_s == {"boot": 5.0}


def test_seconds_of_a_phase_belong_to_the_box_that_stood(ledger: Ledger) -> None:
    """The first is ended before the second is asked for; its teardown is timed to the end after that."""
    write(ledger, OPENED)
    for seconds in (2.0, 3.0):
        write(ledger, attempted("r1", at_s=1.0))
        write(ledger, Created(run_id="r1", at_s=2.0, box=BOX))
        write(ledger, PhaseEnded(run_id="r1", at_s=3.0, phase="boot", duration_s=seconds, ok=True))
        write(ledger, Ended(run_id="r1", at_s=4.0, teardown=GONE))
        write(ledger, PhaseEnded(run_id="r1", at_s=5.0, phase="teardown", duration_s=1.0, ok=True))
    state = ledger.runs()["r1"]
    assert [rental.phase_s for rental in state.rentals] == [{"boot": 2.0, "teardown": 1.0}, {"boot": 3.0, "teardown": 1.0}]
    assert state.phase_s == {"boot": 5.0, "teardown": 2.0}


def test_lines_of_several_machines_fold_alike_however_a_home_has_them_sorted(ledger: Ledger) -> None:
    """By who took charge when, then by their number; those of before there were numbers stay as they were written."""
    old: tuple[AnyLine, ...] = (OPENED, attempted("r1", at_s=102.0), Created(run_id="r1", at_s=103.0, box=BOX))
    numbered: tuple[AnyLine, ...] = (
        PhaseStarted(run_id="r1", at_s=190.0, phase="fetch", taking=1, number=4),
        Ended(run_id="r1", at_s=200.0, teardown=GONE, taking=1, number=5),
        PhaseStarted(run_id="r1", at_s=150.0, phase="create", taking=2, number=4),
        msgspec.structs.replace(attempted("r1", at_s=160.0), taking=2, number=5),
        PhaseEnded(run_id="r1", at_s=170.0, phase="create", duration_s=1.0, ok=True, taking=2, number=6),
        PhaseEnded(run_id="r1", at_s=170.0, phase="create", duration_s=2.0, ok=True, taking=2, number=6),
    )
    states = [fold((*old, *late))["r1"] for late in itertools.permutations(numbered)]
    assert all(state == states[0] for state in states)
    assert ([rental.ended_at_s for rental in states[0].rentals], states[0].phase) == ([200.0, None], "create")


def test_only_a_clean_teardown_ends_a_run(ledger: Ledger) -> None:
    """An orphaned box goes on billing until a later `down` is clean."""
    write(ledger, OPENED, attempted("r1", at_s=110.0), Created(run_id="r1", at_s=120.0, box=BOX))
    write(ledger, Ended(run_id="r1", at_s=200.0, teardown=STUCK))
    assert not ledger.runs()["r1"].over
    assert ledger.runs()["r1"].rentals[-1].ended_at_s is None
    write(ledger, Ended(run_id="r1", at_s=300.0, teardown=GONE))
    assert ledger.runs()["r1"].over
    assert ledger.runs()["r1"].rentals[-1].ended_at_s == 300.0


def test_a_box_that_nobody_saw_is_billed_to_its_deadline_at_most(ledger: Ledger) -> None:
    """Killed while it asked: the box may have come, and ended by itself long before somebody looks."""
    write(ledger, OPENED, attempted("r1", at_s=110.0, deadline_at_s=1000.0))
    write(ledger, Ended(run_id="r1", at_s=5000.0, teardown=GONE))
    [rental] = ledger.runs()["r1"].rentals
    assert (rental.bought, rental.ended_at_s) == (True, 1000.0)


@pytest.mark.parametrize(
    ("off_since_s", "bills_when_off", "billed_to_s"),
    [
        pytest.param(700.0, False, 700.0, id="since its provider's word"),
        pytest.param(None, False, 1000.0, id="else since its deadline: nothing but that switches it off"),
        pytest.param(700.0, True, 5000.0, id="to its end where a machine that is off is billed like one that runs"),
        pytest.param(700.0, None, 5000.0, id="and where nobody says whether it is"),
    ],
)
def test_a_machine_that_is_found_switched_off_is_billed_until_it_was(
    ledger: Ledger, off_since_s: float | None, bills_when_off: bool | None, billed_to_s: float
) -> None:
    """It asked for its own end and was given a stop; hours later somebody deletes it."""
    off = Resource(kind="instance", id="i", runs=Answer.NO, off_since_s=off_since_s, off_gib=40)
    ended = msgspec.structs.replace(GONE, resources=(ResourceEnd(resource=off, gone=Answer.YES, at_s=5000.0),))
    asked = attempted("r1", at_s=110.0, deadline_at_s=1000.0)
    rule = msgspec.structs.replace(asked.billing, stopped_compute_bills=bills_when_off)
    write(ledger, OPENED, msgspec.structs.replace(asked, billing=rule), Created(run_id="r1", at_s=120.0, box=BOX))
    write(ledger, Ended(run_id="r1", at_s=5001.0, teardown=ended))
    [rental] = ledger.runs()["r1"].rentals
    assert billed_s(rental, now_s=9000.0) == billed_to_s - rental.started_at_s
    assert rental.off_gib == 40


def test_a_verdict_that_is_taken_back_opens_the_rental_again(ledger: Ledger) -> None:
    """Whoever resumes then looks for the box that is still listed, and asks for no other."""
    write(ledger, OPENED, attempted("r1", at_s=110.0), Created(run_id="r1", at_s=120.0, box=BOX))
    write(ledger, Ended(run_id="r1", at_s=200.0, teardown=GONE), Ended(run_id="r1", at_s=201.0, teardown=STUCK))
    state = ledger.runs()["r1"]
    assert (state.standing, state.rentals[-1].ended_at_s) == (Standing.UP, None)


def test_where_a_run_stands_follows_from_its_lines(ledger: Ledger) -> None:
    """No phase says whether a box was asked for: that has a line of its own."""
    declined = Tried(
        run_id="r1", at_s=121.0, offer="o", reason=Reason.CAPACITY, scope=Scope.OFFER, message="", took_s=1.0, usd=Decimal(0)
    )
    for line, standing in (
        (OPENED, Standing.OPENED),
        (PhaseStarted(run_id="r1", at_s=101.0, phase="create"), Standing.OPENED),
        (attempted("r1", at_s=110.0), Standing.ASKED),
        (Ended(run_id="r1", at_s=120.0, teardown=GONE), Standing.OVER),
        (declined, Standing.BETWEEN),
        (Ended(run_id="r1", at_s=122.0, teardown=GONE), Standing.OVER),
        (declined, Standing.BETWEEN),
        (attempted("r1", at_s=130.0), Standing.ASKED),
        (Created(run_id="r1", at_s=140.0, box=BOX), Standing.UP),
        (Ended(run_id="r1", at_s=150.0, teardown=STUCK), Standing.UP),
        (Ended(run_id="r1", at_s=160.0, teardown=GONE), Standing.OVER),
    ):
        write(ledger, line)
        assert ledger.runs()["r1"].standing == standing
    assert [rental.tried for rental in ledger.runs()["r1"].rentals] == [declined, None]


def test_a_second_host_key_is_not_a_second_box(ledger: Ledger) -> None:
    """The replaced key writes another Created line for the same rental, which was up all the while."""
    write(ledger, OPENED, attempted("r1", at_s=110.0))
    write(ledger, Created(run_id="r1", at_s=120.0, box=BOX), Created(run_id="r1", at_s=130.0, box=BOX))
    assert [rental.up_at_s for rental in ledger.runs()["r1"].rentals] == [120.0]


def test_an_attempt_that_has_ended_keeps_its_end(ledger: Ledger) -> None:
    """The verdict on the next one is none on it: it would be billed for all the time in between."""
    write(ledger, OPENED, attempted("r1", at_s=110.0), Ended(run_id="r1", at_s=210.0, teardown=GONE))
    write(ledger, attempted("r1", at_s=600.0), Ended(run_id="r1", at_s=700.0, teardown=GONE))
    assert [rental.ended_at_s for rental in ledger.runs()["r1"].rentals] == [210.0, 700.0]


def test_a_line_torn_by_a_power_cut_costs_only_itself(ledger: Ledger) -> None:
    """What comes after it is read, and what came before."""
    write(ledger, OPENED)
    with ledger.path.open("ab") as file:
        file.write(b'{"kind":"created","run_id":"r1","at_')
    write(ledger, Ended(run_id="r1", at_s=200.0, teardown=GONE))
    assert [type(line) for line in ledger.lines()] == [Opened, Ended]


def test_lines_of_a_newer_version_are_passed_over_and_kept(ledger: Ledger) -> None:
    """An older program must not stumble over what it does not know."""
    write(ledger, OPENED)
    with ledger.path.open("ab") as file:
        file.write(b'{"kind":"preempted","run_id":"r1","at_s":5}\n')
    write(ledger, Ended(run_id="r1", at_s=200.0, teardown=GONE))
    assert ledger.runs()["r1"].over
    assert b"preempted" in ledger.path.read_bytes()


def test_no_file_is_no_runs(ledger: Ledger) -> None:
    """Looking creates nothing."""
    assert ledger.runs() == {}
    assert not ledger.path.parent.exists()


def test_a_line_that_a_full_disk_takes_only_half_of_is_not_said_to_be_written(ledger: Ledger) -> None:
    """The first write is short without an error; the caller must not go on to rent, and no half line stays behind."""
    write(ledger, OPENED)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ledger.path.stat().st_size + 20, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            ledger.append(BILLED)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (list(ledger.lines()), damage(ledger)) == ([OPENED], None)
    write(ledger, BILLED)
    assert (list(ledger.lines()), damage(ledger)) == ([OPENED, BILLED], None)


def test_what_another_process_appends_is_seen_at_once(ledger: Ledger) -> None:
    """The fold is kept only for as long as the file has not grown."""
    write(ledger, OPENED)
    first = ledger.runs()["r1"]
    assert ledger.runs()["r1"] is first
    Ledger(ledger.path).append(BILLED)
    assert ledger.runs()["r1"].billed == BILLED


@pytest.mark.parametrize(
    "raw", [b'{"kind":"opened","run_id":"r2","at_', b"\0\0\0", b'{"kind":"opened","run_id":"\xff"}', b"[" * 200_000]
)
def test_a_line_that_cannot_be_read_is_named(ledger: Ledger, raw: bytes) -> None:
    """It may have opened a run; a line of a newer kind is none of these."""
    write(ledger, OPENED)
    with ledger.path.open("ab") as file:
        file.write(raw + b'\n{"kind":"preempted","run_id":"r1","at_s":5}\n')
    assert ledger.unreadable() == (2,)
    assert list(ledger.runs()) == ["r1"]
    assert damage(ledger) == f"line 2 of {ledger.path} can't be read, so a run may be missing here"


def test_who_writes_waits_for_who_is_writing(ledger: Ledger) -> None:
    """What is already there is looked up under the same lock: else two that copy would each find it missing."""
    ledger.append(OPENED)
    written = ledger.path.read_bytes()
    with ledger.path.open("rb") as other, ThreadPoolExecutor(max_workers=1) as pool:
        fcntl.flock(other, fcntl.LOCK_EX)
        copied = pool.submit(ledger.copy_in, b'{"kind":"late"}')
        with pytest.raises(TimeoutError):
            copied.result(timeout=0.2)
        assert ledger.path.read_bytes() == written
        fcntl.flock(other, fcntl.LOCK_UN)
        copied.result(timeout=10.0)
    assert ledger.path.read_bytes() == written + b'{"kind":"late"}\n'


def test_lines_that_are_copied_in_at_one_moment_stand_there_once(ledger: Ledger, run_id: str) -> None:
    """A line of a rental that stood there twice would be a second rental."""
    other = Ledger(ledger.path.with_name("other.jsonl"))
    lines = ledger.raw_lines(run_id)
    assert lines
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda _: other.copy_in(*lines), range(8)))
    assert other.raw_lines(run_id) == lines


@pytest.mark.parametrize(
    ("good", "odd"),
    [
        (b'"usd_per_hour":"1.25"', b'"usd_per_hour":"Infinity"'),
        (b'"usd_per_hour":"1.25"', b'"usd_per_hour":"NaN"'),
        (b'"usd_per_hour":"1.25"', b'"usd_per_hour":"1e30"'),
        (b'"at_s":100.0', b'"at_s":1e300'),
        (b'"deadline_at_s":1000.0', b'"deadline_at_s":-1.0'),
    ],
)
def test_a_line_with_which_nothing_can_be_reckoned_is_damaged_and_ends_no_other_run(
    ledger: Ledger, good: bytes, odd: bytes
) -> None:
    """It is named, and the other runs are there."""
    write(ledger, OPENED)
    line = ledger.path.read_bytes()
    assert good in line
    ledger.path.write_bytes(line + line.replace(b'"r1"', b'"r2"').replace(good, odd))
    assert list(ledger.runs()) == ["r1"]
    assert ledger.unreadable() == (2,)


# ── the disk ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Disk:
    """What is asked of it, in order: which file or folder it is to have for good, and what that held by then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, failing: bool = False) -> None:
        self.has: list[tuple[str, int]] = []
        self.failing = failing
        monkeypatch.setattr(os, "fsync", self.sync)

    def sync(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        self.has.append((path.name, path.read_bytes().count(b"\n") if path.is_file() else 0))
        if self.failing:
            raise OSError(errno.EIO, "Input/output error")


def test_a_line_is_on_the_disk_before_its_append_returns(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, and after that the names of a file and a folder that are new: a power cut comes at any time."""
    disk = Disk(monkeypatch)
    ledger.append(OPENED)
    assert disk.has == [("ledger.jsonl", 1), ("home", 0), (tmp_path.name, 0)]
    disk.has.clear()
    ledger.append(attempted("r1", at_s=102.0))
    assert disk.has == [("ledger.jsonl", 2)]


def test_what_stands_around_a_line_is_left_only_once_the_disk_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, order = Disk(monkeypatch), list[int]()

    @contextmanager
    def around(_line: AnyLine) -> Iterator[None]:
        order.append(len(disk.has))
        yield
        order.append(len(disk.has))

    Ledger(tmp_path / "ledger.jsonl", around=around).append(OPENED)
    assert order[0] == 0
    assert order[1] > 0


def test_a_line_that_the_disk_does_not_take_was_never_written(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what was not agreed to by the disk would be believed by whoever reads it from memory, and rented for."""
    ledger.append(OPENED)
    Disk(monkeypatch, failing=True)
    with pytest.raises(OSError, match="Input/output error"):
        ledger.append(attempted("r1", at_s=102.0))
    assert list(ledger.lines()) == [OPENED]


def removed(path: Path) -> None:
    path.unlink()


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def put_back_older(path: Path) -> None:
    first, *_ = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first)


@pytest.mark.parametrize("lose", [removed, emptied, put_back_older])
def test_a_ledger_that_loses_a_run_gets_it_back_from_whoever_holds_it(ledger: Ledger, lose: Callable[[Path], None]) -> None:
    """Told once, byte for byte, before whatever is written next; others of its runs are not known to the holder."""
    write(ledger, OPENED, attempted("r1", at_s=102.0))
    notes: list[str] = []
    ledger.remember("r1", notes.append)
    write(ledger, Created(run_id="r1", at_s=103.0, box=BOX))
    before, lines = ledger.runs()["r1"], ledger.raw_lines("r1")
    for _ in range(2):
        lose(ledger.path)
        assert ledger.runs()["r1"] == before
        assert sorted(Ledger(ledger.path).raw_lines("r1")) == sorted(lines)
    assert notes == [f"{ledger.path} had lost run r1: what is known of it was written there again."]
    lose(ledger.path)
    write(ledger, Ended(run_id="r1", at_s=200.0, teardown=GONE))
    assert Ledger(ledger.path).runs()["r1"].over


def test_a_run_that_is_held_is_known_where_nothing_can_be_written(ledger: Ledger) -> None:
    """As it was last seen; a line that is written is refused as ever."""
    write(ledger, OPENED, attempted("r1", at_s=102.0))
    ledger.remember("r1")
    before = ledger.runs()["r1"]
    ledger.path.unlink()
    ledger.path.mkdir()
    assert ledger.runs() == {"r1": before}
    with pytest.raises(IsADirectoryError):
        write(ledger, Ended(run_id="r1", at_s=200.0, teardown=GONE))
    assert not ledger.runs()["r1"].over
