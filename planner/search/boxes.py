"""What a machine has beside its GPUs for a way that they hold: RAM and disk, as stated, or RAM as an order asks for it."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Final, NamedTuple

import msgspec

from catalogs.hardware import Billing, Offer
from planner.estimators.cost import disk_gib, disk_is_included
from planner.estimators.host import least_ram_gib, usable_ram_bytes
from planner.estimators.memory.held.offloading import streaming_of
from planner.plan import HostEstimate
from planner.search.figures import Figures
from planner.search.market.offers import Kind
from planner.search.told.notebook import Notebook, Short
from planner.search.ways.fit import Fit
from planner.search.ways.fitting import Reach
from planner.units import GIB
from remote.contract import Strategy

# assumed: GiB of RAM for each GiB of its cards that a machine of untold RAM can be asked for, where blocks wait there; some
# have more, and nobody says so
MOST_ASKED: Final = 2.0


class OnOffer(msgspec.Struct, frozen=True):
    """A machine on offer, how it is billed, and whether an order there says how much RAM is needed."""

    offer: Offer
    billing: Billing
    asks_ram: bool


def held_by(
    fits: Iterable[Fit], box: OnOffer, kind: Kind, figures: Figures, notebook: Notebook, *, offload_disk: bool = False
) -> Fit | None:
    """The first fit for which the box has RAM and disk enough, where `offload_disk` with as few blocks on the disk as do; else
    what the one lacked that lacked least is written down.
    """
    fits, lacking = tuple(fits), list[Lack]()
    for fit in fits:
        if (lack := lack_of(fit.strategy, _host(fit.strategy, kind, figures), box, kind)) is None:
            return fit
        lacking.append(lack)
    on_disk = (_on_disk(fit, box, kind, figures) for fit in fits) if offload_disk else ()
    if (found := [fit for fit in on_disk if fit is not None]) and kind.gpu is not None:
        gpu = kind.gpu
        return min(found, key=lambda fit: figures.duration(fit.strategy, gpu, box.offer).wall_s.p50)
    if lacking:
        least = min(lacking, key=lambda each: each.short.needed - each.short.limit)
        least.page(notebook).append(least.short)
    return None


def _on_disk(fit: Fit, box: OnOffer, kind: Kind, figures: Figures) -> Fit | None:
    found = _with_blocks_on_disk(fit.strategy, box, kind, figures)
    return None if found is None else msgspec.structs.replace(fit, strategy=found)


def could_wait_on_disk(strategy: Strategy, box: OnOffer, kind: Kind, figures: Figures) -> bool:
    """Whether the box has RAM enough once some of its blocks wait on the disk."""
    return _with_blocks_on_disk(strategy, box, kind, figures) is not None


def _with_blocks_on_disk(streamed: Strategy, box: OnOffer, kind: Kind, figures: Figures) -> Strategy | None:
    """With as few of its blocks on the disk as leave RAM enough; None where that is no way, or not enough."""
    if streamed.offload != "stream":
        return None

    def with_number(number: int) -> Strategy:
        return msgspec.structs.replace(
            streamed, streaming=msgspec.structs.replace(streaming_of(streamed), num_disk_blocks=number)
        )

    def holds(number: int) -> bool:
        lack = lack_of(with_number(number), _host(with_number(number), kind, figures), box, kind)
        return lack is None or lack.page is DISK

    passing = range(1, 1 + figures.architecture.depth - streaming_of(streamed).num_resident_blocks)
    number = bisect.bisect_left(passing, 1, key=holds)
    if number == len(passing):
        return None
    strategy = with_number(passing[number])
    return strategy if lack_of(strategy, _host(strategy, kind, figures), box, kind) is None else None


def reach_of(strategy: Strategy, boxes: Iterable[OnOffer], kind: Kind, figures: Figures) -> Reach:
    """How many of these machines have what the strategy needs beside the GPUs. One of untold RAM, which no order asks for,
    keeps nothing there whatever else is chosen, so of what waits in RAM it says nothing.
    """
    host, waits = _host(strategy, kind, figures), strategy.offload != "none"
    asked = (box for box in boxes if not waits or box.asks_ram or box.offer.ram_gib is not None)
    have = {lack_of(strategy, host, box, kind) is None for box in asked}
    return "some" if len(have) > 1 else "all" if True in have else "none"


class Lack(NamedTuple):
    """What there is too little of, and the page of the notebook for it."""

    page: Callable[[Notebook], list[Short]]
    short: Short


RAM: Final = attrgetter("short_of_ram")
DISK: Final = attrgetter("short_of_disk")
UNTOLD: Final = attrgetter("untold_ram")


def _host(strategy: Strategy, kind: Kind, figures: Figures) -> HostEstimate:
    return figures.host(strategy, on_cpu=kind.gpu is None)


def lack_of(strategy: Strategy, host: HostEstimate, box: OnOffer, kind: Kind) -> Lack | None:
    """What the box has too little of for a strategy that takes so much, RAM before disk; None where it has enough."""
    offer = box.offer
    if offer.ram_gib is None and strategy.offload != "none" and (short := _untold(strategy, host, box, kind)) is not None:
        return Lack(UNTOLD, short)
    fixed_disk = disk_is_included(offer, box.billing)
    has_ram_bytes = None if offer.ram_gib is None else usable_ram_bytes(offer.ram_gib)
    has_disk_bytes = (offer.local_disk_gib or 0) * GIB if fixed_disk else None
    for page, needed, has in (
        (RAM, host.ram_peak_bytes, has_ram_bytes),
        (DISK, disk_gib(host, box.billing) * GIB, has_disk_bytes),
    ):
        if has is not None and needed > has:
            return Lack(page, Short(kind=kind, offer=offer, strategy=strategy, needed=needed, limit=has))
    return None


def _untold(strategy: Strategy, host: HostEstimate, box: OnOffer, kind: Kind) -> Short | None:
    """Of RAM that nobody states, what waits there takes none, or as much as an order can ask for."""
    most_gib = MOST_ASKED * kind.gpu.memory_gib * kind.num_gpus if box.asks_ram and kind.gpu is not None else 0.0
    if least_ram_gib(host.ram_peak_bytes) <= most_gib:
        return None
    return Short(kind=kind, offer=box.offer, strategy=strategy, needed=host.ram_peak_bytes, limit=most_gib * GIB)
