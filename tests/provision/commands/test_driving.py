"""A run in the foreground: what goes to which stream, and what is told of its end."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path

import msgspec
import pytest

from planner.plan import Plan
from provision.account.ledger import Ledger
from provision.account.lines import PhaseStarted
from provision.cli import call
from provision.commands import ending
from provision.commands.driving import next_command, problems_of
from provision.commands.logs import growing
from provision.errors import Exit
from provision.home.places import Places
from provision.home.wish import end_is_wished, end_wished
from remote.contract import EndReason, Event, Phase, encode
from tests.provision.account.receipts import outcome_of, receipt_of, run_state
from tests.provision.plans import attempted


@pytest.fixture
def never_rented(run_id: str, tmp_path: Path) -> str:
    """An opened run whose data went away: it fails before anything is rented."""
    (tmp_path / "rows.jsonl").unlink()
    return run_id


def test_with_json_the_envelope_is_alone_on_stdout_and_the_notes_are_on_stderr(
    never_rented: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a run says on its way is not lost on whoever reads the envelope by a program."""
    assert call(["resume", never_rented, "--json"]) == Exit.FAILED
    told = capsys.readouterr()
    assert json.loads(told.out)["exit_code"] == Exit.FAILED
    assert "rows.jsonl is no longer there" in told.err


def test_resume_takes_back_that_a_run_is_to_end(never_rented: str, places: Places) -> None:
    """It fails by what is missing, and is not stopped by the word."""
    with end_wished(places.run(never_rented), print):
        pass
    assert call(["resume", never_rented]) == Exit.FAILED
    assert not end_is_wished(places.run(never_rented))


@pytest.mark.parametrize("command", ["resume", "down"])
def test_books_that_stay_open_are_an_error_in_the_envelope(
    command: str, never_rented: str, places: Places, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody has to close them: what can't be written at home is no detail of the log."""
    places.run(never_rented).receipt.mkdir()
    call([command, never_rented, "--json"])
    envelope = json.loads(capsys.readouterr().out)
    assert envelope["status"] == "partial"
    told = " ".join(f"{error['message']} {error['hint']}" for error in envelope["errors"])
    assert "books" in told
    assert f"rentune resume {never_rented} closes them." in told
    assert ledger.runs()[never_rented].billed is None


def test_a_report_that_could_not_be_drawn_is_not_named(
    never_rented: str, places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full disk takes none: the last line named a file that was not there."""

    def takes_none(*_: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("provision.walk.books.render_page", takes_none)
        call(["resume", never_rented])
    told = capsys.readouterr().out
    assert "The report could not be drawn: No space left on device." in " ".join(told.split())
    assert "Report:" not in told
    assert call(["report", never_rented]) == Exit.OK
    assert "Report:" not in capsys.readouterr().out


@pytest.mark.parametrize("reason", [EndReason.COMPLETED, EndReason.STOPPED_EARLY, EndReason.DEADLINE])
def test_a_box_that_was_kept_with_a_result_is_gone_on_with(plan: Plan, reason: EndReason) -> None:
    """However its trainer came to it; a box without one is ended."""
    kept = run_state(plan, teardown=None)
    assert next_command(receipt_of(plan, kept, outcome_of(reason=reason), adapter_folder=None)) == "rentune resume r"
    assert next_command(receipt_of(plan, kept, outcome_of(reason=reason, adapter=()))) == "rentune down r"


@pytest.mark.parametrize(
    ("more_time", "hint"),
    [
        ("a larger max_usd_per_run in policy.toml", "a larger max_usd_per_run in policy.toml leaves more time"),
        (None, "a larger --max-hours or --max-cost leaves more time"),
    ],
)
def test_a_run_in_part_names_the_limit_that_set_its_deadline(
    more_time: str | None, hint: str, plan: Plan, run_id: str, places: Places, ledger: Ledger
) -> None:
    """An older ledger does not say which it was."""
    line = attempted(run_id, at_s=1.0, deadline_at_s=1e10)
    ledger.append(msgspec.structs.replace(line, more_time=more_time))
    receipt = receipt_of(plan, run_state(plan), outcome_of(reason=EndReason.DEADLINE))
    assert receipt.in_part
    (problem,) = problems_of(msgspec.structs.replace(receipt, run_id=run_id), places)
    assert problem.hint == hint


@pytest.mark.parametrize(
    ("rented", "code", "sentence"),
    [(True, Exit.STILL_BILLS, "it may still bill"), (False, Exit.INTERRUPTED, "Nothing of run")],
    ids=["with a box", "without one"],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_down_that_is_cut_off_says_what_it_leaves(
    number: signal.Signals,
    rented: bool,
    code: Exit,
    sentence: str,
    run_id: str,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """However it is asked to stop: whoever reads its exit code learns whether something bills."""
    if rented:
        ledger.append(attempted(run_id, at_s=1.0, deadline_at_s=1e10))
    monkeypatch.setattr(ending, "end", lambda *_, **__: signal.raise_signal(number))
    assert call(["down", run_id]) == code
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["--events", "--controller"])
def test_an_offset_past_the_end_shows_nothing(
    kind: str, run_id: str, places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    """However far it is past it."""
    folder = places.run(run_id)
    for path in (folder.events, folder.controller_log):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"one line\n")
    for offset in (9, 2**63 - 1, 10**30):
        assert call(["logs", run_id, kind, "--offset", str(offset)]) == 0
    assert capsys.readouterr().out == ""
    assert call(["logs", run_id, kind, "--offset", "4"]) == 0
    assert capsys.readouterr().out == "line\n"


def test_logs_that_follow_a_run_begin_anew_with_its_next_attempt(tmp_path: Path) -> None:
    """The first box's events are moved away; another file takes their place, whatever its length."""
    events = tmp_path / "events.jsonl"
    events.write_bytes(b"first attempt, of the longer words\n")
    over = iter([False, False, True])
    told = growing(events, 6, lambda: next(over))
    assert next(told) == b"attempt, of the longer words\n"
    events.rename(tmp_path / "away")
    events.write_bytes(b"second\n")
    assert list(told) == [b"second\n"]


def test_logs_of_a_run_whose_trainer_is_not_there_yet_say_where_it_stands(
    run_id: str, places: Places, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Gigabytes of packages take minutes, in which nothing else can be seen."""
    folder = places.run(run_id)
    ledger.append(PhaseStarted(run_id=run_id, at_s=1.0, phase=Phase.ENVIRONMENT))
    folder.environment_log.write_text("Downloading torch (846.9MiB)\n")
    assert call(["logs", run_id]) == 0
    assert capsys.readouterr().out == "environment\nDownloading torch (846.9MiB)\n"


def test_logs_of_a_run_that_was_ended_by_hand_say_so(
    run_id: str, plan: Plan, places: Places, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    """The trainer could not: its last word is a phase that it was in."""
    folder = places.run(run_id)
    folder.events.write_bytes(encode(Event(seq=0, at_s=0.0, monotonic_s=0.0, phase=Phase.PROBE, kind="phase_started")) + b"\n")
    receipt = receipt_of(plan, run_state(plan), message="Ended by rentune down.")
    folder.receipt.write_bytes(msgspec.json.encode(receipt))
    assert call(["logs", run_id]) == 0
    told = capsys.readouterr()
    assert told.out.endswith("probe\n")
    assert told.err.startswith("failed and gone: ")
    assert told.err.endswith(". Ended by rentune down.\n")


def test_what_the_build_said_stands_before_what_the_trainer_says(
    run_id: str, places: Places, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    """And is not told again to whoever goes on from an offset."""
    folder = places.run(run_id)
    ledger.append(PhaseStarted(run_id=run_id, at_s=1.0, phase=Phase.ENVIRONMENT))
    folder.environment_log.write_text("Installed 72 packages\n")
    folder.events.write_bytes(encode(Event(seq=0, at_s=0.0, monotonic_s=0.0, phase=Phase.LOAD, kind="phase_started")) + b"\n")
    assert call(["logs", run_id]) == 0
    built, loading = capsys.readouterr().out.splitlines()
    assert (built, loading.split()[-1]) == ("Installed 72 packages", "load")
    assert call(["logs", run_id, "--offset", str(folder.events.stat().st_size)]) == 0
    assert capsys.readouterr().out == ""
