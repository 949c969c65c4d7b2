"""A deadline that comes too early is told while there is time to do something about it."""

from __future__ import annotations

import dataclasses

import msgspec

from provision.account.ledger import Ledger
from provision.home.places import Places
from provision.walk.foresight import Foresight
from provision.walk.held import read_run
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Paper
from tests.provision.watch.test_view import event


def test_a_deadline_before_the_end_of_the_training_is_told_once(run_id: str, places: Places, ledger: Ledger) -> None:
    """Not from the first step, which says little of the others; with what comes home then."""
    watcher = Quiet()
    run = read_run(run_id, places=places, ledger=ledger, make=lambda _claim: Paper(), display=watcher)
    run = dataclasses.replace(run, clock=lambda: run.state.deadline_at_s - 90.0)
    starts_at_s = run.clock()
    foresight = Foresight(run)
    told = []
    for number in range(6):
        kind = "step" if number else "phase_started"
        said = event(number, kind, step=number, total_steps=200)
        foresight.heard(msgspec.structs.replace(said, at_s=starts_at_s + number))
        told.append(len(watcher.notes))
    assert told == [0, 0, 0, 1, 1, 1]
    assert watcher.notes[0] == (
        "At this pace the training needs 3 min 17 s more, and the deadline comes in 1 min 30 s: "
        "it will be cut short in time to save, and what is trained by then comes home."
    )
