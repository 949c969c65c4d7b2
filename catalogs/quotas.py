"""What the limits of an account are called: a table of its own, read where it is asked for and by no plan."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec

from catalogs.catalog import DATA, cited, read_sources
from catalogs.hardware import Purchase
from catalogs.read import Row, one_of, read_rows

FIELDS = ("provider", "purchase", "name", "code", "unit", "covers", "source")


class QuotaName(msgspec.Struct, frozen=True, kw_only=True):
    """A limit of an account, as its cloud lists it."""

    provider: str
    purchase: Purchase
    name: str  # as a person finds it in the console
    code: str  # as the API calls it
    unit: str  # vCPUs, GPUs, machines
    covers: str  # which machines count against it
    source: str


def read_quotas(folder: Path = DATA) -> tuple[QuotaName, ...]:
    """The rows of quotas.csv. Raises CatalogError with file, line and field."""
    sources = read_sources(folder)
    return tuple(_quota_of(cited(row, sources)) for row in read_rows(folder / "quotas.csv", FIELDS))


_purchase = one_of(get_args(Purchase))


def _quota_of(row: Row) -> QuotaName:
    return QuotaName(
        provider=row.get("provider", str),
        purchase=row.get("purchase", _purchase),
        name=row.get("name", str),
        code=row.get("code", str),
        unit=row.get("unit", str),
        covers=row.get("covers", str),
        source=row.get("source", str),
    )
