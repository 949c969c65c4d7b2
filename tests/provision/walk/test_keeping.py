"""How often a spot machine's checkpoint comes home: as often as what may be lost is worth."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from planner.units import GB
from provision.walk.keeping import TAKEN_PER_HOUR, rhythm_s
from tests.provision.plans import FREE

SOLD = msgspec.structs.replace(FREE, egress_usd_per_gb=Decimal("0.09"))


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
