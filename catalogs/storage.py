"""What keeping and moving bytes costs: a table of its own, read where it is asked for and by no plan."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Literal, get_args

import msgspec

from catalogs.catalog import DATA, cited, read_sources
from catalogs.read import Row, count, day, one_of, rate, read_rows

StorageKind = Literal["block", "object", "file", "snapshot", "egress", "transfer", "address", "iops"]
StorageUnit = Literal["GB-month", "GiB-month", "GB", "GB-hour", "IOPS-month", "hour"]

FIELDS = ("provider", "region", "kind", "name", "unit", "usd", "above_gb", "as_of", "source")


class StoragePrice(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider asks for keeping or moving bytes. Egress comes in tiers, one row each."""

    provider: str
    region: str  # "*" = one price everywhere, or the region is not stated
    kind: StorageKind
    name: str  # the provider's word: gp3, pd-balanced, …
    unit: StorageUnit
    usd: Decimal
    above_gb: int = 0  # a tier starts here, per month
    as_of: dt.date | None  # None = undated
    source: str


def read_storage(folder: Path = DATA) -> tuple[StoragePrice, ...]:
    """The rows of storage.csv. Raises CatalogError with file, line and field."""
    sources = read_sources(folder)
    return tuple(_price_of(cited(row, sources)) for row in read_rows(folder / "storage.csv", FIELDS))


_kind = one_of(get_args(StorageKind))
_unit = one_of(get_args(StorageUnit))


def _price_of(row: Row) -> StoragePrice:
    """A row of storage.csv."""
    return StoragePrice(
        provider=row.get("provider", str),
        region=row.get("region", str),
        kind=row.get("kind", _kind),
        name=row.get("name", str),
        unit=row.get("unit", _unit),
        usd=row.get("usd", rate),
        above_gb=row.get("above_gb", count),
        as_of=row.maybe("as_of", day),
        source=row.get("source", str),
    )
