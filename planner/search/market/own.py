"""Cards that somebody has, as an offer beside the rented ones: what their machine draws, at the price of its electricity."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Final

from catalogs.hardware import ANYWHERE, OWN_LIST, Gpu, Offer
from planner.asking.request import HOST, RequestError, Where
from planner.plan import Cards

W_PER_KW: Final = 1000  # derived: a kilowatt
WITH_RAM: Final = '--gpus "RTX 4090" --ram 32GB'
HOST_W: Final = 100  # assumed: what a desktop takes beside its cards while they train


def power_usd_per_hour(cards_w: float, usd_per_kwh: Decimal | None) -> Decimal:
    """What an hour of such cards costs, at all that they may draw and with the machine around them; nothing where nobody says a
    price.
    """
    power_kw = Decimal(str((HOST_W + cards_w) / W_PER_KW))
    return (power_kw * (usd_per_kwh or 0)).quantize(Decimal("0.000001")).normalize()


def stated_offer(cards: Cards, gpu: Gpu, where: Where, *, today: dt.date) -> Offer:
    """The machine with these cards, of which no more is known than was said: billed by the second, never rented."""
    slug = gpu.name.lower().replace(" ", "-")
    return Offer(
        provider=HOST,
        region=ANYWHERE,
        instance_type=f"your-{cards.number}x-{slug}",
        purchase="on_demand",
        gpu=gpu.name,
        num_gpus=Decimal(cards.number),
        ram_gib=cards.ram_gib,
        usd_per_hour=power_usd_per_hour(cards.number * gpu.tdp_w, where.power_usd_per_kwh),
        observed_on=today,
        source=OWN_LIST,
        confidence="high",
    )


def is_stated(offer: Offer, where: Where) -> bool:
    """Whether it is such a machine: nobody said by which address it is reached."""
    return offer.provider == HOST and where.host is None


def with_ram(cards: Cards, ram_gib: float | None) -> Cards:
    """The cards in a machine with so much RAM. Raises RequestError for cards of which nothing but the memory is told."""
    if ram_gib is None:
        return cards
    if cards.gpu is None:
        raise RequestError("--ram is of the machine with your cards, and --gpus names none", hint=WITH_RAM)
    return Cards(cards.number, cards.memory_gib, cards.gpu, ram_gib)
