"""Spot machines: how often a checkpoint comes home, and what being taken away costs in the mean and at p90."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from catalogs.bases.models import resolve_model
from planner.estimators.cost import estimate_cost
from planner.estimators.time.duration import checkpoint_bytes
from planner.estimators.time.interruptions import (
    MANY,
    TAKEN_PER_HOUR,
    interrupted,
    interval_s,
    poisson_quantile,
    rhythm_s,
    sent_bytes,
)
from planner.methods import trainable_params
from planner.plan import NOTHING, Range
from planner.units import GB
from remote.contract import Optimizer, Strategy
from tests.planner.builders import exactly, make_billing, make_duration, make_host, make_offer

FREE = make_billing()
SOLD = msgspec.structs.replace(FREE, egress_usd_per_gb=Decimal("0.09"))
SPOT = make_offer(purchase="spot")
TEN_HOURS = make_duration(
    exactly(36_000.0), create=90.0, boot=60.0, environment=120.0, download=30.0, load=60.0, train=35_640.0
)


def test_a_worked_example() -> None:
    """Half a GB at 9 cents a GB costs 4.5 cents; at 50 cents an hour and one loss in twenty hours that is worth 1.9 hours."""
    assert rhythm_s(Decimal("0.50"), SOLD, GB // 2) == pytest.approx((2 * 0.045 / (0.05 * 0.50)) ** 0.5 * 3600)
    assert rhythm_s(Decimal("0.50"), SOLD, GB // 2) == pytest.approx(6831, abs=1)


def test_it_is_where_both_costs_together_are_least() -> None:
    """A tenth more or less of it costs more."""
    size_bytes, usd_per_hour = 2 * GB, Decimal("1.20")

    def usd_an_hour(interval_h: float) -> float:
        return 0.18 / interval_h + TAKEN_PER_HOUR * float(usd_per_hour) * interval_h / 2

    best_h = rhythm_s(usd_per_hour, SOLD, size_bytes) / 3600
    assert usd_an_hour(best_h) < min(usd_an_hour(0.9 * best_h), usd_an_hour(1.1 * best_h))


def test_where_sending_costs_nothing_every_one_comes_home() -> None:
    assert rhythm_s(Decimal("0.50"), FREE, GB) == 0.0
    assert interval_s(SPOT, FREE, checkpoint_bytes=GB, checkpoint_every_s=120.0) == 120.0
    assert interval_s(SPOT, SOLD, checkpoint_bytes=GB, checkpoint_every_s=120.0) > 120.0


def test_ten_hours_are_disturbed_half_a_time_in_the_mean() -> None:
    """By hand: 0.05 an hour; each loses 360 s until another machine computes, and half of 240 s of work."""
    disturbed = interrupted(TEN_HOURS, SPOT, every_s=240.0)
    assert disturbed.interruptions == Range(p10=0.0, p50=0.5, p90=1.0)  # a count of mean 0.5 is 0 or 1 in 91 %
    assert disturbed.lost_s == 90 + 60 + 120 + 30 + 60 + 120
    assert disturbed.wall_s.p50 == 36_000 + 0.5 * 480


@pytest.mark.parametrize(("mean", "tenth", "ninth"), [(0.5, 0, 1), (1.0, 0, 2), (5.0, 2, 8), (10.0, 6, 14), (MANY, 87, 113)])
def test_one_count_in_ten_is_below_and_one_above(mean: float, tenth: int, ninth: int) -> None:
    """As tables of the Poisson distribution have it, and as near as one where there are many."""
    assert (poisson_quantile(mean, 0.1), poisson_quantile(mean, 0.9)) == (tenth, ninth)
    beyond = MANY + 1e-6
    assert (poisson_quantile(beyond, 0.1), poisson_quantile(beyond, 0.9)) == (87, 113)


def test_a_long_job_is_taken_at_the_best_of_times_too() -> None:
    """Two hundred hours: ten times in the mean, six in a lucky run of ten."""
    hours = make_duration(exactly(720_000.0), train=720_000.0)
    assert interrupted(hours, SPOT, every_s=240.0).interruptions == Range(p10=6.0, p50=10.0, p90=14.0)


def test_the_pessimistic_end_of_any_spot_machine_is_taken_once_at_the_least() -> None:
    """However short it is, then it loses half of all its work; on demand nobody takes it away."""
    short = make_duration(exactly(60.0), train=60.0)
    assert interrupted(short, SPOT, every_s=120.0).wall_s.p90 == 60.0 + 30.0
    assert interrupted(short, make_offer(), every_s=120.0) == short


def test_what_is_done_again_is_a_line_of_the_bill() -> None:
    """At a dollar an hour, 35,910 s beside 390 s of each interruption, as nobody bills the wait for another machine."""
    disturbed = interrupted(TEN_HOURS, SPOT, every_s=240.0)
    cost = estimate_cost(disturbed, make_host(), offer=SPOT, billing=FREE, sent_bytes=0.0)
    assert cost.compute_usd == exactly(9.975)
    assert cost.rework_usd.p10 == 0.0
    assert cost.rework_usd.p50 == pytest.approx(0.5 * 390 / 3600, abs=1e-6)
    assert cost.rework_usd.p90 > cost.rework_usd.p50
    on_demand = estimate_cost(TEN_HOURS, make_host(), offer=make_offer(), billing=FREE, sent_bytes=0.0)
    assert on_demand.rework_usd == NOTHING


def test_checkpoints_that_come_home_are_sent_too() -> None:
    """Each with what its optimizer remembers; from a machine on demand the adapter alone."""
    assert sent_bytes(TEN_HOURS, SPOT, adapter_bytes=100, checkpoint_bytes=300, every_s=3_564.0) == 100 + 10 * 300
    assert sent_bytes(TEN_HOURS, make_offer(), adapter_bytes=100, checkpoint_bytes=300, every_s=3_564.0) == 100


@pytest.mark.parametrize(("optimizer", "states"), [("adamw_torch", 2.0), ("sgd", 0.0)])
def test_a_checkpoint_is_as_large_as_its_optimizer_makes_it(optimizer: Optimizer, states: float) -> None:
    """In float32: two numbers beside each of the adapter's for Adam, none for plain gradient descent."""
    architecture = resolve_model("3b")
    strategy = Strategy(method="lora", rank=16, alpha=32.0, seq_len=512, micro_batch_size=8, optimizer=optimizer)
    weights = trainable_params(architecture, strategy) * 4
    assert checkpoint_bytes(architecture, strategy, "causal_lm") == pytest.approx(weights * (1 + states), rel=1e-3)
