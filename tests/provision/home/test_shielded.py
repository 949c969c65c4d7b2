"""Ctrl-C where it has to wait: it is answered at once by a line that says for what, on a terminal and in a pipe."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from provision.account.ledger import Ledger
from provision.errors import Exit
from provision.home.places import Places
from provision.home.shielded import said_first, shielded
from tests.faults.rehearsal import wait_until

SAID_S: Final = 2.0  # a busy machine starts a thread within; the deed itself goes on for longer
ORDERED: Final = "An order is under way: what comes of it is waited for, and ended."
ENDED: Final = "The box is ended first, which takes"

# A controller whose provider orders until somebody interrupts it, takes some seconds over that, and as many over an end.
CONTROLLER: Final = """
import sys, time
from pathlib import Path
from decimal import Decimal
from provision.charge.driving import drive
from provision.walk.edges import Edges
from provision.errors import BoxLost
from provision.home.places import read_places
from provision.seam import unshared
from provision.watch.progress import LineDisplay, LiveDisplay
from tests.doubles.provisioners import Paper

run_id, folder, at, live = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4] == "terminal"

class Slow(Paper):
    def up(self, offer, launch):
        if at == "teardown":
            raise BoxLost("It went.")
        (folder / "begun").touch()
        try:
            time.sleep(600)
        finally:
            time.sleep(4)
    def destroy(self, claim, in_charge=unshared):
        if at == "teardown":
            (folder / "begun").touch()
            time.sleep(4)
        return super().destroy(claim, in_charge)

def driven(display):
    return drive(run_id, Edges(read_places(), display, make=lambda _claim: Slow())).exit_code

if not live:
    sys.exit(driven(LineDisplay(sys.stderr)))
from rich.console import Console
from provision.account.ledger import Ledger
from planner.saved import read_plan
file = read_places().run(run_id).plan
plan = read_plan(file.read_text(), name=str(file))
with LiveDisplay(Console(), plan, opened_at_s=time.time(), deadline_at_s=lambda: 1e10, spent_usd=Decimal) as display:
    code = driven(display)
sys.exit(code)
"""


@contextmanager
def controller(run_id: str, folder: Path, at: str, seen_on: str) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], str]]]:
    """One in a process of its own, and what can be read of it so far."""
    said = bytearray()
    ours, theirs = pty.openpty() if seen_on == "terminal" else os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CONTROLLER, run_id, str(folder), at, seen_on],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "COLUMNS": "300", "TERM": "xterm"},
        start_new_session=True,
    )
    os.close(theirs)

    def read() -> None:
        try:
            while piece := os.read(ours, 65536):
                said.extend(piece)
        except OSError:  # the other end of a terminal has gone
            pass

    reading = threading.Thread(target=read)
    reading.start()
    try:
        yield process, lambda: said.decode(errors="replace")
    finally:
        process.kill()
        process.wait()
        reading.join()
        os.close(ours)


@pytest.mark.parametrize("seen_on", ["pipe", "terminal"])
@pytest.mark.parametrize(
    ("at", "number", "sentence"),
    [("create", signal.SIGINT, ORDERED), ("teardown", signal.SIGINT, ENDED), ("teardown", signal.SIGTERM, ENDED)],
)
@pytest.mark.fault("F8", tier="code")
def test_a_signal_that_has_to_wait_is_answered_at_once(
    run_id: str, places: Places, tmp_path: Path, at: str, number: int, sentence: str, seen_on: str
) -> None:
    """By one line while the deed goes on; a second Ctrl-C says nothing again, and the run ends as it would have."""
    with controller(run_id, tmp_path, at, seen_on) as (process, said):
        wait_until((tmp_path / "begun").exists)
        assert sentence not in said()
        process.send_signal(number)
        wait_until(lambda: sentence in said(), patience_s=SAID_S)
        assert process.poll() is None
        if at == "teardown":
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == Exit.INTERRUPTED, said()
        assert said().count(sentence) == 1
    assert Ledger(places.ledger).runs()[run_id].over


def test_who_can_not_be_told_is_answered_all_the_same() -> None:
    """A line that is not taken, or breaks, keeps no signal from its answer."""

    def stuck() -> None:
        time.sleep(30)

    def broken() -> None:
        raise OSError("nobody reads along")

    for say in (stuck, broken):
        for held in (shielded, said_first):
            with pytest.raises(KeyboardInterrupt), held(say):
                signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_is_ignored_stays_so_during_an_order() -> None:
    """Under nohup, or in the background of a shell; nor is one taken over that ends the process by itself."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with said_first(lambda: pytest.fail("nobody was heard")):
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
