"""What a run has cost so far, or in the end: the one formula for `ls`, the live table and the receipt. Pure.

Dollars are Decimals, rounded to a hundredth of a cent on each line; a total is the sum of the lines as shown.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

from catalogs.hardware import Billing
from planner.cost import SECONDS_PER_MONTH, round_to_bill
from planner.units import GB, SECONDS_PER_HOUR
from provision.account.ledger import Opened, Rental, RunState

USD_STEP = Decimal("0.0001")
LineName = Literal["compute", "idle", "disk", "egress", "failed attempts"]
LINES: tuple[LineName, ...] = ("compute", "idle", "disk", "egress", "failed attempts")


def bill(
    rentals: tuple[Rental, ...],
    opened: Opened,
    *,
    disk_gib: int,
    now_s: float,
    busy_s: float | None = None,
    sent_bytes: int = 0,
) -> dict[LineName, Decimal]:
    """Dollars by line at `now_s`, at the price and under the rule that were frozen at the launch.

    Every rental is rounded to what the provider bills. `busy_s` are the seconds of the last one in which something of
    the run went on, the rest is idle; None = all of it. `sent_bytes` left the provider.
    """
    *failed, last = billed_seconds(rentals, opened, now_s=now_s) or [0.0]
    busy = last if busy_s is None else min(last, busy_s)
    return {
        "compute": _usd(busy, opened.usd_per_hour),
        "idle": _usd(last, opened.usd_per_hour) - _usd(busy, opened.usd_per_hour),
        "disk": _usd(last + sum(failed), _disk_usd_per_hour(opened.billing, disk_gib)),
        "egress": _egress_usd(opened.billing, sent_bytes),
        "failed attempts": _usd(sum(failed), opened.usd_per_hour),
    }


def billed_seconds(rentals: tuple[Rental, ...], opened: Opened, *, now_s: float) -> list[float]:
    """The seconds that the provider bills for each rental, until `now_s` for one that has not ended."""
    return [round_to_bill(_length_s(rental, now_s), opened.billing) for rental in rentals]


def usd_so_far(state: RunState, *, disk_gib: int, now_s: float) -> Decimal:
    """What a run that goes on has cost: the same sum as its receipt would show now, less egress."""
    return sum(bill(state.rentals, state.opened, disk_gib=disk_gib, now_s=now_s).values(), Decimal(0))


def rounded(usd: Decimal) -> Decimal:
    """To a hundredth of a cent."""
    return usd.quantize(USD_STEP, rounding=ROUND_HALF_UP)


def _length_s(rental: Rental, now_s: float) -> float:
    return max(0.0, (now_s if rental.ended_at_s is None else rental.ended_at_s) - rental.started_at_s)


def _usd(seconds: float, usd_per_hour: Decimal) -> Decimal:
    return rounded(Decimal(str(seconds)) * usd_per_hour / SECONDS_PER_HOUR)


def _disk_usd_per_hour(billing: Billing, disk_gib: int) -> Decimal:
    price = billing.disk_usd_per_gib_month or Decimal(0)
    return price * max(disk_gib, billing.minimum_disk_gib) * SECONDS_PER_HOUR / SECONDS_PER_MONTH


def _egress_usd(billing: Billing, sent_bytes: int) -> Decimal:
    price = billing.egress_usd_per_gb or Decimal(0)
    billable_gb = max(Decimal(0), Decimal(sent_bytes) / GB - billing.egress_free_gb)
    return rounded(billable_gb * price)
