"""Whether an image's driver fits the offer's cards and the trainer's torch: told before anything is paid for."""

from __future__ import annotations

from collections.abc import Mapping

from catalogs.hardware import Gpu, Offer
from provision.clouds.programs.order import Image
from remote.machine.drivers import unfit_card, unfit_driver


def trains_on(card: Gpu) -> bool:
    """Whether the trainer's stack is built for such a card."""
    return card.compute_capability is not None and unfit_card(card.compute_capability) is None


def misfit(offer: Offer, image: Image, gpus: Mapping[str, Gpu]) -> str | None:
    """Why nothing could be trained there, in one sentence; None where it can be, and where card or driver are not known."""
    card = gpus.get(offer.gpu) if offer.gpu is not None else None
    if card is None or card.compute_capability is None:
        return None
    if (unfit := unfit_card(card.compute_capability)) is not None:
        return f"nothing can be trained on its {card.name}: {unfit}"
    if image.driver is None:
        return None
    if (unfit := unfit_driver(image.driver, card.compute_capability)) is not None:
        return f"the image {image.name!r} does not fit its {card.name}: {unfit}"
    return None
