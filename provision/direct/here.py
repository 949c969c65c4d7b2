"""Our own machine as an offer: its cores and RAM, its GPU as NVML tells it, what its desktop leaves free, its electricity.

Apart from the box that it becomes (`local.py`), which loads SSH: a plan asks what is here, and starts nothing.
"""

from __future__ import annotations

import datetime as dt
import os
from decimal import Decimal
from typing import Any, Final, NamedTuple

import msgspec
import psutil

from catalogs.catalog import Catalog
from catalogs.hardware import Offer
from planner.asking.request import LOCAL
from planner.search.market.own import power_usd_per_hour
from provision.errors import MissingPart, Refused
from provision.extras import install_command

MIB: Final = 2**20
MW_PER_W: Final = 1000  # derived: NVML tells power in milliwatts
NO_CARD: Final = "--gpu here needs an NVIDIA GPU in this machine"


class Card(NamedTuple):
    """A GPU as its driver describes it now."""

    name: str
    total_mib: int
    free_mib: int  # less what the desktop, other programs and the driver itself hold
    limit_w: float  # what it may take


def local_offer(*, usd_per_hour: Decimal = Decimal(0)) -> Offer:
    """The machine we run on as an offer: its cores and RAM, no GPU; a made-up price rehearses the bill."""
    return Offer(
        provider=LOCAL,
        region="here",
        instance_type="this-machine",
        purchase="on_demand",
        gpu=None,
        num_gpus=Decimal(0),
        vcpus=len(os.sched_getaffinity(0)),
        ram_gib=round(psutil.virtual_memory().total / 2**30, 1),
        usd_per_hour=usd_per_hour,
        observed_on=dt.datetime.now(tz=dt.UTC).date(),
        source="read from this machine",
        confidence="high",
    )


def card_offer(catalog: Catalog, *, usd_per_kwh: Decimal | None = None, usd_per_hour: Decimal = Decimal(0)) -> Offer:
    """The machine we run on with its cards; without an hourly price of its own at that of its electricity.

    Of unlike cards the first, and those like it. Raises Refused without one, and for one that the catalog does not have;
    MissingPart where NVML can't be asked.
    """
    cards = cards_here()
    like = [card for card in cards if card.name == cards[0].name]
    price = usd_per_hour or power_usd_per_hour(sum(card.limit_w for card in like), usd_per_kwh)
    return msgspec.structs.replace(
        local_offer(usd_per_hour=price.quantize(Decimal("0.000001")).normalize()),
        gpu=_known(cards[0], catalog),
        num_gpus=Decimal(len(like)),
        gpu_free_mib=min(card.free_mib for card in like),
    )


def _known(card: Card, catalog: Catalog) -> str:
    known = catalog.gpu_of_driver(card.name, card.total_mib)
    if known is not None:
        return known
    memory = f"--gpu-memory-gib {card.free_mib / 1024:.1f}"
    raise Refused(f"This machine's {card.name} is not in the catalog.", hint=f"What fits it: rentune estimate {memory}")


def idle_card(catalog: Catalog) -> str | None:
    """The card of the machine we run on that `card_offer` would offer; None without one, and where NVML can't be asked."""
    try:
        return _known(cards_here()[0], catalog)
    except (Refused, MissingPart):
        return None


def cards_here() -> tuple[Card, ...]:
    """The NVIDIA GPUs of the machine we run on. Raises Refused without one, MissingPart without nvidia-ml-py."""
    try:
        import pynvml
    except ModuleNotFoundError:
        raise MissingPart("--gpu here needs the package nvidia-ml-py.", hint=install_command("here")) from None
    return read_cards(pynvml)


def read_cards(nvml: Any) -> tuple[Card, ...]:
    """What a module that speaks NVML tells of every GPU. Raises Refused where there is no driver, or no GPU."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise Refused(f"{NO_CARD}: {error}.", hint="leave it out, or --host user@address") from None
    try:
        cards = tuple(_card(nvml, nvml.nvmlDeviceGetHandleByIndex(index)) for index in range(nvml.nvmlDeviceGetCount()))
    except nvml.NVMLError as error:
        raise Refused(f"This machine's GPU can't be read: {error}.", hint="nvidia-smi says more") from None
    finally:
        nvml.nvmlShutdown()
    if not cards:
        raise Refused(f"{NO_CARD}, and its driver lists none.", hint="leave it out, or --host user@address")
    return cards


def _card(nvml: Any, handle: Any) -> Card:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return Card(
        name=nvml.nvmlDeviceGetName(handle),
        total_mib=memory.total // MIB,
        free_mib=memory.free // MIB,
        limit_w=nvml.nvmlDeviceGetPowerManagementLimit(handle) / MW_PER_W,
    )
