"""What a run has cost so far, or in the end: the one formula for `ls`, the live table and the receipt. Pure.

Dollars are Decimals, rounded to a hundredth of a cent on each line; a total is the sum of the lines as shown.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

import msgspec

from catalogs.hardware import ANYWHERE, Billing
from planner.estimators.cost import address_usd_per_hour, disks_usd_per_s, round_to_bill, sending_usd
from planner.units import SECONDS_PER_HOUR
from provision.account.runs import Rental, RunState
from provision.account.upkeep import Upkeep, is_billed, kept_usd_per_gib_month, upkeep
from provision.seam import Answer, Resource

USD_STEP = Decimal("0.0001")
LineName = Literal["compute", "idle", "disk", "address", "egress", "failed attempts"]
LINES: tuple[LineName, ...] = ("compute", "idle", "disk", "address", "egress", "failed attempts")


def bill(
    rentals: tuple[Rental, ...], *, now_s: float, busy_s: float | None = None, sent_bytes: int = 0
) -> dict[LineName, Decimal]:
    """Dollars by line at `now_s`, each rental at the price and under the rule that were frozen before it was asked for.

    Every rental is rounded to what its provider bills. `busy_s` are the seconds of the last one in which something of
    the run went on, the rest is idle; None = all of it. `sent_bytes` left the last one beside its checkpoints.
    """
    if not rentals:
        return dict.fromkeys(LINES, Decimal(0))
    *failed, last = rentals
    last_s = billed_s(last, now_s=now_s)
    usd_per_hour = last.offer.usd_per_hour
    busy = last_s if busy_s is None else min(last_s, busy_s)
    return {
        "compute": rounded(_usd(busy, usd_per_hour) + _setup_usd(last)),
        "idle": rounded(_usd(last_s, usd_per_hour)) - rounded(_usd(busy, usd_per_hour)),
        "disk": rounded(sum((_disk_usd(rental, now_s) for rental in rentals), Decimal(0))),
        "address": rounded(sum((_address_usd(rental, now_s) for rental in rentals), Decimal(0))),
        "egress": _egress_usd(rentals, sent_bytes),
        "failed attempts": rounded(sum((_compute_usd(rental, now_s) for rental in failed), Decimal(0))),
    }


def billed_s(rental: Rental, *, now_s: float) -> float:
    """The seconds that the provider bills for a rental, until `now_s` for one that has not ended."""
    if not rental.bought:
        return 0.0
    ended_at_s = now_s if rental.ended_at_s is None else rental.ended_at_s
    until_s = ended_at_s if rental.off_at_s is None else min(ended_at_s, rental.off_at_s)
    until_s = max(until_s, rental.late_until_s or until_s)
    return round_to_bill(max(0.0, until_s - rental.started_at_s), rental.billing)


def rental_usd(rental: Rental, *, now_s: float) -> Decimal:
    """What one rental costs by itself, less egress."""
    return rounded(_compute_usd(rental, now_s) + _disk_usd(rental, now_s) + _address_usd(rental, now_s))


def usd_so_far(state: RunState, *, now_s: float) -> Decimal:
    """What a run that goes on has cost: the same sum as its receipt would show now, less the adapter's way home."""
    return sum(bill(state.rentals, now_s=now_s).values(), Decimal(0))


def cost_usd(state: RunState, *, now_s: float) -> Decimal:
    """Of any run: as its receipt has it; until there is one, by the same formula."""
    if state.billed is not None and state.over:
        return state.billed.metered_usd
    return usd_so_far(state, now_s=now_s)


def kept_usd_per_month(state: RunState) -> Decimal | None:
    """What the disks that its user keeps cost by the month, each at its region's price; None where one is not known."""
    prices = {rental.offer.region: kept_usd_per_gib_month(rental.billing) for rental in state.rentals}
    usd = [_monthly_usd(volume, prices.get(volume.region, prices.get(ANYWHERE))) for volume in state.kept]
    return None if None in usd else rounded(sum(filter(None, usd), Decimal(0)))


def _monthly_usd(volume: Resource, usd_per_gib_month: Decimal | None) -> Decimal | None:
    if volume.size_gib is None or usd_per_gib_month is None:
        return None
    return volume.size_gib * usd_per_gib_month


def costs_on(state: RunState) -> dict[str, Upkeep]:
    """By id, what is billed on of a run that somebody has tried to end: what was not seen to be gone, and what is kept."""
    ends = state.teardown.resources if state.teardown else ()
    left = (*(end.resource for end in ends if end.gone is not Answer.YES), *state.kept)
    return {each.id: upkeep(_priced(each, state), _rule_for(each, state)) for each in left if is_billed(each)}


def _priced(resource: Resource, state: RunState) -> Resource:
    """Where its tags were not seen: at the price that was agreed to."""
    if resource.usd_per_hour is not None or state.rental is None:
        return resource
    return msgspec.structs.replace(resource, usd_per_hour=state.rental.offer.usd_per_hour)


def _rule_for(resource: Resource, state: RunState) -> Billing | None:
    """Of the rental where it is; of the last one where none says so."""
    there = (each.billing for each in state.rentals if each.offer.region in (resource.region, ANYWHERE))
    return next(there, state.rental.billing if state.rental else None)


def rounded(usd: Decimal) -> Decimal:
    """To a hundredth of a cent."""
    return usd.quantize(USD_STEP, rounding=ROUND_HALF_UP)


def _compute_usd(rental: Rental, now_s: float) -> Decimal:
    return _usd(billed_s(rental, now_s=now_s), rental.offer.usd_per_hour) + _setup_usd(rental)


def _setup_usd(rental: Rental) -> Decimal:
    """Once for each machine, whatever it runs."""
    return rental.offer.setup_usd if rental.bought else Decimal(0)


def _disk_usd(rental: Rental, now_s: float) -> Decimal:
    """For as long as the machine is billed; and while it is off its disk is there, unless its provider says that it is free."""
    billing = rental.billing
    gib = max(rental.disk_gib, billing.minimum_disk_gib)
    off_gib = 0 if billing.stopped_disk_bills is False else gib if rental.off_gib is None else rental.off_gib
    return sum(
        (
            Decimal(str(seconds)) * disks_usd_per_s(each_gib, rental.volume_gib, billing)
            for seconds, each_gib in ((billed_s(rental, now_s=now_s), gib), (_off_s(rental), off_gib))
        ),
        Decimal(0),
    )


def _address_usd(rental: Rental, now_s: float) -> Decimal:
    """For as long as the machine is billed: one that is off gives it back, or its provider bills on as if it ran."""
    return _usd(billed_s(rental, now_s=now_s), address_usd_per_hour(rental.offer, rental.billing))


def _off_s(rental: Rental) -> float:
    """Seconds for which its machine was off, and there, where that ends the machine's bill."""
    if rental.off_at_s is None or rental.ended_at_s is None or not rental.bought:
        return 0.0
    return max(0.0, rental.ended_at_s - max(rental.off_at_s, rental.started_at_s))


def _usd(seconds: float, usd_per_hour: Decimal) -> Decimal:
    return Decimal(str(seconds)) * usd_per_hour / SECONDS_PER_HOUR


def _egress_usd(rentals: tuple[Rental, ...], sent_bytes: int) -> Decimal:
    """What is free of charge is so once a provider, however many of its boxes there were."""
    sent = {rental.billing.provider: 0 for rental in rentals}
    for rental in rentals:
        sent[rental.billing.provider] += rental.sent_bytes
    sent[rentals[-1].billing.provider] += sent_bytes
    rules = {rental.billing.provider: rental.billing for rental in rentals}
    dollars = (sending_usd(Decimal(num_bytes), rules[provider]) for provider, num_bytes in sent.items())
    return rounded(sum(dollars, Decimal(0)))
