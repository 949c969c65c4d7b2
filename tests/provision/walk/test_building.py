"""What a person sees while the trainer's environment is built on a box: a line now and then, and where the rest is."""

from __future__ import annotations

import itertools

from provision.account.ledger import Ledger
from provision.home.clocks import Clocks
from provision.home.places import Places
from provision.walk.driven import read_run
from provision.walk.edges import Edges
from provision.walk.job.training import BUILD_LINE_S, Build
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Paper

NUM_LINES = 300  # as pip says of the trainer's packages


def test_a_build_says_where_its_log_is_and_then_a_line_now_and_then(run_id: str, places: Places, ledger: Ledger) -> None:
    """Each of pip's lines was a line on the terminal, which hid the run's own; all of them are in the log."""
    display, ticks = Quiet(), itertools.count()
    clocks = Clocks(steady=lambda: float(next(ticks)))
    run = read_run(run_id, Edges(places, display, make=lambda _claim: Paper(), clocks=clocks), ledger=ledger)
    build = Build(run)
    for number in range(NUM_LINES):
        build.said(f"Collecting package-{number}\n")
    assert str(run.folder.environment_log) in display.notes[0]
    assert len(display.notes) <= 1 + NUM_LINES / BUILD_LINE_S
    assert display.notes[1] == f"  after {BUILD_LINE_S + 1:.1f} s: Collecting package-{BUILD_LINE_S:.0f}"
    assert run.folder.environment_log.read_text().splitlines() == [f"Collecting package-{n}" for n in range(NUM_LINES)]
