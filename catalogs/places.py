"""Regions by the city, the state or the country that they lie in: people write those, and the clouds have words of their own.

A table of its own, read where a region has no such name and by no other plan.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

import msgspec

from catalogs.catalog import DATA, cited, read_sources
from catalogs.read import Row, day, read_rows, words

FIELDS = ("provider", "region", "city", "country", "source", "as_of")


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """Where one region lies."""

    provider: str
    region: str
    city: str | None  # or the state, where the cloud tells no city; None = it tells the country alone
    country: tuple[str, ...]  # by each of its names; empty of a state, and of a city that is a country
    source: str


def read_placed(folder: Path = DATA) -> tuple[Placed, ...]:
    """The rows of places.csv. Raises CatalogError with file, line and field."""
    sources = read_sources(folder)
    return tuple(_placed_of(cited(row, sources)) for row in read_rows(folder / "places.csv", FIELDS))


def regions_at(place: str, folder: Path = DATA) -> tuple[str, ...]:
    """The regions in a city, a state or a country, however it is written ("Zürich", "São Paulo"); empty for any other word.

    Raises CatalogError.
    """
    key = _key(place)
    return tuple(each.region for each in read_placed(folder) if key and key in map(_key, (each.city or "", *each.country)))


def _key(place: str) -> str:
    """Its letters without their accents, and its digits."""
    plain = unicodedata.normalize("NFKD", place).casefold()
    return "".join(letter for letter in plain if letter.isascii() and letter.isalnum())


def _placed_of(row: Row) -> Placed:
    row.get("as_of", day)
    city, country = row.maybe("city", str), row.maybe("country", words) or ()
    if city is None and not country:
        raise row.error("city", "and country are empty; where a region lies is told by one of them at least")
    return Placed(
        provider=row.get("provider", str),
        region=row.get("region", str),
        city=city,
        country=country,
        source=row.get("source", str),
    )
