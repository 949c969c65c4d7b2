"""What a search turned down, gathered while it runs and told in groups: each with its figures and the nearest remedy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from decimal import ROUND_CEILING, Decimal
from typing import Final

import msgspec

from catalogs.hardware import Offer
from planner.asking.policy import Cap
from planner.asking.request import HOST, Changes
from planner.plan import Rejection
from planner.refusals import CaseRefused
from planner.search.market.offers import Kind
from planner.strategy.words import describe
from planner.units import GIB, SECONDS_PER_HOUR
from remote.contract import Optimizer, Strategy

NAMES_SHOWN: Final = 6  # assumed: more make no sentence
STATE_RAM: Final = "state ram_gib in a list of your own (rentune catalog import), or rent it yourself and use --host"
SAY_IT: Final = "--ram says how much your machine has"
OF_TORCH: Final[Optimizer] = "adamw_torch_fused"  # the default, which needs no kernels of bitsandbytes'
TENTH_OF_HOUR_S: Final = 360  # derived: a tenth of an hour in seconds


class TooSmall(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of machine on which no strategy fits, and the one that came nearest."""

    kind: Kind
    needed_bytes: int
    available_bytes: int
    strategy: Strategy


Shorter = Callable[[Iterable[Kind]], Changes]  # the longest length with which one of these would do; nothing where none would
BelowRam = Callable[["Short"], Changes]  # that blocks wait on the disk, where one that lacks RAM would do then


class Kernelless(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of machine whose cards bitsandbytes has no kernels for, and what of a strategy needs them."""

    kind: Kind
    quant: str | None
    optimizer: str | None


LOOKED_AT: Final = ", of those looked at"  # cheaper ones did the job, so no more were


class Short(msgspec.Struct, frozen=True, kw_only=True):
    """An offer that holds the job on its GPU and not beside it."""

    kind: Kind
    offer: Offer
    strategy: Strategy
    needed: float
    limit: float


class Over(msgspec.Struct, frozen=True, kw_only=True):
    """An offer that does the job, and at p90 breaks a limit of money, of time or of both."""

    offer: Offer
    needed_usd: float
    needed_s: float
    cap: Cap | None  # the limit of money that it breaks
    limit_s: float | None  # the limit of time that it breaks
    runnable: bool
    is_told: bool  # of its machine what RAM and cores it has
    fits: bool  # surely; else it is tight
    num_machines: int = 1  # as many of them do it together

    @property
    def name(self) -> str:
        """Of the offer, and how many of it."""
        return f"{self.num_machines} x {self.offer.key}" if self.num_machines > 1 else self.offer.key


class Notebook:
    """Written by the search, read once at its end."""

    def __init__(self) -> None:
        self.too_small: list[TooSmall] = []
        self.without_kernels: list[Kernelless] = []
        self.unsupported: dict[str, tuple[str, CaseRefused]] = {}  # by message: the first strategy that met it
        self.short_of_ram: list[Short] = []  # bytes
        self.short_of_disk: list[Short] = []
        self.untold_ram: list[Short] = []  # bytes: of what would wait in RAM that nobody states
        self.over: list[Over] = []
        self.forbidden: list[Rejection] = []  # of several machines, by a rule that allows one

    def holds(self, kind: Kind) -> None:
        """It does on a number of its GPUs, so what was written of another is no reason against it."""
        self.too_small = [each for each in self.too_small if each.kind is not kind]

    def rejections(
        self, shorter: Shorter, below_ram: BelowRam, *, complete: bool, disk_was_tried: bool = False
    ) -> Iterator[Rejection]:
        """Everything that was written down: RAM, disk, money, time, what can't be computed, cards that are too small.

        `shorter`: the longest length with which a machine that is too small would do. `below_ram`: what would do instead.
        `disk_was_tried`: blocks could wait on a disk for want of RAM, and that is not enough.
        `complete`: every machine was looked at. Else the search had what it wanted before it came to the end, and the
        cheapest and fastest of what is written here may not be the cheapest and fastest there are.
        """
        yield from _beside(
            self.short_of_ram,
            "RAM",
            lambda offer: offer.ram_gib,
            shorter,
            below_ram,
            tried="; blocks on its disk (--offload-disk) do not make that enough" if disk_was_tried else "",
        )
        yield from _beside(self.short_of_disk, "disk", lambda offer: offer.local_disk_gib, shorter, lambda _: {})
        yield from _untold(self.untold_ram, shorter)
        yield from _over(self.over, complete=complete)
        yield from self.forbidden
        for message, (strategy, refusal) in self.unsupported.items():
            yield Rejection(what=strategy, reason=message, remedy=refusal.hint)
        if self.without_kernels:
            yield _kernelless(self.without_kernels)
        yield from _small(self.too_small, shorter)


def _kernelless(entries: list[Kernelless]) -> Rejection:
    kinds = {entry.kind.name: entry.kind for entry in entries}
    quants = sorted({entry.quant for entry in entries if entry.quant is not None})
    optimizers = sorted({entry.optimizer for entry in entries if entry.optimizer is not None})
    instead: Changes = {"training.quant": "none"} if quants else {}
    return Rejection(
        what=f"{' and '.join((*quants, *optimizers))} on {names(kinds)}",
        reason="bitsandbytes has no kernels for these cards",
        changes=instead | ({"training.optimizer": OF_TORCH} if optimizers else {}),
        num_offers=sum(len(kind.offers) for kind in kinds.values()),
    )


def _small(entries: list[TooSmall], shorter: Shorter) -> Iterator[Rejection]:
    """One for each number of GPUs and dtype: cards without bfloat16 train in another way, and need more."""
    for num_gpus, computes_in in sorted({(entry.kind.num_gpus, entry.kind.computes_in) for entry in entries}):
        group = [entry for entry in entries if (entry.kind.num_gpus, entry.kind.computes_in) == (num_gpus, computes_in)]
        nearness = sorted(group, key=lambda entry: entry.needed_bytes - entry.available_bytes)
        nearest = nearness[0]
        place = "on each GPU" if num_gpus > 1 else "of RAM" if num_gpus == 0 else "on one GPU"
        needed, has = told_apart(nearest.needed_bytes / GIB, nearest.available_bytes / GIB)
        yield Rejection(
            what=names(entry.kind.name for entry in sorted(group, key=lambda entry: -entry.available_bytes)),
            reason=f"needs {needed} GiB {place} ({describe(nearest.strategy)}); {nearest.kind.name} has {has} usable",
            changes=shorter(entry.kind for entry in nearness),
            needed={"required_bytes": nearest.needed_bytes, "available_bytes": nearest.available_bytes},
            num_offers=sum(len(entry.kind.offers) for entry in group),
        )


def _beside(
    entries: list[Short],
    thing: str,
    has: Callable[[Offer], float | None],
    shorter: Shorter,
    below: BelowRam,
    *,
    tried: str = "",
) -> Iterator[Rejection]:
    """`tried`: what was done against that, and does not do."""
    if not entries:
        return
    largest = max(entries, key=lambda entry: has(entry.offer) or 0.0)
    needed, limit = told_apart(largest.needed / GIB, largest.limit / GIB)
    streamed = f" ({describe(largest.strategy)})" if largest.strategy.offload != "none" else ""
    changes = (shorter([largest.kind]) or below(largest)) if streamed else {}
    sizes = {entry.offer.instance_type: has(entry.offer) or 0 for entry in entries}
    largest_type = largest.offer.instance_type
    smaller = {name: size for name, size in sizes.items() if name != largest_type}
    usable_share = largest.limit / GIB / sizes[largest_type] if sizes[largest_type] and largest.limit else 1.0
    least_gib = math.ceil(largest.needed / GIB / usable_share)
    rest = f"; {names(f'{name} has {size:g}' for name, size in sorted(smaller.items()))}" if smaller else ""
    yield Rejection(
        what=names(sorted(sizes)),
        reason=f"need{'' if smaller else 's'} {needed} GiB of {thing}{streamed}; {largest_type} has "
        f"{sizes[largest_type]:g} GiB, of which {limit} can be used{rest}{tried}",
        changes=changes,
        remedy=None if changes else f"a machine with {least_gib:,} GiB of {thing}, or a smaller base",
        needed={f"{thing.lower()}_bytes": round(largest.needed)},
        num_offers=len(entries),
    )


def _untold(entries: list[Short], shorter: Shorter) -> Iterator[Rejection]:
    """One for those who can be asked for RAM, one for those of whom nobody says how much there is, one for a machine of one's
    own.
    """
    for asked, ours in ((True, False), (False, False), (False, True)):
        group = [entry for entry in entries if bool(entry.limit) == asked and (entry.offer.provider == HOST) == ours]
        if not group:
            continue
        nearest = min(group, key=lambda entry: entry.needed - entry.limit)
        needed, limit = told_apart(nearest.needed / GIB, nearest.limit / GIB)
        changes = shorter(entry.kind for entry in sorted(group, key=lambda entry: entry.needed - entry.limit))
        most = f", and at most {limit} are asked for there" if asked else "" if ours else ", and no order there asks for it"
        yield Rejection(
            what=names(sorted({entry.offer.instance_type for entry in group})),
            reason=f"needs {needed} GiB of RAM ({describe(nearest.strategy)}), which nobody states{most}",
            changes=changes,
            remedy=None if changes else SAY_IT if ours else STATE_RAM,
            needed={"ram_bytes": round(nearest.needed)},
            num_offers=len(group),
        )


def _over(entries: list[Over], *, complete: bool) -> Iterator[Rejection]:
    dear = [each for each in entries if each.limit_s is None]
    for place in dict.fromkeys(_place(each) for each in dear):
        yield _dear([each for each in dear if _place(each) == place], place, complete=complete)
    for limit_s in sorted({each.limit_s for each in entries if each.limit_s is not None}):
        yield _slow([each for each in entries if each.limit_s == limit_s], limit_s, complete=complete)


def beyond(over: Over) -> Rejection:
    """Of one alone: the limit that it breaks, and what it needs."""
    return next(_over([over], complete=True))


def _dear(group: list[Over], place: str, *, complete: bool) -> Rejection:
    cheapest = nearest_of(group, lambda each: each.needed_usd) or group[0]
    own = f"${cheapest.cap.own_usd} (--max-cost) and " if cheapest.cap and cheapest.cap.own_usd is not None else ""
    limit = f"{own}${cheapest.cap.usd if cheapest.cap else 0} at p90{place}"
    least = f"the cheapest{_known(cheapest, group)}, {cheapest.name}, needs a limit of ${enough_usd(cheapest.needed_usd)}"
    needed: dict[str, float] = {"p90_usd": cheapest.needed_usd}
    return _beyond(limit, least, cheapest, needed, num_offers=_num_offers(group), complete=complete)


def _slow(group: list[Over], limit_s: float, *, complete: bool) -> Rejection:
    """Named is the fastest of those that keep to the money; where none does the cheapest, as a way out does."""
    affordable = [each for each in group if each.cap is None]
    nearest = nearest_of(affordable, lambda each: each.needed_s) or nearest_of(group, lambda each: each.needed_usd) or group[0]
    named, too = ("fastest", "") if affordable else ("cheapest", f" and ${enough_usd(nearest.needed_usd)}")
    known = _known(nearest, affordable or group)
    least = f"the {named}{known}, {nearest.name}, needs {enough_hours(nearest.needed_s):,.1f} h{too}"
    limit = f"{limit_s / SECONDS_PER_HOUR:g} h at p90"
    return _beyond(limit, least, nearest, {"p90_s": nearest.needed_s}, num_offers=_num_offers(group), complete=complete)


def _num_offers(group: list[Over]) -> int:
    return len({each.offer.key for each in group})


def nearest_of(entries: Iterable[Over], figure: Callable[[Over], float]) -> Over | None:
    """The one with the least of a figure; what can't be run, takes several machines, or has RAM that nobody states, only where
    there is no other.
    """
    return min(
        entries, key=lambda each: (not each.runnable, each.num_machines > 1, not each.is_told, figure(each)), default=None
    )


def _known(nearest: Over, group: list[Over]) -> str:
    """What sets it apart from others that may need less, and can't be run or may have too little RAM."""
    run = " that can be run" if nearest.runnable and any(each.is_told and not each.runnable for each in group) else ""
    known = " of known RAM" if nearest.is_told and not all(each.is_told for each in group) else ""
    alone = not run and nearest.num_machines == 1 and any(each.num_machines > 1 for each in group)
    return f"{' single machine' if alone else ''}{known}{run}"


def _beyond(limit: str, least: str, nearest: Over, needed: dict[str, float], *, num_offers: int, complete: bool) -> Rejection:
    """What is over a limit, told by the one that comes nearest to it."""
    remedy = _remedy(nearest)
    return Rejection(
        what=machines(num_offers),
        reason=f"over {limit}{f'; {least}' if complete else LOOKED_AT}",
        remedy=remedy,
        changes=lifted(nearest) if remedy is None else {},
        needed=needed,
        num_offers=num_offers,
    )


def _place(each: Over) -> str:
    """The file that sets the limit of money; nothing where the job does."""
    return f" ({each.cap.rule.place})" if each.cap is not None and each.cap.rule is not None else ""


def _remedy(each: Over) -> str | None:
    """What a rule says to do; None where the job's own limits stand in the way."""
    return each.cap.rule.remedy if each.cap is not None and each.cap.rule is not None else None


def lifted(each: Over) -> Changes:
    """The limits that the offer breaks, as high as it needs them."""
    usd = {} if each.cap is None else {"budget.max_usd": enough_usd(each.needed_usd)}
    return usd if each.limit_s is None else {"budget.max_hours": enough_hours(each.needed_s)} | usd


def enough_usd(needed_usd: float) -> Decimal:
    """Whole cents that pay for a job which needs so much at p90."""
    return Decimal(needed_usd).quantize(Decimal("0.01"), ROUND_CEILING)


def enough_hours(needed_s: float) -> float:
    """The first tenth of an hour past a job's p90."""
    return (needed_s // TENTH_OF_HOUR_S + 1) / 10


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
