"""Two lists of offers -> what has changed between them, and whether the newer one can be believed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from statistics import median
from typing import Final

import msgspec

from catalogs.hardware import Offer, Purchase

# assumed: the dearest true move within one quarter of 2026 was 30 %, and the roughest seen of a market was a median of 6.15
# and, twelve days later, of 2.40 $/h
MAX_MOVE: Final = 3
LEAST_KEPT_SHARE: Final = 0.5  # assumed: no seller takes half of its machines off its list between two looks

Kind = tuple[str, str, Purchase]  # provider, GPU ("" on a CPU box), purchase


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """An offer that is new, gone, or at another price. None = it is not there on that side."""

    offer: str  # its key
    before_usd_per_hour: Decimal | None
    after_usd_per_hour: Decimal | None


def changes(before: Iterable[Offer], after: Iterable[Offer]) -> tuple[Change, ...]:
    """What differs, by key; prices are of the whole machine."""
    old = {offer.key: offer.usd_per_hour for offer in before}
    new = {offer.key: offer.usd_per_hour for offer in after}
    return tuple(
        Change(offer=key, before_usd_per_hour=old.get(key), after_usd_per_hour=new.get(key))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    )


def doubts(before: Iterable[Offer], after: Iterable[Offer], *, same_source: bool) -> tuple[str, ...]:
    """Why `after` looks wrong, a sentence each; none where nothing speaks against it.

    `same_source`: the two were made alike, so that fewer rows mean something.
    """
    before, after = tuple(before), tuple(after)
    return (*(_lost(before, after) if same_source else ()), *_moved(before, after))


def _lost(before: tuple[Offer, ...], after: tuple[Offer, ...]) -> Iterator[str]:
    if before and len(after) < LEAST_KEPT_SHARE * len(before):
        yield f"it has {len(after):,} offers, and had {len(before):,} before"


def _moved(before: tuple[Offer, ...], after: tuple[Offer, ...]) -> Iterator[str]:
    old, new = _medians(before), _medians(after)
    for kind in sorted(old.keys() & new.keys()):
        low, high = sorted((old[kind], new[kind]))
        if high >= MAX_MOVE * low:
            provider, gpu, purchase = kind
            what = f"{gpu or 'a CPU box'} {purchase.replace('_', ' ')} at {provider}"
            yield f"the median of {what} moved from {old[kind]:.2f} to {new[kind]:.2f} $/h{' per GPU' * bool(gpu)}"


def _medians(offers: Iterable[Offer]) -> dict[Kind, Decimal]:
    """The median price of an hour of one GPU, or of a CPU box."""
    prices: dict[Kind, list[Decimal]] = {}
    for offer in offers:
        per_gpu = offer.usd_per_hour / (offer.num_gpus or 1)
        prices.setdefault((offer.provider, offer.gpu or "", offer.purchase), []).append(per_gpu)
    return {kind: median(each) for kind, each in prices.items()}
