"""What a search turned down, gathered while it runs and told in groups: each with its figures and the nearest remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import ROUND_CEILING, Decimal
from typing import Final

import msgspec

from catalogs.hardware import Offer
from planner.plan import Rejection
from planner.policy import Cap
from planner.refusals import CaseRefused
from planner.search.offers import Kind
from planner.units import GIB, SECONDS_PER_HOUR

NAMES_SHOWN: Final = 6


class TooSmall(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of machine on which no strategy fits, and the one that came nearest."""

    kind: Kind
    needed_bytes: int
    available_bytes: int
    strategy: str


LOOKED_AT: Final = ", of those looked at"  # cheaper ones did the job, so no more were


class Short(msgspec.Struct, frozen=True, kw_only=True):
    """An offer that holds the job on its GPU and not beside it, or holds it and breaks a limit."""

    offer: Offer
    needed: float
    limit: float


class Dear(msgspec.Struct, frozen=True, kw_only=True):
    """An offer that does the job, for more than it may cost."""

    offer: Offer
    needed_usd: float  # at p90
    cap: Cap


class Notebook:
    """Written by the search, read once at its end."""

    def __init__(self) -> None:
        self.too_small: list[TooSmall] = []
        self.without_kernels: list[Kind] = []
        self.unsupported: dict[str, tuple[str, CaseRefused]] = {}  # by message: the first strategy that met it
        self.short_of_ram: list[Short] = []  # bytes
        self.short_of_disk: list[Short] = []
        self.too_dear: list[Dear] = []
        self.too_slow: list[Short] = []  # seconds at p90

    def rejections(self, *, complete: bool) -> Iterator[Rejection]:
        """Everything that was written down: RAM, disk, money, time, what can't be computed, cards that are too small.

        `complete`: every machine was looked at. Else the search had what it wanted before it came to the end, and the
        cheapest and fastest of what is written here may not be the cheapest and fastest there are.
        """
        yield from _beside(self.short_of_ram, "RAM", lambda offer: offer.ram_gib)
        yield from _beside(self.short_of_disk, "disk", lambda offer: offer.local_disk_gib)
        yield from _dear(self.too_dear, complete=complete)
        yield from _slow(self.too_slow, complete=complete)
        for message, (strategy, refusal) in self.unsupported.items():
            yield Rejection(what=strategy, reason=message, remedy=refusal.hint)
        if self.without_kernels:
            kinds = {kind.name: kind for kind in self.without_kernels}
            yield Rejection(
                what="int8 and nf4 on " + names(kinds),
                reason="bitsandbytes has no kernels for these cards",
                changes={"training.quant": "none"},
                num_offers=sum(len(kind.offers) for kind in kinds.values()),
            )
        yield from _small(self.too_small)


def _small(entries: list[TooSmall]) -> Iterator[Rejection]:
    for num_gpus in sorted({entry.kind.num_gpus for entry in entries}):
        group = [entry for entry in entries if entry.kind.num_gpus == num_gpus]
        nearest = min(group, key=lambda entry: entry.needed_bytes - entry.available_bytes)
        place = "on each GPU" if num_gpus > 1 else "of RAM" if num_gpus == 0 else "on one GPU"
        needed, has = told_apart(nearest.needed_bytes / GIB, nearest.available_bytes / GIB)
        yield Rejection(
            what=names(entry.kind.name for entry in sorted(group, key=lambda entry: -entry.available_bytes)),
            reason=f"needs at least {needed} GiB {place} ({nearest.strategy}); {nearest.kind.name} has {has} usable",
            needed={"required_bytes": nearest.needed_bytes, "available_bytes": nearest.available_bytes},
            num_offers=sum(len(entry.kind.offers) for entry in group),
        )


def _beside(entries: list[Short], thing: str, has: Callable[[Offer], float | None]) -> Iterator[Rejection]:
    if not entries:
        return
    largest = max(entries, key=lambda entry: has(entry.offer) or 0.0)
    needed, limit = told_apart(largest.needed / GIB, largest.limit / GIB)
    yield Rejection(
        what=names(sorted({entry.offer.instance_type for entry in entries})),
        reason=f"needs {needed} GiB of {thing}; {largest.offer.instance_type} has "
        f"{has(largest.offer) or 0:g} GiB, of which {limit} can be used",
        needed={f"{thing.lower()}_bytes": round(largest.needed)},
        num_offers=len(entries),
    )


def _dear(entries: list[Dear], *, complete: bool) -> Iterator[Rejection]:
    if not entries:
        return
    cheapest = min(entries, key=lambda entry: entry.needed_usd)
    enough = Decimal(str(cheapest.needed_usd)).quantize(Decimal("0.01"), ROUND_CEILING)
    least = f"; the cheapest, {cheapest.offer.key}, needs ${enough}"
    rule = cheapest.cap.rule
    place = "" if rule is None else f" ({rule.place})"
    yield Rejection(
        what=machines(len(entries)),
        reason=f"over ${cheapest.cap.usd} at p90{place}{least if complete else LOOKED_AT}",
        remedy=None if rule is None else rule.remedy,
        changes={"budget.max_usd": enough} if complete and rule is None else {},
        needed={"p90_usd": cheapest.needed_usd},
        num_offers=len(entries),
    )


def _slow(entries: list[Short], *, complete: bool) -> Iterator[Rejection]:
    for limit_s in sorted({entry.limit for entry in entries}):
        group = [entry for entry in entries if entry.limit == limit_s]
        fastest = min(group, key=lambda entry: entry.needed)
        hours = fastest.needed / SECONDS_PER_HOUR
        least = f"; the fastest, {fastest.offer.key}, needs {hours:,.1f} h"
        yield Rejection(
            what=machines(len(group)),
            reason=f"over {limit_s / SECONDS_PER_HOUR:g} h at p90{least if complete else LOOKED_AT}",
            changes={"budget.max_hours": -int(-hours // 1)} if complete else {},
            needed={"p90_s": fastest.needed},
            num_offers=len(group),
        )


def told_apart(needed: float, has: float) -> tuple[str, str]:
    """Two figures with as few decimals as tell one from the other, one at least: the reason is their difference."""
    pairs = ((f"{needed:.{decimals}f}", f"{has:.{decimals}f}") for decimals in range(1, 10))
    return next((pair for pair in pairs if pair[0] != pair[1]), (f"{needed}", f"{has}"))


def machines(number: int) -> str:
    """So many that hold the job and break a limit."""
    return f"{number:,} machine{'s' * (number > 1)} that could do it"


def names(words: Iterator[str] | list[str] | dict[str, Kind]) -> str:
    """The first few, and how many more."""
    words = list(dict.fromkeys(words))
    more = f" and {len(words) - NAMES_SHOWN} more" if len(words) > NAMES_SHOWN else ""
    return ", ".join(words[:NAMES_SHOWN]) + more
