"""Which image an offer is rented with, and whether its driver fits cards and torch: told before anything is paid for."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from catalogs.hardware import Gpu, Offer
from provision.clouds.boot.driver_unit import DriverOrder, driver_for
from provision.clouds.programs import Cloud
from provision.clouds.programs.order import Image
from remote.machine.drivers import unfit_card, unfit_driver


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """`driver_order` is what the first boot is to see to; None where the image has a driver that fits, or none is known to be
    put in.
    `misfit`: why nothing could be trained there all the same, in one sentence.
    """

    image: Image
    driver_order: DriverOrder | None = None
    misfit: str | None = None


def trains_on(card: Gpu) -> bool:
    """Whether the trainer's stack is built for such a card."""
    return card.compute_capability is not None and unfit_card(card.compute_capability) is None


def fitted(cloud: Cloud, offer: Offer, image: Image, gpus: Mapping[str, Gpu]) -> Fitted:
    """The image of the offer's type; where its driver does not fit, the cloud's plain one, whose first boot puts one in.

    `image` is what the cloud's types without one of their own have.
    """
    own = cloud.image_of(offer.instance_type, image)
    if (why := misfit(offer, own, gpus)) is None:
        return Fitted(image=own, driver_order=_to_put_in(offer, own, gpus))
    if cloud.WITHOUT_DRIVER is not None and (order := _to_put_in(offer, cloud.WITHOUT_DRIVER, gpus)) is not None:
        return Fitted(image=cloud.WITHOUT_DRIVER, driver_order=order)
    return Fitted(image=own, misfit=why)


def misfit(offer: Offer, image: Image, gpus: Mapping[str, Gpu]) -> str | None:
    """Why nothing could be trained there, in one sentence; None where it can be, and where card or driver are not known."""
    card = gpus.get(offer.gpu) if offer.gpu is not None else None
    if card is None or card.compute_capability is None:
        return None
    if (unfit := unfit_card(card.compute_capability)) is not None:
        return f"nothing can be trained on its {card.name}: {unfit}"
    if image.driver_branch is None:
        return None
    if (unfit := unfit_driver(image.driver_branch, card.compute_capability)) is not None:
        return f"the image {image.name!r} does not fit its {card.name}: {unfit}"
    return None


def _to_put_in(offer: Offer, image: Image, gpus: Mapping[str, Gpu]) -> DriverOrder | None:
    """Where the image states no driver and is one that a driver can be put into; for a card that is known."""
    card = gpus.get(offer.gpu) if offer.gpu is not None else None
    if card is None or card.compute_capability is None or image.driver_branch is not None or not image.takes_driver:
        return None
    return driver_for(card.compute_capability)
