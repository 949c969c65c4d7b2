"""`rentune ls`: where a run stands, or how it ended, on a terminal of 80 columns."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import time

import msgspec
import pytest
from rich.console import Console

from planner.plan import Plan
from provision.aboard.marks import marks
from provision.account.ledger import Ledger
from provision.account.lines import Billed, Created, Ended, PhaseStarted
from provision.account.receipt.value import Ending
from provision.charge.controller import this_process
from provision.cli import call
from provision.commands.ls import describe, stands, status_in_books, table
from provision.errors import Exit
from provision.home.places import Places
from provision.providers import boxes_folder
from provision.report.terminal import draw
from provision.seam import Box, Teardown
from remote.contract import EndReason, Event, Phase, Reached, encode
from tests.provision.account.receipts import outcome_of, receipt_of, run_state
from tests.provision.plans import attempted, between_attempts
from tests.provision.rigs import await_true

HOUR_S = 3600.0


def close(ledger: Ledger, run_id: str, *, exit_code: int) -> None:
    """As a controller that took 185 seconds."""
    opened = ledger.runs()[run_id].opened
    gone = Teardown.destroyed(run_id, "")
    ledger.append(Ended(run_id=run_id, at_s=opened.at_s + 185, teardown=gone))
    billed = Billed(
        run_id=run_id,
        at_s=opened.at_s + 185,
        exit_code=exit_code,
        trained=exit_code == 0,
        planned_usd=opened.usd_per_hour,
        metered_usd=opened.usd_per_hour,
        wall_s=185.0,
    )
    ledger.append(billed)


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [(0, "trained in 3 min 05 s"), (1, "failed after 3 min 05 s"), (130, "interrupted after 3 min 05 s")],
)
def test_a_run_that_is_over_grows_no_older(run_id: str, places: Places, ledger: Ledger, exit_code: int, words: str) -> None:
    """How long it took and how it ended; it is in no phase any more."""
    close(ledger, run_id, exit_code=exit_code)
    state = ledger.runs()[run_id]
    soon, late = (describe(state, places, now_s=state.opened.at_s + hours * HOUR_S) for hours in (1, 100))
    assert soon == late
    assert (soon["phase"], soon["took_s"]) == (None, 185.0)
    assert stands(soon) == words


@pytest.mark.parametrize(
    ("ended", "word"),
    [
        (Ending(reason=EndReason.OUT_OF_MEMORY), "out_of_memory"),
        (Ending(reason=EndReason.DEADLINE), "deadline"),
        (Ending(ended_by="deadline"), "deadline"),
        (Ending(ended_by="lease", reason=EndReason.INTERRUPTED), "lease"),
    ],
)
def test_a_failure_names_its_reason(run_id: str, plan: Plan, places: Places, ledger: Ledger, ended: Ending, word: str) -> None:
    """The typed end that stands in its receipt, or the deadline or the lease that took its box."""
    close(ledger, run_id, exit_code=1)
    failed = msgspec.structs.replace(receipt_of(plan, run_state(plan), outcome_of(adapter=())), ending=ended)
    places.run(run_id).receipt.write_bytes(msgspec.json.encode(failed))
    row = describe(ledger.runs()[run_id], places, now_s=0.0)
    assert stands(row) == f"failed after 3 min 05 s: {word}"


def test_a_training_that_was_cut_short_says_how_far_it_came(run_id: str, plan: Plan, places: Places, ledger: Ledger) -> None:
    """It is not "trained", and it has not failed."""
    close(ledger, run_id, exit_code=Exit.IN_PART)
    reached = Reached(step=31, total_steps=60, judged_step=20, weights_step=20)
    half = receipt_of(plan, run_state(plan), outcome_of(reason=EndReason.DEADLINE, reached=reached))
    places.run(run_id).receipt.write_bytes(msgspec.json.encode(half))
    row = describe(ledger.runs()[run_id], places, now_s=0.0)
    assert stands(row) == "trained in part in 3 min 05 s: 31 of 60 steps (deadline)"


def test_a_trainer_at_its_end_has_not_made_a_failed_run_complete(
    run_id: str, plan: Plan, places: Places, ledger: Ledger
) -> None:
    """Its adapter came home damaged, or not at all."""
    close(ledger, run_id, exit_code=1)
    lost = receipt_of(plan, run_state(plan), outcome_of(), adapter_folder=None)
    places.run(run_id).receipt.write_bytes(msgspec.json.encode(lost))
    row = describe(ledger.runs()[run_id], places, now_s=0.0)
    assert stands(row) == "failed after 3 min 05 s: result not at home"


def test_a_run_that_trains_says_how_far_it_is(run_id: str, places: Places, ledger: Ledger) -> None:
    """As far as its events have come home: ten steps of two seconds each, and thirty still to come."""
    state = ledger.runs()[run_id]
    ledger.append(attempted(run_id, at_s=state.opened.at_s + 1, deadline_at_s=state.deadline_at_s))
    ledger.append(this_process(run_id, at_s=state.opened.at_s + 2))
    started = Event(seq=0, kind="phase_started", phase=Phase.TRAIN, at_s=1_000.0, monotonic_s=0.0, data={})
    steps = [
        Event(
            seq=number,
            kind="step",
            phase=Phase.TRAIN,
            at_s=1_000.0 + 2 * number,
            monotonic_s=2.0 * number,
            data={"step": number, "total_steps": 40, "loss": 2.0, "tokens_per_s": 100.0},
        )
        for number in range(1, 11)
    ]
    events = places.run(run_id).events
    for known, words in ((steps, "step 10 of 40, 1 min 00 s left, "), ([], "")):
        events.write_bytes(b"".join(encode(event) + b"\n" for event in (started, *known)))
        row = describe(ledger.runs()[run_id], places, now_s=state.opened.at_s + 60)
        assert f", {words}1 min 00 s since the start" in stands(row)
        assert row["training"] == ({"step": 10, "num_steps": 40, "eta_s": 60.0} if words else None)


@pytest.mark.parametrize("command", ["report", "resume"])
def test_a_run_that_is_over_and_has_lost_its_directory_sends_nobody_in_a_circle(
    command: str, run_id: str, places: Places, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the ledger still has of it is its sums."""
    close(ledger, run_id, exit_code=0)
    receipt = places.run(run_id).receipt
    shutil.rmtree(places.run(run_id).root)
    assert call([command, run_id]) == Exit.REFUSED
    assert capsys.readouterr().err == (
        f"Error: Run {run_id} is over, and its receipt is no longer there: {receipt}.\n"
        "Hint: rentune report --since 30d has its sums\n"
    )


def test_an_exit_code_of_a_later_version_only_says_that_it_ended(run_id: str, places: Places, ledger: Ledger) -> None:
    close(ledger, run_id, exit_code=60)
    assert stands(describe(ledger.runs()[run_id], places, now_s=0.0)) == "ended after 3 min 05 s"
    assert call(["ls"]) == Exit.OK


def test_between_two_attempts_a_run_goes_on(run_id: str, places: Places, ledger: Ledger) -> None:
    """Nothing of it bills, and it is not over: who is at it will try another offer; else it is left behind."""
    between_attempts(run_id, ledger)
    assert status_in_books(ledger.runs()[run_id], places.run(run_id), now_s=5.0) == "orphan"
    ledger.append(this_process(run_id, at_s=4.0))
    assert status_in_books(ledger.runs()[run_id], places.run(run_id), now_s=5.0) == "running"


def test_a_run_that_goes_on_shows_phase_and_deadline(run_id: str, places: Places, ledger: Ledger) -> None:
    """Or what is left of it, when nobody controls it. The time is that of the whole run, and is called so."""
    state = ledger.runs()[run_id]
    ledger.append(attempted(run_id, at_s=state.opened.at_s + 1, deadline_at_s=state.deadline_at_s))
    ledger.append(PhaseStarted(run_id=run_id, at_s=state.opened.at_s + 1, phase="create"))
    row = describe(ledger.runs()[run_id], places, now_s=state.deadline_at_s + 120.0)
    assert stands(row).startswith("orphan: create, ")
    assert stands(row).endswith(" since the start; deadline 2 min 00 s ago")


def test_a_box_of_this_machine_that_is_dead_is_said_to_be_gone(run_id: str, places: Places, ledger: Ledger) -> None:
    """As after a reboot: its folder and its last events are there, and nothing trains. One of which a process lives is not."""
    folder = boxes_folder(places) / run_id
    folder.mkdir(parents=True)
    box = Box(run_id=run_id, provider="local", host="::1", port=9, user="me", host_key="ssh-ed25519 A", folder=str(folder))
    for line in (attempted(run_id, at_s=1.0), Created(run_id=run_id, at_s=2.0, box=box)):
        ledger.append(line)
    ledger.append(PhaseStarted(run_id=run_id, at_s=3.0, phase="train"))

    def row() -> str:
        return stands(describe(ledger.runs()[run_id], places, now_s=5.0))

    assert row().startswith("box gone: train, ")
    with subprocess.Popen(["sleep", "600"], env=os.environ | marks(folder.parent, run_id)) as process:
        try:
            await_true(lambda: row().startswith("orphan: train, "))
        finally:
            process.kill()
    ledger.append(this_process(run_id, at_s=4.0))
    assert row().startswith("running: train, ")


def test_a_training_that_outlasts_its_deadline_is_told_beforehand(run_id: str, places: Places, ledger: Ledger) -> None:
    """From the pace of a few steps: one a second, of a hundred more than there are seconds to the deadline."""
    state = ledger.runs()[run_id]
    opened_at_s, left_s = state.opened.at_s, state.deadline_at_s - state.opened.at_s
    steps = [
        Event(
            seq=number,
            kind="step" if number else "phase_started",
            phase=Phase.TRAIN,
            at_s=opened_at_s + number,
            monotonic_s=0.0,
            data={"step": number, "total_steps": round(left_s) + 100},
        )
        for number in range(4)
    ]
    for heard, is_cut in ((steps[:3], False), (steps, True)):
        places.run(run_id).events.write_bytes(b"".join(encode(event) + b"\n" for event in heard))
        row = describe(ledger.runs()[run_id], places, now_s=opened_at_s + 4.0)
        assert row["cut_short_by_deadline"] is is_cut
        assert stands(row).endswith(", before the training is through: what is trained by then comes home") is is_cut


def test_a_terminal_of_80_columns_shows_ids_whole(run_id: str, places: Places, ledger: Ledger) -> None:
    """An id is there to be copied; a long name of a model takes two lines instead."""
    row = describe(ledger.runs()[run_id], places, now_s=time.time())
    row["model"] = "somebody/A-Model-Of-Forty-Letters-And-More.Q8_0.gguf"
    out = io.StringIO()
    Console(file=out, width=80).print(draw(table([row], title="")))
    lines = out.getvalue().splitlines()
    assert any(run_id in line for line in lines)
    assert max(map(len, lines)) <= 80


@pytest.mark.usefixtures("places")
def test_orphans_and_a_store_are_two_things_to_look_for(capsys: pytest.CaptureFixture[str]) -> None:
    """One of them would be no search, and look like one that found nothing."""
    assert call(["ls", "--orphans", "--state", "s3://bucket/runs"]) == Exit.REFUSED
    assert "two things to do" in capsys.readouterr().err


@pytest.mark.usefixtures("places")
def test_no_runs_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """And no empty box."""
    assert call(["ls"]) == Exit.OK
    assert capsys.readouterr().out == "No runs yet.\n"
