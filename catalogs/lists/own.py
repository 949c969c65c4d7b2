"""A person's own offers, one CSV file: of a provider that no list here may carry, or at a price that was agreed with one."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final, get_args

import msgspec

from catalogs.catalog import DATA, Catalog, read_hosts
from catalogs.hardware import OWN_LIST, Billing, Hosts, Offer
from catalogs.names import GpuUnknown
from catalogs.read import CatalogError, Row, fee, one_of, rows_of
from catalogs.rows import INSTANCE_FIELDS, PRICE_FIELDS, HostsRow, instance_of, offers_of
from catalogs.user_file import MIB, FileUnusable, read_text

MAX_OWN_BYTES: Final = 16 * MIB  # assumed: a hundred thousand offers
ASSUMED_HOUR_S: Final = 3600  # assumed, as for every provider whose rule is not known: the dearest that is usual
NEEDED: Final = ("provider", "instance_type")
FIELDS: Final = tuple(
    field for field in dict.fromkeys((*INSTANCE_FIELDS, *PRICE_FIELDS, "hosts", "setup_usd")) if field != "source"
)
# What an empty cell, or a column that is not there, means. What has no word here means "not known", as in every table.
UNSAID: Final = {
    "region": "*",
    "interconnect": "unknown",
    "cpu_architecture": "x86_64",
    "source": OWN_LIST,
    "confidence": "medium",
}
LINES: Final = (
    "the first line names the columns, each other states a machine: "
    "`provider,region,instance_type,gpu,on_demand_usd_per_hour`, then `acme,eu-1,a10-1,A10,0.60`"
)
MAX_TOLD: Final = 12  # assumed: of what is wrong; more at once is no help
PRICED: Final = re.compile(r"price|per_hour|hourly|eur|gbp|chf|sek|nok|dkk|usd|dollar|euro", re.IGNORECASE)
DOLLARS: Final = f"prices are dollars an hour, on_demand_usd_per_hour or spot_usd_per_hour, others turned into them; {LINES}"
OWN_MACHINES: Final = ("local", "host")  # what they cost is said with --assume-price


def read_own(path: Path, catalog: Catalog) -> tuple[Offer, ...]:
    """The offers of a file; `catalog` knows the GPUs. Raises CatalogError with file, line and field."""
    try:
        return _read_own(path, catalog)
    except CatalogError as error:
        of_price = error.line == 1 and error.field is not None and PRICED.search(error.field) is not None
        error.hint = error.hint or (DOLLARS if of_price else LINES)
        raise


def _read_own(path: Path, catalog: Catalog) -> tuple[Offer, ...]:
    try:
        text = read_text(path, max_bytes=MAX_OWN_BYTES)
    except FileUnusable as error:
        raise CatalogError(str(error), file=str(path)) from None
    table = _Table(catalog, read_hosts(DATA, catalog.sources))
    offers: dict[str, Offer] = {}
    wrong: list[CatalogError] = []
    for row in rows_of(io.StringIO(text, newline=""), str(path), FIELDS, needed=NEEDED, by_hand=True):
        wrong += _mistakes(offers, table, row)
    if wrong:
        raise wrong[0] if len(wrong) == 1 else _of_several(wrong)
    return tuple(offers.values())


def _mistakes(offers: dict[str, Offer], table: _Table, row: Row) -> Iterator[CatalogError]:
    """All that is wrong in a row, a field after the other: what is wrong beside the first shows with something right there."""
    right = {"provider": "a", "instance_type": "a", "on_demand_usd_per_hour": "1", "gpu": next(iter(table.catalog.gpus), "")}
    told: set[str] = set()
    while True:
        try:
            _add({} if told else offers, table, row)
        except CatalogError as error:
            if error.field in told:
                return
            yield error
            if error.field is None:  # with nothing right to put there
                return
            told.add(error.field)
            row = Row(row.file, row.line, row.cells | {error.field: right.get(error.field, "")})
        else:
            return


def _add(offers: dict[str, Offer], table: _Table, row: Row) -> None:
    for offer in table.offers(row):
        if offers.setdefault(offer.key, offer) is not offer:
            raise row.error("instance_type", f"{offer.key} is there twice")


def _of_several(wrong: list[CatalogError]) -> CatalogError:
    """One error that tells all that is wrong, each on its line."""
    more = [f"and {len(wrong) - MAX_TOLD:,} more"] if len(wrong) > MAX_TOLD else []
    told = (f"  {line}" for line in (*(error.message for error in wrong[:MAX_TOLD]), *more))
    rows = len({each.line for each in wrong})
    which = f"{rows:,} rows" if rows > 1 else "a row"
    error = CatalogError("\n".join((f"{which} can't be read, and nothing is imported:", *told)))
    error.hint = wrong[0].hint
    return error


def with_own(catalog: Catalog, offers: tuple[Offer, ...]) -> Catalog:
    """The catalog with a person's own offers; one that it has as well is the person's. A provider whose billing is not known
    is taken to bill by the started hour.
    """
    keys = {offer.key for offer in offers}
    kept = tuple(offer for offer in catalog.offers if offer.key not in keys)
    unknown = {offer.provider: assumed_hour(offer.provider) for offer in offers if offer.provider not in catalog.billing}
    return msgspec.structs.replace(catalog, offers=(*kept, *offers), billing=catalog.billing | unknown)


@dataclass(frozen=True)
class _Table:
    """What the rows of a file are read against."""

    catalog: Catalog
    hosts: tuple[HostsRow, ...]

    def offers(self, row: Row) -> Iterator[Offer]:
        """A row states an on-demand offer, a spot offer, or both."""
        provider, instance_type = row.get("provider", _provider), row.get("instance_type", _name)
        gpu = row.maybe("gpu", self._gpu)
        unsaid = UNSAID | {"num_gpus": "0" if gpu is None else "1"}
        said = {field: cell for field, cell in row.cells.items() if cell} | {"provider": provider, "gpu": gpu or ""}
        whole = Row(row.file, row.line, row.cells | unsaid | said)
        whole.get("region", _name)
        instance = instance_of(whole)
        if (gpu is None) != (instance["num_gpus"] == 0):
            raise row.error("num_gpus", "must be 0 on a CPU box, and above 0 with a GPU")
        known = next((each.hosts for each in self.hosts if each.fit(provider, instance_type)), None)
        beside = {
            "hosts": row.maybe("hosts", one_of(get_args(Hosts))) or known,
            "setup_usd": row.maybe("setup_usd", fee) or Decimal(0),
        }
        offers = tuple(offers_of(whole, instance | beside))
        if len(offers) > 1 and offers[1].usd_per_hour > offers[0].usd_per_hour:
            raise row.error("spot_usd_per_hour", "is dearer than on demand; are the two exchanged?")
        yield from offers

    def _gpu(self, text: str) -> str:
        """A name of the GPU table, from any way to write it; never a guess among several cards."""
        try:
            match = self.catalog.gpu(text)
        except GpuUnknown as error:
            raise ValueError(error.in_one) from None
        if match.warning is not None:
            raise ValueError(f"{match.warning}; write which it is")
        return match.gpu.name


def _provider(text: str) -> str:
    name = _name(text).lower()
    if name in OWN_MACHINES:
        raise ValueError(f'"{name}" is no provider; what your own machine costs is said with --assume-price')
    return name


def _name(text: str) -> str:
    """A word that can stand in an offer's key."""
    if not text.isprintable() or "/" in text or any(letter.isspace() for letter in text):
        raise ValueError(f'"{text}" has a space or a slash in it')
    return text


def assumed_hour(provider: str) -> Billing:
    """How somebody bills whose rule is not known: by the started hour."""
    return Billing(
        provider=provider,
        increment_s=ASSUMED_HOUR_S,
        minimum_s=0,
        stopped_compute_bills=None,
        stopped_disk_bills=None,
        minimum_disk_gib=0,
        disk_usd_per_gib_month=None,
        egress_usd_per_gb=None,
        egress_free_gb=0,
        source="assumed-hour",
        as_of=None,
    )
