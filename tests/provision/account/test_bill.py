"""What a rental costs: the machine for as long as it runs, and its disks for as long as they are there."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from planner.estimators.cost import SECONDS_PER_MONTH
from planner.plan import Plan
from provision.account.bill import bill, rental_usd
from provision.account.runs import Rental
from tests.provision.plans import rental

HOUR_S = 3600.0
MONTH_S = float(SECONDS_PER_MONTH)


def found_off(plan: Plan, *, off_gib: int | None = None, volume_gib: int = 0, **rule: Any) -> Rental:
    """A machine of 3.60 $/h and 100 GiB that switched itself off after an hour, and was deleted a month later."""
    billing = {"disk_usd_per_gib_month": Decimal("0.10"), "volume_usd_per_gib_month": Decimal("0.20"), **rule}
    box = rental(plan, started_at_s=0.0, ended_at_s=HOUR_S + MONTH_S)
    return msgspec.structs.replace(
        box,
        billing=msgspec.structs.replace(box.billing, **billing),
        disk_gib=100,
        volume_gib=volume_gib,
        off_at_s=HOUR_S,
        off_gib=off_gib,
    )


@pytest.mark.parametrize(
    ("disk_bills", "off_gib", "gib_months"),
    [
        pytest.param(True, None, 100, id="billed"),
        pytest.param(None, None, 100, id="nobody says that it is not"),
        pytest.param(False, None, 0, id="free"),
        pytest.param(True, 40, 40, id="as much as its provider shows"),
        pytest.param(True, 0, 0, id="or none of it: what a container has is gone"),
    ],
)
def test_the_disk_of_a_machine_that_is_off_is_billed_until_it_is_gone(
    plan: Plan, disk_bills: bool | None, off_gib: int | None, gib_months: int
) -> None:
    """And the machine until it was off."""
    lines = bill((found_off(plan, stopped_disk_bills=disk_bills, off_gib=off_gib),), now_s=9e9)
    while_on_usd = Decimal(100) * Decimal("0.10") / 730
    assert lines["compute"] == Decimal("3.60")
    assert lines["disk"] == (while_on_usd + gib_months * Decimal("0.10")).quantize(Decimal("0.0001"))


def test_a_public_address_is_billed_with_its_machine_and_no_longer(plan: Plan) -> None:
    """For the hour until it was off; each box of a run has one."""
    box = found_off(plan, address_usd_per_hour=Decimal("0.005"))
    assert bill((box,), now_s=9e9)["address"] == Decimal("0.005")
    assert bill((box, box), now_s=9e9)["address"] == Decimal("0.01")
    without = msgspec.structs.replace(box, billing=msgspec.structs.replace(box.billing, address_usd_per_hour=None))
    assert rental_usd(box, now_s=9e9) - rental_usd(without, now_s=9e9) == Decimal("0.005")


def test_a_kept_volume_is_billed_while_its_machine_is_off_whatever_becomes_of_the_disk(plan: Plan) -> None:
    lines = bill((found_off(plan, stopped_disk_bills=False, volume_gib=50),), now_s=9e9)
    while_on_usd = (100 * Decimal("0.10") + 50 * Decimal("0.20")) / 730
    assert lines["disk"] == (while_on_usd + 50 * Decimal("0.20")).quantize(Decimal("0.0001"))


def test_a_disk_is_billed_at_least_as_large_as_its_provider_sells(plan: Plan) -> None:
    """Whatever was ordered: its machine comes with no smaller one."""
    usd = [bill((found_off(plan, stopped_disk_bills=False, minimum_disk_gib=gib),), now_s=9e9)["disk"] for gib in (0, 100, 300)]
    assert usd == [Decimal("0.0137"), Decimal("0.0137"), Decimal("0.0411")]
