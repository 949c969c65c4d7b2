"""What a machine or a disk costs on as it stands, running or switched off, and what it has cost by its tags alone. Pure.

A machine that is off is billed as its provider's row of billing.csv says: nothing, its disk, everything, or not known. Where
a provider does not tell whether it runs, or since when it does not, what is said is a bound, and is called one. A machine that
runs is taken to have run since it was made: nobody of ours starts one again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Final, Literal

import msgspec

from catalogs.hardware import Billing, WhileOff
from planner.estimators.cost import SECONDS_PER_MONTH
from planner.units import SECONDS_PER_HOUR
from provision.seam import MACHINE, VOLUME, Answer, Resource
from provision.words import usd_words

HOURS_PER_MONTH: Final = Decimal(SECONDS_PER_MONTH) / SECONDS_PER_HOUR
DISKS: Final = frozenset({VOLUME, "disk"})
Bound = Literal["exactly", "at most", "at least"]
BOUND_WORDS: Final[dict[Bound, str]] = {"exactly": "", "at most": "at most ", "at least": "at least "}


class Upkeep(msgspec.Struct, frozen=True, kw_only=True):
    """What one resource is billed by the hour from now on, if nobody ends it."""

    because: str  # as in "it runs"; "it is off, and its disk of 100 GiB is billed"
    usd_per_hour: Decimal | None  # None = not known
    bound: Bound = "exactly"

    @property
    def usd_per_month(self) -> Decimal | None:
        """For as many hours as a month has."""
        return None if self.usd_per_hour is None else self.usd_per_hour * HOURS_PER_MONTH


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What one machine has cost so far, without disk, address and egress while it ran."""

    usd: Decimal
    bound: Bound


def is_billed(resource: Resource) -> bool:
    """Whether it has a bill of its own: a disk that goes with a machine is on the machine's."""
    return resource.kind == MACHINE or (resource.kind in DISKS and not (resource.in_use and resource.name is None))


def upkeep(resource: Resource, billing: Billing | None) -> Upkeep:
    """Of what is billed, at a provider of this rule; None: nobody here knows the provider's."""
    if resource.kind != MACHINE:
        return _of_disk(resource, billing)
    if resource.runs is Answer.YES:
        return Upkeep(because="it runs", usd_per_hour=resource.usd_per_hour)
    if resource.runs is Answer.UNKNOWN:
        return Upkeep(because="whether it runs is not known", usd_per_hour=resource.usd_per_hour, bound="at most")
    return OFF[billing.while_off if billing else WhileOff.UNKNOWN](resource, billing)


def _of_disk(disk: Resource, billing: Billing | None) -> Upkeep:
    """One that is kept has a price of its own."""
    price = (
        None
        if billing is None
        else kept_usd_per_gib_month(billing)
        if disk.name is not None
        else billing.disk_usd_per_gib_month
    )
    size = "of a size that is not known" if disk.size_gib is None else f"{disk.size_gib} GiB"
    return Upkeep(because=size, usd_per_hour=_disk_usd_per_hour(disk.size_gib, price))


def kept_usd_per_gib_month(billing: Billing) -> Decimal | None:
    """Older lines know the price of disks alone: what they kept was a box's own."""
    return billing.disk_usd_per_gib_month if billing.volume_usd_per_gib_month is None else billing.volume_usd_per_gib_month


def _disk_usd_per_hour(size_gib: int | None, usd_per_gib_month: Decimal | None) -> Decimal | None:
    if size_gib == 0:
        return Decimal(0)
    if size_gib is None or usd_per_gib_month is None:
        return None
    return size_gib * usd_per_gib_month / HOURS_PER_MONTH


def _its_disk(machine: Resource, billing: Billing | None, bound: Bound = "exactly") -> Upkeep:
    size = "" if machine.off_gib is None else f" of {machine.off_gib} GiB"
    usd = _disk_usd_per_hour(machine.off_gib, billing.disk_usd_per_gib_month if billing else None)
    if machine.off_gib == 0:
        return Upkeep(because="it is off, and keeps no disk that is billed", usd_per_hour=usd, bound=bound)
    return Upkeep(because=f"it is off, and its disk{size} is billed", usd_per_hour=usd, bound=bound)


# What is billed of a machine that is off -> what it costs on.
OFF: Final[dict[WhileOff, Callable[[Resource, Billing | None], Upkeep]]] = {
    WhileOff.NOTHING: lambda _, __: Upkeep(because="it is off, and nothing is billed", usd_per_hour=Decimal(0)),
    WhileOff.DISK: _its_disk,
    WhileOff.AT_LEAST_DISK: lambda machine, billing: _its_disk(machine, billing, "at least"),
    WhileOff.EVERYTHING: lambda machine, _: Upkeep(
        because="it is off, and everything is billed as before", usd_per_hour=machine.usd_per_hour
    ),
    WhileOff.UNKNOWN: lambda _, __: Upkeep(
        because="it is off, and what its provider bills then is not known", usd_per_hour=None
    ),
}


def spent(machine: Resource, billing: Billing | None, *, now_s: float) -> Spent | None:
    """By its tags, since its provider made it; None where price or beginning is not known.

    At the price of a running machine while it ran, and of one that is off since then. Where the provider does not tell since
    when it is off, or whether it is, no more than the price of all that time.
    """
    if machine.usd_per_hour is None or machine.since_s is None:
        return None
    all_s = max(0.0, now_s - machine.since_s)
    at_most = _usd(all_s, machine.usd_per_hour)
    costs = upkeep(machine, billing)
    if machine.runs is Answer.UNKNOWN:
        return Spent(usd=at_most, bound="at most")
    if costs.usd_per_hour == machine.usd_per_hour:  # it runs, or is billed as if it did
        return Spent(usd=at_most, bound="exactly")
    if machine.off_since_s is None:
        return Spent(usd=at_most, bound="at most")
    off_s = min(all_s, max(0.0, now_s - machine.off_since_s))
    ran_usd = _usd(all_s - off_s, machine.usd_per_hour)
    if costs.usd_per_hour is None:
        return Spent(usd=ran_usd, bound="at least")
    return Spent(usd=ran_usd + _usd(off_s, costs.usd_per_hour), bound=costs.bound)


def spent_together(machines: Iterable[Spent | None]) -> Spent | None:
    """Of several; None where it is not known of one, where bounds of both kinds meet, and of none at all."""
    each = list(machines)
    known = [one for one in each if one is not None]
    bounds = {one.bound for one in known} - {"exactly"}
    if not known or len(known) < len(each) or len(bounds) > 1:
        return None
    return Spent(usd=sum((one.usd for one in known), Decimal(0)), bound=bounds.pop() if bounds else "exactly")


def _usd(seconds: float, usd_per_hour: Decimal) -> Decimal:
    return Decimal(str(seconds)) * usd_per_hour / SECONDS_PER_HOUR


def upkeep_words(costs: Upkeep) -> str:
    """As in "it is off, and its disk of 100 GiB is billed: $0.0110 an hour, $8.00 a month"."""
    if costs.usd_per_hour is None or costs.usd_per_month is None:
        return f"{costs.because}: at a price that is not known"
    bound = BOUND_WORDS[costs.bound]
    return f"{costs.because}: {bound}{usd_words(costs.usd_per_hour)} an hour, ${costs.usd_per_month:,.2f} a month"


def spent_words(so_far: Spent) -> str:
    """As in "at most $0.1000 so far"."""
    return f"{BOUND_WORDS[so_far.bound]}{usd_words(so_far.usd)} so far"
