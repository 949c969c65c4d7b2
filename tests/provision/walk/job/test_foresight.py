"""A deadline that comes too early is told while there is time to do something about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import msgspec
import pytest

from provision.account.ledger import Ledger
from provision.errors import TrainingFailed
from provision.home.places import Places
from provision.walk.driven import read_run
from provision.walk.edges import Edges
from provision.walk.job.foresight import Foresight
from remote.contract import Event
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Paper
from tests.provision.watch.test_view import event


def test_a_deadline_before_the_end_of_the_training_is_told_once(run_id: str, places: Places, ledger: Ledger) -> None:
    """Not from the first step, which says little of the others; with what comes home then."""
    watcher = Quiet()
    run = read_run(run_id, Edges(places, watcher, make=lambda _claim: Paper()), ledger=ledger)
    run = dataclasses.replace(run, clocks=dataclasses.replace(run.clocks, wall=lambda: run.state.deadline_at_s - 90.0))
    starts_at_s = run.clocks.wall()
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


@pytest.fixture
def rented(run_id: str, places: Places, ledger: Ledger) -> Callable[..., Foresight]:
    """Of a run with so many seconds to its deadline, on a machine of such a provider."""

    def make(left_s: float, provider: str = "aws") -> Foresight:
        run = read_run(run_id, Edges(places, Quiet(), make=lambda _claim: Paper()), ledger=ledger)
        offer = msgspec.structs.replace(run.plan.offer, provider=provider)
        plans = (msgspec.structs.replace(run.plan, offer=offer), *run.plans[1:])
        deadline_at_s = run.state.deadline_at_s
        return Foresight(
            dataclasses.replace(run, plans=plans, clocks=dataclasses.replace(run.clocks, wall=lambda: deadline_at_s - left_s))
        )

    return make


def probe(forecast_s: float) -> Event:
    return event(3, "probe", step_s=2.5, planned_step_s=0.5, total_steps=1000, forecast_s=forecast_s)


def test_a_rented_machine_that_is_far_too_slow_is_given_up_at_the_probe(rented: Callable[..., Foresight]) -> None:
    """With what was measured and planned, and with how many steps would fit."""
    with pytest.raises(TrainingFailed) as ended:
        rented(600.0).heard(probe(2400.0))
    assert str(ended.value).startswith(
        "The probe measured 2.50 s for the longest step, planned were 0.50: 1,000 steps would take 40 min 00 s at the least, "
        "and the deadline comes in 10 min 00 s. The run was ended after $"
    )
    assert "About 250 steps would fit (max_steps)" in str(ended.value.hint)


@pytest.mark.parametrize(
    ("left_s", "forecast_s", "provider"),
    [
        (2400.0, 2400.0, "aws"),
        (2100.0, 2400.0, "aws"),  # it may come out either way
        (600.0, 2400.0, "local"),  # nothing bills
    ],
)
def test_one_that_may_do_it_goes_on(rented: Callable[..., Foresight], left_s: float, forecast_s: float, provider: str) -> None:
    rented(left_s, provider).heard(probe(forecast_s))


def test_a_trainer_of_before_that_forecasts_nothing_goes_on(rented: Callable[..., Foresight]) -> None:
    rented(600.0).heard(event(3, "probe", step_s=2.5, planned_step_s=0.5))
