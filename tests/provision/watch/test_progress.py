"""A run as it goes, for logs and for a terminal."""

from __future__ import annotations

import errno
import io
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Console

from provision.watch.progress import LineDisplay, LiveDisplay, live_rows
from provision.watch.view import fold
from provision.words import deadline_words
from remote.contract import Event, Phase
from tests.provision.plans import tiny_files, tiny_plan
from tests.provision.watch.test_view import EVENTS, event


def test_lines_tell_phases_losses_and_warnings_once(tmp_path: Path) -> None:
    """Steps come every ten seconds at most: a log is for reading."""
    out = io.StringIO()
    display = LineDisplay(out, clock=lambda: 1000.0)
    display.phase("boot")
    for each in EVENTS:
        display.event(each)
    lines = [line.split(" ", 1)[1].strip() for line in out.getvalue().splitlines()]
    assert lines == [
        "boot",
        "load",
        "train",
        "step 1/4, loss 5.0000, 100 tokens/s, 3.0 s to go",
        "held-out loss 4.5000 at step 2, judged in 1.5 s",
        "two rows were cut",
    ]


def test_a_classification_tells_its_figures_as_it_goes() -> None:
    out = io.StringIO()
    data = {"step": 2, "mean_loss": 0.5, "accuracy": 0.9, "macro_f1": 0.8125, "seconds": 1.5}
    LineDisplay(out).event(Event(seq=0, kind="evaluation", phase=Phase.TRAIN, at_s=1.0, monotonic_s=1.0, data=data))
    assert out.getvalue().endswith("held-out loss 0.5000 at step 2, accuracy 0.900, macro F1 0.812, judged in 1.5 s\n")


@pytest.mark.parametrize(("up_s", "why"), [(90.0, ": its box was rebooted"), (5000.0, "")], ids=["rebooted", "killed"])
def test_a_trainer_that_was_started_again_is_told_at_the_place(up_s: float, why: str) -> None:
    """A reboot begins the box's clock anew; the first start goes without saying, and where it goes on from is told."""
    out = io.StringIO()
    display = LineDisplay(out)
    told = (
        Event(seq=0, kind="phase_started", phase=Phase.ENVIRONMENT, at_s=1.0, monotonic_s=4000.0),
        Event(seq=1, kind="phase_started", phase=Phase.TRAIN, at_s=2.0, monotonic_s=4900.0),
        Event(seq=2, kind="phase_started", phase=Phase.ENVIRONMENT, at_s=900.0, monotonic_s=up_s),
        Event(
            seq=3, kind="resumed", phase=Phase.TRAIN, at_s=990.0, monotonic_s=up_s + 9, data={"step": 40, "total_steps": 300}
        ),
    )
    for each in told:
        display.event(each)
    lines = [line.split(" ", 1)[1].strip() for line in out.getvalue().splitlines()]
    again = f"the trainer was started again{why}"
    assert lines == ["environment", "train", again, "environment", "going on from step 40 of 300"]


def test_a_line_that_is_too_long_for_its_terminal_goes_on_below_its_words() -> None:
    """No word is cut; a log that a program reads keeps one line a sentence."""
    narrow, wide = io.StringIO(), io.StringIO()
    for out, columns in ((narrow, 40), (wide, None)):
        LineDisplay(out, clock=lambda: 1000.0, columns=columns).note("a plain template is used and saved with the result")
    first, second = narrow.getvalue().splitlines()
    assert first.split(" ", 1)[1] == "  a plain template is used and"
    assert second == f"{' ' * 11}saved with the result"
    assert len(wide.getvalue().splitlines()) == 1


def test_a_log_that_takes_nothing_ends_no_run() -> None:
    """It costs money by now, and the ledger has what counts."""

    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    LineDisplay(Full()).phase("boot")


def test_a_phase_that_both_have_is_told_apart() -> None:
    """The controller looks after the box's environment, and so does the trainer; at its last step more is to come."""
    out = io.StringIO()
    display = LineDisplay(out, clock=lambda: 1000.0)
    display.phase("load")
    for each in (*EVENTS[:3], event(9, "step", step=4, total_steps=4)):
        display.event(each)
    lines = [line.split(" ", 1)[1].strip() for line in out.getvalue().splitlines()]
    assert lines == ["load", "load in the trainer", "train", "step 4/4, judging and saving follow"]


def test_the_live_table_says_what_a_person_wants_to_know(tmp_path: Path) -> None:
    """Phase, step, loss, speed, memory against plan, dollars against plan, time to go."""
    rows = dict(live_rows(tiny_plan(*tiny_files(tmp_path)), fold(EVENTS), "train", elapsed_s=10.0, spent_usd=Decimal("0.01")))
    assert rows["phase"] == "train, 10.0 s since the start (planned 16.0 s)"
    assert rows["step"] == "step 2/4, loss 4.0000, 110 tokens/s, 4.0 s to go"
    assert rows["held-out loss"] == "4.5000"
    assert rows["memory"] == "12 B of 600.0 MiB planned"
    assert rows["spent"] == "$0.0100 (assumed) of $0.0160 planned"


def test_the_live_display_leaves_notes_and_no_table_behind(tmp_path: Path) -> None:
    """What was worth a line stays on the screen."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=False, width=100)
    plan = tiny_plan(*tiny_files(tmp_path))
    with LiveDisplay(
        console, plan, opened_at_s=0.0, deadline_at_s=lambda: 100.0, spent_usd=Decimal, clock=lambda: 50.0
    ) as display:
        display.phase("boot")
        for each in EVENTS:
            display.event(each)
        display.note("The box went away.")
    assert "two rows were cut" in out.getvalue()
    assert "The box went away." in out.getvalue()
    assert "[dim]" not in out.getvalue()  # the table is drawn beside each note


def test_whoever_takes_a_run_up_in_mid_training_sees_that_it_trains(tmp_path: Path) -> None:
    """The phase began before anybody looked; each step says in which it was made."""
    console = Console(file=io.StringIO(), width=100)
    plan = tiny_plan(*tiny_files(tmp_path))
    display = LiveDisplay(console, plan, opened_at_s=0.0, deadline_at_s=lambda: 100.0, spent_usd=Decimal, clock=lambda: 50.0)
    display.phase("boot")
    display.event(event(7, "step", step=3, total_steps=4))
    with console.capture() as shown:
        console.print(display._draw())
    assert "train, 50.0 s since the start" in shown.get()


@pytest.mark.parametrize(("left_s", "words"), [(250.0, "deadline in 4 min 10 s"), (-9.0, "deadline 9.0 s ago")])
def test_a_deadline_is_told_in_the_same_words_wherever_it_is(left_s: float, words: str) -> None:
    """`ls` said how long ago it was, and `doctor RUN` that it was in 0 s."""
    assert deadline_words(left_s) == words
