"""Dollars of a job: worked by hand, and properties that hold for every job."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalogs.hardware import Offer
from planner.estimators.cost import Dearest, billed_range, dearest_of, disk_gib, disk_is_included, estimate_cost, unpriced_line
from planner.plan import CostEstimate, Range
from tests.planner.builders import exactly, make_billing, make_duration, make_host, make_offer


def test_an_hour_at_a_dollar_with_a_disk_and_an_adapter() -> None:
    """By hand: 1 h x $1.00; 44 GiB x $0.10 / 730 h; 1.5 GB - 1 free at $0.09."""
    cost = estimate_cost(
        make_duration(exactly(3_600.0)),
        make_host(disk_gib=40.0),
        offer=make_offer(),
        billing=make_billing(
            disk_usd_per_gib_month=Decimal("0.10"), egress_usd_per_gb=Decimal("0.09"), egress_free_gb=1, minimum_disk_gib=0
        ),
        sent_bytes=1_500_000_000,
    )
    assert cost.compute_usd == exactly(1.0)
    assert cost.disk_usd == exactly(0.006027)
    assert cost.egress_usd == exactly(0.045)
    assert cost.total_usd == exactly(1.051027)
    assert cost.usd_per_million_tokens == pytest.approx(1.051027)


def test_a_public_address_is_billed_as_long_as_its_machine() -> None:
    """By hand: 1 h x ($1.00 + $0.005); of a spot machine where its provider asks less for one, that."""
    rule = make_billing(address_usd_per_hour=Decimal("0.005"), spot_address_usd_per_hour=Decimal("0.0025"))
    for purchase, usd in (("on_demand", 0.005), ("spot", 0.0025)):
        offer = make_offer(purchase=purchase)
        cost = estimate_cost(make_duration(exactly(3_600.0)), make_host(), offer=offer, billing=rule, sent_bytes=0)
        assert (cost.address_usd, cost.total_usd) == (exactly(usd), exactly(1.0 + usd))


@pytest.mark.parametrize(
    ("running_s", "increment_s", "minimum_s", "billed_s"),
    [
        (10.0, 1, 60, 60.0),
        (61.2, 1, 60, 62.0),
        (61.2, 60, 0, 120.0),
        (3_601.0, 3_600, 0, 7_200.0),
        (7_200.0, 3_600, 0, 7_200.0),
    ],
)
def test_time_is_billed_in_increments_above_a_minimum(
    running_s: float, increment_s: int, minimum_s: int, billed_s: float
) -> None:
    """A started minute or hour is paid whole."""
    billing = make_billing(increment_s=increment_s, minimum_s=minimum_s)
    assert billed_range(make_duration(exactly(running_s)), billing) == exactly(billed_s)


def test_what_comes_before_and_after_the_machine_is_not_billed() -> None:
    """Keys are made before it runs, and its end is confirmed after it stopped."""
    duration = make_duration(exactly(1_000.0), prepare=10.0, queue=200.0, create=40.0, train=700.0, confirm=50.0)
    assert billed_range(duration, make_billing()) == exactly(700.0)


def test_a_machine_that_is_set_up_for_a_fee_pays_it_once() -> None:
    """However long it runs; the total has it at every end."""
    cost = estimate_cost(
        make_duration(exactly(3_600.0)),
        make_host(),
        offer=make_offer(setup_usd=Decimal(79)),
        billing=make_billing(),
        sent_bytes=0,
    )
    assert cost.setup_usd == exactly(79.0)
    assert cost.total_usd == exactly(80.0)


def test_the_disk_is_never_smaller_than_the_provider_sells() -> None:
    """A tenth of headroom, whole GiB, and the minimum."""
    assert disk_gib(make_host(disk_gib=40.0), make_billing(minimum_disk_gib=0)) == 44
    assert disk_gib(make_host(disk_gib=40.1), make_billing(minimum_disk_gib=0)) == 45
    assert disk_gib(make_host(disk_gib=40.0), make_billing(minimum_disk_gib=100)) == 100


DEAREST = Dearest(Decimal("7.3"), Decimal(73), Decimal("0.12"))


def unpriced(
    offer: Offer | None = None, *, sent_bytes: float = 2e9, keeps_volume: bool = False, **billing: Any
) -> CostEstimate:
    """An hour of a machine with a disk of 100 GiB, priced so."""
    return estimate_cost(
        make_duration(exactly(3_600.0)),
        make_host(),
        offer=offer or make_offer(),
        billing=make_billing(minimum_disk_gib=100, **billing),
        sent_bytes=sent_bytes,
        keeps_volume=keeps_volume,
        dearest=DEAREST,
    )


def test_a_price_that_nobody_states_is_named_and_reckoned_apart_at_the_dearest_known() -> None:
    """The total is the least then; what is held against limits has 100 GiB for an hour of 730, and 2 GB that leave."""
    cost = unpriced(disk_usd_per_gib_month=None, egress_usd_per_gb=None)
    assert (cost.unknown, cost.disk_usd, cost.egress_usd) == (("disk", "egress"), exactly(0.0), exactly(0.0))
    assert cost.unknown_usd.p50 == pytest.approx(100 * 7.3 / 730 + 2 * 0.12)
    assert cost.held_usd.p90 == cost.total_usd.p90 + cost.unknown_usd.p90
    told = unpriced_line("cloud", cost)
    assert told is not None
    assert told.startswith("cloud: no price is known for disk and egress, which the total leaves out")
    assert "$1.24 more" in told


def test_what_is_priced_leaves_nothing_unknown() -> None:
    """At nothing, too; nor is a price asked for what is not needed, or comes with the machine."""
    included = make_offer(local_disk_gib=500.0)
    assert disk_is_included(included, make_billing(disk_usd_per_gib_month=None))
    for cost in (
        unpriced(),
        unpriced(included, disk_usd_per_gib_month=None),
        unpriced(egress_usd_per_gb=None, egress_free_gb=10),
        unpriced(egress_usd_per_gb=None, sent_bytes=0.0),
    ):
        assert (cost.unknown, cost.held_usd, unpriced_line("cloud", cost)) == ((), cost.total_usd, None)


def test_a_volume_without_a_price_is_unknown_where_one_is_kept() -> None:
    assert unpriced(keeps_volume=True).unknown == ("volume",)
    assert unpriced(keeps_volume=True, volume_usd_per_gib_month=Decimal("0.1")).unknown == ()


def test_the_dearest_is_of_each_kind_alone() -> None:
    """Whoever states it; where nobody does there is none."""
    rules = make_billing("one", egress_usd_per_gb=Decimal("0.1")), make_billing("two", disk_usd_per_gib_month=Decimal("0.2"))
    assert dearest_of(rules) == Dearest(Decimal("0.2"), Decimal(0), Decimal("0.1"))
    assert dearest_of(()) == Dearest()


def test_a_million_tokens_are_those_of_the_data() -> None:
    """What fills a batch up costs time, and teaches nothing."""
    padded = msgspec.structs.replace(make_duration(exactly(3_600.0)), num_tokens=4_000_000, num_data_tokens=1_000_000)
    cost = estimate_cost(padded, make_host(), offer=make_offer(), billing=make_billing(), sent_bytes=0.0)
    assert cost.usd_per_million_tokens == pytest.approx(cost.total_usd.p50)


SECONDS = st.floats(min_value=1.0, max_value=1e6)
PRICES = st.decimals(min_value="0.0001", max_value="200", places=4)


@given(SECONDS, SECONDS, PRICES, PRICES, PRICES, st.integers(0, 10**12))
def test_lines_sum_to_the_total_to_the_microdollar(
    wall_s: float, more_s: float, hour: Decimal, disk: Decimal, egress: Decimal, adapter_bytes: int
) -> None:
    """At p10, p50 and p90, whatever is billed; and nothing is cheaper in a worse case."""
    cost = estimate_cost(
        make_duration(Range(p10=wall_s, p50=wall_s, p90=wall_s + more_s)),
        make_host(),
        offer=make_offer(usd_per_hour=hour),
        billing=make_billing(disk_usd_per_gib_month=disk, egress_usd_per_gb=egress),
        sent_bytes=adapter_bytes,
    )
    for end in ("p10", "p50", "p90"):
        lines = [Decimal(str(getattr(line, end))) for line in (cost.compute_usd, cost.disk_usd, cost.egress_usd)]
        assert sum(lines) == Decimal(str(getattr(cost.total_usd, end)))
    assert cost.total_usd.p10 <= cost.total_usd.p50 <= cost.total_usd.p90


@given(SECONDS, st.integers(1, 7_200), st.integers(0, 7_200))
def test_a_bill_covers_the_time_and_is_less_than_one_increment_over(seconds: float, increment_s: int, minimum_s: int) -> None:
    """Rounding is upwards, and never by a whole increment."""
    billed_s = billed_range(make_duration(exactly(seconds)), make_billing(increment_s=increment_s, minimum_s=minimum_s)).p50
    assert max(seconds, minimum_s) <= billed_s < max(seconds, minimum_s) + increment_s
    assert billed_s % increment_s == 0
