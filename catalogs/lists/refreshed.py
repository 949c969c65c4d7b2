"""Prices that were fetched after the shipped ones, a file a provider -> a catalog that has them in their place."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from catalogs.catalog import Catalog, CatalogError
from catalogs.hardware import Offer
from catalogs.lists.own import assumed_hour
from catalogs.user_file import MIB, FileUnusable, read_bytes

MAX_FILE_BYTES: Final = 64 * MIB  # assumed: a hundred thousand offers; as it lies here, and as it is sent


class PriceList(msgspec.Struct, frozen=True, kw_only=True):
    """The last good prices of a provider, as a file at home."""

    provider: str
    version: str  # as gpuhunt calls it
    observed_on: dt.date
    offers: tuple[Offer, ...]


def read_refreshed(folder: Path) -> tuple[PriceList, ...]:
    """All that are at home. Raises CatalogError where a file is damaged."""
    lists = (read_price_list(folder, path.stem) for path in sorted(folder.glob("*.json")))
    return tuple(each for each in lists if each is not None)


def read_price_list(folder: Path, provider: str) -> PriceList | None:
    """The last good prices of a provider; None where there are none. Raises CatalogError."""
    path = path_of(folder, provider)
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(read_bytes(path, max_bytes=MAX_FILE_BYTES), type=PriceList)
    except FileUnusable as error:
        raise CatalogError(str(error), file=str(path)) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise CatalogError("is damaged; delete it, and fetch it again: rentune catalog refresh", file=str(path)) from None


def with_refreshed(catalog: Catalog, refreshed: tuple[PriceList, ...]) -> Catalog:
    """The catalog with newer prices: a provider's machines with GPUs are those of the newer list alone, since the two may call
    one machine by two names. Its CPU boxes stay.
    """
    shipped = _newest(catalog.offers)
    newer = {each.provider: each for each in refreshed if each.observed_on >= shipped.get(each.provider, dt.date.min)}
    shipped_still = tuple(offer for offer in catalog.offers if offer.gpu is None or offer.provider not in newer)
    # another version may have named its GPUs otherwise
    fresh = (offer for each in newer.values() for offer in each.offers if offer.gpu in catalog.gpus)
    unknown = {seller: assumed_hour(seller) for seller in newer if seller not in catalog.billing}
    return msgspec.structs.replace(catalog, offers=(*shipped_still, *fresh), billing=catalog.billing | unknown)


def _newest(offers: Iterable[Offer]) -> dict[str, dt.date]:
    """The day of a seller's newest price with a GPU; undated ones are as old as can be."""
    newest: dict[str, dt.date] = {}
    for offer in offers:
        if offer.gpu is not None:
            day = offer.observed_on or dt.date.min
            newest[offer.provider] = max(day, newest.get(offer.provider, day))
    return newest


def path_of(folder: Path, provider: str) -> Path:
    """Where the prices of a provider lie."""
    return folder / f"{provider}.json"
