"""A run's state in object storage: its book, who holds it, what of it is sealed, and how another home takes it up."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from planner.plan import Plan
from planner.saved import write_plan
from provision.account.ledger import Ledger
from provision.account.lines import Ended, PhaseStarted
from provision.account.runs import Standing
from provision.charge.ends.ending import end
from provision.cli import call
from provision.errors import BadInput, ControlLost, Exit, Refused, StoreFailed
from provision.home.places import Places
from provision.prepare.papers import read_launch
from provision.seam import Resource, Teardown
from provision.ssh.keys import client_key
from provision.state.book import Book, Holder, book_name, read_book, take
from provision.state.link import read_link
from provision.state.mirror import AGAIN_S
from provision.state.papers import pack, unpack
from provision.state.results import FINISHED
from provision.state.seal import locked, name_of, new_key, seal, unlocked, unseal
from provision.state.shared import PASSPHRASE, Place, bring, ledger_of, refresh, shared_runs, this_holder
from provision.store.bucket import Bucket
from provision.walk.edges import Edges
from remote.contract import EndReason, Measured, Outcome
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Paper
from tests.faults.standins import ADAPTER, WEIGHTS
from tests.provision.plans import as_its_files_are, attempted
from tests.provision.state.conftest import SECRET, Team


def entered(run_id: str, phase: str) -> PhaseStarted:
    return PhaseStarted(run_id=run_id, at_s=time.time(), phase=phase)


def phases(places: Places, run_id: str) -> list[str]:
    return [line.phase for line in Ledger(places.ledger).lines() if isinstance(line, PhaseStarted) and line.run_id == run_id]


# ── what is sealed ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_is_locked_by_a_passphrase() -> None:
    """And by no other."""
    key = new_key()
    lock = locked(key, SECRET)
    assert unlocked(lock, SECRET, variable="V") == key
    with pytest.raises(Refused, match="not the passphrase"):
        unlocked(lock, SECRET + ".", variable="V")


def test_sealed_papers_are_those_of_one_run() -> None:
    """Neither another run's nor changed ones are opened, and the name says nothing to whoever lacks the key."""
    key = new_key()
    sealed = seal(key, b"papers", run_id="r1")
    assert unseal(key, sealed, run_id="r1") == b"papers"
    for other, run_id in ((sealed, "r2"), (sealed[:-1] + bytes([sealed[-1] ^ 1]), "r1"), (b"", "r1")):
        with pytest.raises(Refused, match="damaged"):
            unseal(key, other, run_id=run_id)
    assert name_of(key, b"papers") == name_of(key, b"papers") != name_of(new_key(), b"papers")


def test_what_lies_in_the_store_shows_neither_key_nor_plan(team: Team) -> None:
    """Only the ledger's lines can be read there."""
    private = client_key(team.here.run(team.run_id).keys, run_id=team.run_id).private.read_bytes()
    link = read_link(team.here.run(team.run_id))
    assert link is not None
    lying = {name: kept.data for name in team.bucket.names() if (kept := team.bucket.get(name))}
    assert any(name.startswith(f"runs/{team.run_id}/papers/") for name in lying)
    for data in lying.values():
        for secret in (private.splitlines()[1], link.key, SECRET.encode(), b"loop", b"OPENSSH"):
            assert secret not in data


def test_the_papers_are_laid_out_as_they_were(team: Team) -> None:
    """For their owner alone, the engine's state and passphrase among them, its locks not."""
    folder, other = team.here.run(team.run_id), team.there.run(team.run_id)
    for name in ("passphrase", "state/.pulumi/stacks/rentune/r.json", "state/.pulumi/locks/a.json", "log/up.log"):
        (folder.engine / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.engine / name).write_text(name)
    other.root.mkdir(parents=True)
    unpack(pack(folder), other)
    laid = {path.relative_to(other.root).as_posix() for path in other.root.rglob("*") if path.is_file()}
    assert laid >= {
        "plan.json",
        "launch.json",
        "keys/client",
        "engine/passphrase",
        "engine/state/.pulumi/stacks/rentune/r.json",
    }
    assert not {name for name in laid if "locks" in name or "log" in name}
    assert other.plan.read_bytes() == folder.plan.read_bytes()
    assert {path.stat().st_mode & 0o077 for path in other.root.rglob("*") if path.is_file()} == {0}


@pytest.mark.parametrize("value", [None, "", "short"])
def test_a_passphrase_is_asked_for_before_anything_else(team: Team, value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSPHRASE) if value is None else monkeypatch.setenv(PASSPHRASE, value)
    with pytest.raises(BadInput, match=PASSPHRASE):
        Place(team.url)


# ── who holds it ───────────────────────────────────────────────────────────────────────────────────────────────────


def holder_of(places: Places, *, term_s: float = 90.0) -> Holder:
    return msgspec.structs.replace(this_holder(places), machine=places.home.name, term_s=term_s)


@pytest.mark.fault("F15", tier="code")
def test_one_machine_at_a_time(team: Team) -> None:
    """Another is refused and told which one has it; whoever lets go lets the next one in at once."""
    take(team.bucket, team.run_id, holder_of(team.here))
    with pytest.raises(Refused, match="controlled from rentune-home") as refused:
        take(team.bucket, team.run_id, holder_of(team.there))
    assert "90 s" in str(refused.value.hint)
    with team.ledger(team.here).charge():
        pass
    take(team.bucket, team.run_id, holder_of(team.there))


@pytest.mark.fault("F15", tier="code")
def test_whoever_ends_at_once_lets_the_next_one_in_at_once(team: Team) -> None:
    """A machine that shuts down may not wake again. It is not heard of any more, and has lost nothing that it had written."""
    display = Quiet()
    ledger = team.ledger(team.here, display, beat_s=0.05)
    with ledger.charge():
        ledger.append(entered(team.run_id, "create"))
        ledger.leave()
        time.sleep(0.3)
        bring(team.run_id, team.url, team.there)
        with team.ledger(team.there).charge():
            assert phases(team.there, team.run_id) == ["create"]
    assert display.notes == []


@pytest.mark.fault("F15", tier="code")
def test_whoever_was_overtaken_and_ends_at_once_frees_nobody_s_run(team: Team) -> None:
    ledger = team.ledger(team.here, term_s=0.0)
    with ledger.charge():
        time.sleep(2.1)  # the store tells whole seconds
        take(team.bucket, team.run_id, holder_of(team.there))
        ledger.leave()
    held = read_book(team.bucket, book_name(team.run_id))[0].holder
    assert held is not None
    assert held.machine == "another-home"


def test_the_same_home_takes_it_up_at_once_after_a_kill(team: Team) -> None:
    """There the run's lock lets one process in, so nobody has to wait."""
    take(team.bucket, team.run_id, holder_of(team.here))
    take(team.bucket, team.run_id, holder_of(team.here))


@pytest.mark.fault("F15", tier="code")
def test_whoever_was_silent_for_a_term_is_overtaken_and_writes_no_more(team: Team) -> None:
    """By the store's clock alone; its next line is refused, here and there, whatever it was doing meanwhile."""
    display = Quiet()
    asleep = team.ledger(team.here, display, term_s=0.0)
    with asleep.charge():
        asleep.append(entered(team.run_id, "create"))
        time.sleep(2.1)  # the store tells whole seconds
        bring(team.run_id, team.url, team.there)
        with team.ledger(team.there).charge() as _:
            with pytest.raises(ControlLost, match="taken over from another-home"):
                asleep.append(entered(team.run_id, "boot"))
            with pytest.raises(ControlLost):
                asleep.require_charge()
    assert phases(team.here, team.run_id) == ["create"]
    assert read_book(team.bucket, book_name(team.run_id))[0].holder is None  # the sleeper did not let go for the other


def test_a_beat_keeps_it_and_finds_out_that_it_is_lost(team: Team) -> None:
    """Nobody overtakes whoever lives; and who was overtaken hears of it without writing anything."""
    display = Quiet()
    ledger = team.ledger(team.here, display, term_s=1.0, beat_s=0.2)
    with ledger.charge():
        time.sleep(2.5)
        with pytest.raises(Refused, match="controlled from"):
            take(team.bucket, team.run_id, holder_of(team.there))
        book, kept = read_book(team.bucket, book_name(team.run_id))
        stolen = msgspec.structs.replace(book, holder=holder_of(team.there))
        while team.bucket.put_over(book_name(team.run_id), msgspec.json.encode(stolen), kept.version) is None:
            _, kept = read_book(team.bucket, book_name(team.run_id))
        ends_at_s = time.monotonic() + 20
        while not display.notes and time.monotonic() < ends_at_s:
            time.sleep(0.05)
    assert len(display.notes) == 1
    assert "was taken over from another-home" in display.notes[0]


RACE = """
import os, sys, time
from provision.errors import Refused
from provision.home.places import read_places
from provision.state.book import take
from provision.state.shared import this_holder
from provision.store.bucket import Bucket
url, run_id, start_at_s = sys.argv[1], sys.argv[2], float(sys.argv[3])
bucket, holder = Bucket(url), this_holder(read_places(os.environ))
time.sleep(max(0.0, start_at_s - time.time()))
try:
    take(bucket, run_id, holder)
    print("held", flush=True)
    time.sleep(600)
except Refused:
    print("refused", flush=True)
"""


def racer(team: Team, home: Path, *, start_at_s: float = 0.0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RACE, team.url, team.run_id, str(start_at_s)],
        env={**os.environ, "RENTUNE_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> None:
    """As kill -9 does, and nothing of it is left."""
    process.kill()
    process.communicate()


@pytest.mark.fault("F15", tier="code")
def test_of_processes_that_race_one_gets_it_and_once_it_is_killed_another(team: Team, tmp_path: Path) -> None:
    """Four at one moment; then the winner dies by kill -9, and after its term, not before, somebody else may."""
    racers = [racer(team, tmp_path / f"home-{number}", start_at_s=time.time() + 3.0) for number in range(4)]
    try:
        assert sorted(said(each) for each in racers) == ["held", "refused", "refused", "refused"]
    finally:
        for each in racers:
            kill(each)
    late = racer(team, tmp_path / "late")
    assert said(late) == "refused"
    kill(late)
    book, kept = read_book(team.bucket, book_name(team.run_id))
    assert book.holder is not None
    shorter = msgspec.structs.replace(book, holder=msgspec.structs.replace(book.holder, term_s=0.0))
    assert team.bucket.put_over(book_name(team.run_id), msgspec.json.encode(shorter), kept.version)
    time.sleep(2.1)
    later = racer(team, tmp_path / "late")
    assert said(later) == "held"
    kill(later)


def test_a_write_whose_answer_was_lost_is_known_as_ones_own(team: Team) -> None:
    """The store has it and refuses it the second time: that is no other machine."""
    ledger = team.ledger(team.here)
    with ledger.charge():
        team.storage.answers_to_lose = 1
        ledger.append(entered(team.run_id, "create"))
        ledger.append(entered(team.run_id, "boot"))
    assert phases(team.here, team.run_id) == ["create", "boot"]
    assert len(read_book(team.bucket, book_name(team.run_id))[0].lines) == 3


# ── the store away ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_store_that_goes_away_in_mid_run_ends_nothing(team: Team) -> None:
    """Told once; the lines are here, and go along with the first that comes through."""
    display = Quiet()
    ledger = team.ledger(team.here, display)
    with ledger.charge():
        ledger.append(entered(team.run_id, "create"))
        team.storage.away = True
        ledger.append(entered(team.run_id, "boot"))
        ledger.append(entered(team.run_id, "download"))
        ledger.require_charge()
        assert phases(team.here, team.run_id) == ["create", "boot", "download"]
        team.storage.away = False
        ledger.append(entered(team.run_id, "train"))
    assert ["can't be reached" in note for note in display.notes] == [True, False]
    assert "can be reached again" in display.notes[1]
    assert bring(team.run_id, team.url, team.there) == team.run_id
    assert phases(team.there, team.run_id) == ["create", "boot", "download", "train"]


def test_a_store_that_gives_no_answer_holds_up_one_line_and_no_other(team: Team, plan: Plan) -> None:
    """Not even the question whether an act may be done; a Ctrl-C need not wait for the answer that does not come."""
    display = Quiet()
    ledger = team.ledger(team.here, display, line_s=0.5)
    with ledger.charge():
        team.storage.hangs = True
        ledger.append(entered(team.run_id, "create"))
        asked = len(team.storage.requests)
        for phase in ("boot", "download", "train"):
            ledger.append(entered(team.run_id, phase))
            ledger.require_charge()
        assert len(team.storage.requests) == asked
        assert "The run goes on" in display.notes[-1]
        timer = threading.Timer(0.1, signal.raise_signal, [signal.SIGINT])
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            ledger.append(attempted(team.run_id, plan, at_s=time.time(), deadline_at_s=time.time() + 600))
        assert Ledger(team.here.ledger).runs()[team.run_id].rentals == ()
        team.storage.be_well()
    assert shared_runs(team.url)[0][0].state.phase == "train"
    assert shared_runs(team.url)[0][0].state.rentals == ()


def test_nothing_is_bought_while_the_store_is_away(team: Team, plan: Plan) -> None:
    """What comes before a purchase waits until it stands there; past the deadline it was never said."""
    ledger = team.ledger(team.here, sleep=lambda _: team.storage.be_well())
    with ledger.charge():
        team.storage.away = True
        with pytest.raises(StoreFailed):
            ledger.append(attempted(team.run_id, plan, at_s=time.time(), deadline_at_s=time.time() - 1))
        assert Ledger(team.here.ledger).runs()[team.run_id].rentals == ()
        ledger.append(attempted(team.run_id, plan, at_s=time.time(), deadline_at_s=time.time() + 600))
    state = shared_runs(team.url)[0][0].state
    assert len(state.rentals) == 1


def test_who_can_not_ask_the_store_does_not_take_charge_unless_to_end_the_run(team: Team) -> None:
    """`down` goes on: a person has said that it is to end."""
    team.storage.away = True
    display = Quiet()
    ledger = team.ledger(team.here, display)
    with pytest.raises(StoreFailed), ledger.charge():
        pytest.fail("nobody knows who has the run")
    with ledger.charge(ending=True):
        ledger.append(entered(team.run_id, "teardown"))
    assert "ended all the same" in display.notes[-2]
    assert display.notes[-1] == f"The last lines of run {team.run_id} are here alone: rentune down {team.run_id} sends them."
    team.storage.be_well()
    with team.ledger(team.here).charge():
        pass
    bring(team.run_id, team.url, team.there)
    assert phases(team.there, team.run_id) == ["teardown"]


def test_lines_that_could_not_be_sent_are_sent_by_the_next_controller(team: Team) -> None:
    """How to make that happen is said: one that may go on is not to be ended for it."""
    display = Quiet()
    with team.ledger(team.here, display).charge():
        team.storage.away = True
        team.ledger(team.here).append(entered(team.run_id, "create"))
    assert f"rentune resume {team.run_id} sends them" in display.notes[-1]
    team.storage.be_well()
    with team.ledger(team.here).charge():
        pass
    assert bring(team.run_id, team.url, team.there) == team.run_id
    assert phases(team.there, team.run_id) == ["create"]


def test_the_last_lines_are_tried_once_where_no_answer_comes_and_again_where_it_is_no(team: Team) -> None:
    """The first has used the time up with that; whoever waits for the end of the run waits for it, too."""
    for field, expected in (("hangs", []), ("away", [AGAIN_S, AGAIN_S])):
        waits: list[float] = []
        ledger = team.ledger(team.here, line_s=1.0 if field == "hangs" else 4 * AGAIN_S, sleep=waits.append)
        with ledger.charge(ending=True):
            setattr(team.storage, field, True)
        team.storage.be_well()
        assert waits[:2] == expected


def test_an_end_that_the_store_did_not_hear_is_told_by_ls_of_this_home_until_down_sends_it(
    team: Team, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the store has is older: the run goes on."""
    with (ledger := team.ledger(team.here)).charge(ending=True):
        team.storage.away = True
        ledger.append(Ended(run_id=team.run_id, at_s=time.time(), teardown=Teardown.destroyed(team.run_id, "Gone.")))
    team.storage.be_well()
    assert not shared_runs(team.url)[0][0].state.over

    sends_them = f"The last lines of run {team.run_id} are here alone: rentune down {team.run_id} sends them."
    assert call(["ls", "--state", team.url]) == Exit.OK
    told = capsys.readouterr().out
    assert "running on" not in told
    assert sends_them in told
    assert call(["down", team.run_id]) == Exit.OK
    capsys.readouterr()
    assert call(["ls", "--state", team.url]) == Exit.OK
    assert sends_them not in capsys.readouterr().out
    assert shared_runs(team.url)[0][0].state.over


@pytest.mark.fault("F15", tier="code")
def test_lines_that_come_late_from_a_machine_that_was_overtaken_say_the_same_in_both_homes(team: Team, plan: Plan) -> None:
    """The first machine ends its box while the store is away, and falls asleep over it. The next one buys another. Whose lines
    came when is another in each home; both, and the book, have one box that ended and one that stands.
    """
    overtaken = team.ledger(team.here, term_s=0.0)
    with overtaken.charge():
        overtaken.append(attempted(team.run_id, plan, at_s=100.0))
        team.storage.away = True
        overtaken.append(entered(team.run_id, "teardown"))
        overtaken.append(Ended(run_id=team.run_id, at_s=200.0, teardown=Teardown.destroyed(team.run_id, "")))
        time.sleep(2.1)  # the store tells whole seconds
        team.storage.be_well()
        bring(team.run_id, team.url, team.there)
        with (next_one := team.ledger(team.there)).charge():
            next_one.append(attempted(team.run_id, plan, at_s=300.0))
    with team.ledger(team.here).charge():
        pass
    refresh(team.run_id, team.there)

    homes = [Ledger(places.ledger) for places in (team.here, team.there)]
    assert homes[0].raw_lines(team.run_id) != homes[1].raw_lines(team.run_id)
    assert set(homes[0].raw_lines(team.run_id)) == set(homes[1].raw_lines(team.run_id))
    here, there = (home.runs()[team.run_id] for home in homes)
    assert here == there == shared_runs(team.url)[0][0].state
    assert [rental.ended_at_s for rental in here.rentals] == [200.0, None]
    assert here.standing is Standing.ASKED


def test_a_book_that_was_set_back_to_fewer_takings_puts_no_later_line_first(team: Team) -> None:
    """How often it was taken is not signed; the lines are."""
    for phase in ("create", "boot"):
        with (ledger := team.ledger(team.here)).charge():
            ledger.append(entered(team.run_id, phase))
    overwrite(team, takings=0)
    with (ledger := team.ledger(team.here)).charge():
        ledger.append(entered(team.run_id, "train"))
    assert Ledger(team.here.ledger).runs()[team.run_id].phase == "train"
    takings = [line.taking for line in Ledger(team.here.ledger).lines() if line.run_id == team.run_id]
    assert takings == [0, 1, 2, 3]


def overwrite(team: Team, **changes: object) -> None:
    """Write the book as somebody does who may write to the bucket and has no key."""
    book, kept = read_book(team.bucket, book_name(team.run_id))
    forged = msgspec.structs.replace(book, **changes)
    assert team.bucket.put_over(book_name(team.run_id), msgspec.json.encode(forged), kept.version) is not None


@pytest.mark.parametrize("changed", ["lines", "papers"])
def test_what_somebody_without_the_key_wrote_is_not_believed(team: Team, changed: str) -> None:
    """A line says which host the data go to, and that a box has ended: neither home takes it in, and neither is in charge."""
    book, _ = read_book(team.bucket, book_name(team.run_id))
    line = msgspec.Raw(msgspec.json.encode(entered(team.run_id, "teardown")))
    overwrite(team, **{"lines": (*book.lines, line)} if changed == "lines" else {"papers": "0" * 64})
    with pytest.raises(Refused, match="changed by somebody who has not its key"):
        bring(team.run_id, team.url, team.there)
    with pytest.raises(Refused, match="changed by somebody"), team.ledger(team.here).charge():
        pytest.fail("what it knows of the run is not to be trusted")
    assert phases(team.here, team.run_id) == phases(team.there, team.run_id) == []
    display = Quiet()
    with team.ledger(team.here, display).charge(ending=True):
        pass
    assert "is ended all the same" in display.notes[-1]


def test_who_can_not_take_a_run_up_leaves_it_as_it_was(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest papers stay the newest, and nobody has to wait for this home; to end a run it goes on with what is here."""
    bring(team.run_id, team.url, team.there)
    (team.here.run(team.run_id).root / "log").write_text("far ahead of the other home")
    with team.ledger(team.here).charge():
        pass
    newest = read_book(team.bucket, book_name(team.run_id))[0].papers
    get = Bucket.get
    monkeypatch.setattr(Bucket, "get", lambda bucket, name: None if "/papers/" in name else get(bucket, name))
    with pytest.raises(StoreFailed, match="papers"), team.ledger(team.there).charge():
        pytest.fail("what the other home did is not known here")
    book, _ = read_book(team.bucket, book_name(team.run_id))
    assert (book.papers, book.holder) == (newest, None)
    display = Quiet()
    with team.ledger(team.there, display).charge(ending=True):
        pass
    assert "is ended all the same" in display.notes[-1]


def test_a_box_that_was_never_asked_for_does_not_stand_there_as_rented(team: Team, plan: Plan) -> None:
    """Ctrl-C while the store is waited for: the line goes with the question that it stood before."""

    def interrupted(_: float) -> None:
        team.storage.be_well()
        raise KeyboardInterrupt

    ledger = team.ledger(team.here, sleep=interrupted)
    with ledger.charge():
        team.storage.away = True
        with pytest.raises(KeyboardInterrupt):
            ledger.append(attempted(team.run_id, plan, at_s=time.time(), deadline_at_s=time.time() + 600))
    assert shared_runs(team.url)[0][0].state.rentals == ()


# ── in another home ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_is_laid_out_in_an_empty_home(team: Team) -> None:
    """Its lines, its papers, its key; its launch names the folder that it lies in now."""
    assert bring(team.run_id[-4:], team.url, team.there) == team.run_id
    here, there = team.here.run(team.run_id), team.there.run(team.run_id)
    assert Ledger(team.there.ledger).raw_lines(team.run_id) == Ledger(team.here.ledger).raw_lines(team.run_id)
    for paper in ("plan", "base", "alternatives"):
        assert getattr(there, paper).read_bytes() == getattr(here, paper).read_bytes()
    assert client_key(there.keys, run_id=team.run_id).public == client_key(here.keys, run_id=team.run_id).public
    assert read_launch(there).folder == there.root
    assert there.state.stat().st_mode & 0o077 == 0


def test_another_passphrase_opens_nothing(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is written at home by trying."""
    monkeypatch.setenv(PASSPHRASE, "somebody else's guess")
    with pytest.raises(Refused, match="not the passphrase"):
        bring(team.run_id, team.url, team.there)
    assert not team.there.ledger.exists()


def test_a_run_that_is_not_there_is_named_with_what_to_type(team: Team) -> None:
    with pytest.raises(BadInput, match="has no run") as bad:
        bring("20000101-000000-ffff", team.url, team.there)
    assert bad.value.hint == f"rentune ls --state {team.url}"


def test_a_local_box_is_not_taken_for_gone_on_another_machine(team: Team, tmp_path: Path) -> None:
    """It is a process of the machine where the run was opened."""
    (team.here.run(team.run_id).root).rename(tmp_path / "moved-away")
    with pytest.raises(Refused, match="on the machine that it was opened on"):
        bring(team.run_id, team.url, team.there)


def test_a_finished_result_comes_along_and_is_nobodys_to_train_again(team: Team, tmp_path: Path) -> None:
    """Its files with their hashes; the word that it is finished is written once, after them."""
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / ADAPTER.path).write_bytes(WEIGHTS)
    outcome = Outcome(
        run_id=team.run_id, reason=EndReason.COMPLETED, message="", phase_s={}, measured=Measured(), adapter=(ADAPTER,)
    )
    ledger = team.ledger(team.here)
    with ledger.charge():
        ledger.put_away(outcome, adapter)
    written = [request for request in team.storage.requests if "/adapter/" in request and request.startswith("PUT")]
    assert [request.rpartition("/")[2] for request in written[-2:]] == [ADAPTER.path, FINISHED]
    bring(team.run_id, team.url, team.there)
    assert (team.there.run(team.run_id).adapter / ADAPTER.path).read_bytes() == WEIGHTS
    assert team.there.run(team.run_id).outcome.exists()


def test_papers_that_were_replaced_do_not_stay(team: Team) -> None:
    """Keys that are gone from a directory are gone from the store: one bundle is there, the newest."""
    ledger = team.ledger(team.here)
    folder = team.here.run(team.run_id)
    with ledger.charge():
        for number in range(3):
            folder.job.write_text(f'{{"number": {number}}}')
            ledger.append(entered(team.run_id, "download"))
    assert len(list(team.bucket.names(f"runs/{team.run_id}/papers"))) == 1


# ── the commands ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_ls_shows_whose_it_is_without_a_passphrase(
    team: Team, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is in charge, while somebody is; and nothing comes into this home."""
    monkeypatch.delenv(PASSPHRASE)
    monkeypatch.setenv("RENTUNE_HOME", str(team.there.home))
    with team.ledger(team.here).charge():
        assert call(["ls", "--state", team.url, "--json"]) == Exit.OK
    [row] = msgspec.json.decode(capsys.readouterr().out)["data"]
    assert (row["run_id"], row["status"], row["machine"]) == (team.run_id, "running on rentune-home", "rentune-home")
    assert call(["ls", "--state", team.url]) == Exit.OK
    assert team.run_id in capsys.readouterr().out
    assert not team.there.ledger.exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b'{"run_id":"\xff\xfe","lock":1}',
        lambda _: b"[" * 200_000,
        lambda book: msgspec.json.encode(book).replace(b'"n":131072', b'"n":3'),
        lambda book: msgspec.json.encode(book).replace(b'"n":131072', b'"n":1099511627776'),
        lambda book: msgspec.json.encode(book).replace(book.run_id.encode(), b"another-run"),
        lambda book: msgspec.json.encode(msgspec.structs.replace(book, lines=())),
        lambda book: msgspec.json.encode(book).replace(b'"usd_per_hour":"', b'"usd_per_hour":"Infinity", "was":"'),
    ],
    ids=["not text", "too deep", "no cost", "a cost without end", "another's", "without lines", "an endless price"],
)
def test_a_damaged_book_is_named_believed_by_nobody_and_keeps_no_box(team: Team, spoil: Callable[[Book], bytes]) -> None:
    """`ls` names the run, another home does not take it up, and the controller that has it goes on and ends its box."""
    book, _ = read_book(team.bucket, book_name(team.run_id))
    display = Quiet()
    ledger = team.ledger(team.here, display)
    with ledger.charge():
        team.bucket.put(book_name(team.run_id), spoil(book))
        with contextlib.suppress(ControlLost):  # a book that can be read, and is not ours
            ledger.append(entered(team.run_id, "create"))
    shared, unseen = shared_runs(team.url)
    assert ([each.state.run_id for each in shared], list(unseen)) == ([], [team.run_id])
    with pytest.raises((StoreFailed, Refused)):
        bring(team.run_id, team.url, team.there)
    assert call(["ls", "--state", team.url]) == Exit.STILL_BILLS
    with team.ledger(team.here, display).charge(ending=True):
        pass
    assert "is ended all the same" in display.notes[-1]


def test_a_damaged_word_on_where_the_state_lies_is_mended_from_there(team: Team) -> None:
    """By whoever has the passphrase."""
    before = read_link(team.here.run(team.run_id))
    team.here.run(team.run_id).state.write_bytes(b"\xff")
    with pytest.raises(Refused, match="is damaged"):
        ledger_of(team.run_id, team.here, note=Quiet().note)
    bring(team.run_id, team.url, team.here)
    assert read_link(team.here.run(team.run_id)) == before


def test_ls_names_what_it_can_not_read_and_shows_the_rest(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    """A damaged book hides no other run, and a line that can't be read may be one that bills."""
    team.bucket.put(book_name("20260101-000000-dead"), b"{")
    assert call(["ls", "--state", team.url, "--json"]) == Exit.STILL_BILLS
    answer = msgspec.json.decode(capsys.readouterr().out)
    assert [row["run_id"] for row in answer["data"]] == [team.run_id]
    assert "20260101-000000-dead" in answer["errors"][0]["message"]
    book, _ = read_book(team.bucket, book_name(team.run_id))
    overwrite(team, lines=(*book.lines, msgspec.Raw(b'{"kind":"of tomorrow"}')))
    assert call(["ls", "--state", team.url, "--json"]) == Exit.STILL_BILLS
    assert len(msgspec.json.decode(capsys.readouterr().out)["errors"]) == 2


def test_what_nobody_named_is_not_ended_while_nobody_can_tell_who_has_it(team: Team) -> None:
    """`down --orphans` ends what is left behind; whether this is, only the store knows."""
    team.storage.away = True
    with pytest.raises(StoreFailed):
        end(team.run_id, Edges(team.here, Quiet()), meant=False)
    assert not Ledger(team.here.ledger).runs()[team.run_id].over
    assert end(team.run_id, Edges(team.here, Quiet())).clean


def test_down_on_another_machine_is_refused_while_the_first_lives_and_then_ends_it(
    team: Team, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was rented, so nothing is left; the first machine knows of it as soon as it asks."""
    monkeypatch.setenv("RENTUNE_HOME", str(team.there.home))
    with team.ledger(team.here).charge():
        assert call(["down", team.run_id, "--state", team.url]) == Exit.REFUSED
        assert "controlled from rentune-home" in capsys.readouterr().err
        assert not team.there.ledger.exists()  # else `down --orphans` here would end it as soon as that machine sleeps
    assert call(["down", team.run_id, "--state", team.url]) == Exit.OK
    monkeypatch.setenv("RENTUNE_HOME", str(team.here.home))
    assert call(["resume", team.run_id]) == Exit.REFUSED
    assert "is over" in capsys.readouterr().err


def test_down_orphans_leaves_a_run_alone_that_another_machine_has_in_hand(
    team: Team, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was opened here, so it looks left behind here. Nothing that nobody controls is left: 0, and a line that names it."""
    bring(team.run_id, team.url, team.there)
    monkeypatch.setenv("RENTUNE_HOME", str(team.here.home))
    with team.ledger(team.there).charge():
        assert call(["down", "--orphans"]) == Exit.OK
        said = capsys.readouterr().out
        assert f"Run {team.run_id} is controlled from another-home" in said
        assert "left alone" in said
        assert not Ledger(team.here.ledger).runs()[team.run_id].over
    assert call(["down", "--orphans"]) == Exit.OK
    assert Ledger(team.here.ledger).runs()[team.run_id].over


@pytest.mark.parametrize(
    ("storage", "words"), [("forgetful", "does not keep the conditions"), ("away", "can't be reached")], ids=str
)
def test_run_asks_the_store_before_it_opens_anything(
    team: Team,
    plan: Plan,
    storage: str,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that can't keep two machines apart is refused in one sentence."""
    setattr(team.storage, storage, True)
    monkeypatch.setenv("RENTUNE_HOME", str(team.there.home))
    saved = tmp_path / "saved.json"
    saved.write_text(write_plan(as_its_files_are(plan)))
    assert call(["run", str(saved), "--state", team.url, "--yes"]) != Exit.OK
    assert words in capsys.readouterr().err
    assert not team.there.ledger.exists()


def test_a_run_without_state_asks_nobody(places: Places, run_id: str) -> None:
    """Its ledger is the plain one."""
    assert type(ledger_of(run_id, places, note=print)) is Ledger


def test_an_end_that_only_the_home_could_write_counts_though_the_run_s_lines_are_numbered(team: Team, plan: Plan) -> None:
    """What says where its state lies is damaged, so the line goes into the home's own book alone: without a number it was
    counted as older than the rental, and the run cost on for ever on paper.
    """
    ledger = team.ledger(team.here)
    with ledger.charge():
        ledger.append(attempted(team.run_id, plan, at_s=time.time()))
    paper = Paper()
    paper.boxes[team.run_id] = Resource(kind="instance", id="i-1", run_id=team.run_id)
    team.here.run(team.run_id).state.write_bytes(b"{torn")
    assert end(team.run_id, Edges(team.here, Quiet(), make=lambda _claim: paper)).clean
    assert Ledger(team.here.ledger).runs()[team.run_id].over
