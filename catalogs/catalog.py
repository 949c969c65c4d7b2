"""The catalog: what can be rented, what it is made of, how it is billed, and where each figure comes from."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from contextlib import suppress
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

import msgspec

from catalogs.hardware import Billing, Gpu, Offer, Source
from catalogs.names import GpuMatch, GpuNames, GpuUnknown, GpuWord, index_names, key_of
from catalogs.read import CatalogError, Row, rate, read_rows, words
from catalogs.rows import (
    BILLING_FIELDS,
    DISK_KINDS_FIELDS,
    DISKS_FIELDS,
    GPU_FIELDS,
    GPU_WORD_FIELDS,
    HOSTS_FIELDS,
    INSTANCE_FIELDS,
    PRICE_FIELDS,
    SOURCE_FIELDS,
    HostsRow,
    billing_of,
    gpu_of,
    hosts_of,
    instance_of,
    offers_of,
    source_of,
)

__all__ = [
    "DATA",
    "Catalog",
    "CatalogError",
    "GpuMatch",
    "GpuUnknown",
    "age_days",
    "attributions",
    "is_stale",
    "is_to_come",
    "read_catalog",
    "select",
]

DATA = Path(__file__).parent / "data"

# assumed: lists of smaller clouds moved 15 to 30 % within one quarter of 2026 (RunPod's H100 SXM: 3.29 $/h on 2026-08-22,
# 3.99 on 2026-11-09)
STALE_AFTER_DAYS = 90
ZONES_DAYS = 1  # derived: as far as today is ahead of today elsewhere


Disks = dict[str, dict[str, dict[str, Decimal]]]  # by provider, kind and region: dollars a GiB and month
DiskKinds = dict[str, tuple[tuple[str, str], ...]]  # by provider: pattern of a machine type, and the kind of disk that it takes


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How providers bill, without what they sell: of what is there already, whoever rented it and when."""

    billing: dict[str, Billing] = {}  # by provider
    disks: Disks = {}
    disk_kinds: DiskKinds = {}

    def of_disk(self, provider: str, region: str, kind: str | None) -> Billing | None:
        """How a disk is billed there, or what has one: at its region's price of its kind, which is not known where the price
        list has none. Without a kind it is what most machines take; None where nobody states how the provider bills.
        """
        billing, known = self.billing.get(provider), self.disks.get(provider)
        if billing is None or known is None:
            return billing
        usd = known.get(kind or disk_kind(self.disk_kinds, provider, "") or "", {}).get(region)
        return msgspec.structs.replace(billing, disk_usd_per_gib_month=usd, volume_usd_per_gib_month=usd)


class Catalog(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What a plan needs, each table by its key. Every name in one table that points into another is there."""

    gpus: dict[str, Gpu]
    offers: tuple[Offer, ...]
    billing: dict[str, Billing]  # by provider
    sources: dict[str, Source]  # by code
    gpu_words: dict[str, GpuWord]  # by key
    disks: Disks = {}  # where a provider's kinds or regions differ
    disk_kinds: DiskKinds = {}  # of each provider that sells several

    def billing_of(self, offer: Offer) -> Billing:
        """How the provider bills there. Where its regions differ in what a disk costs, or a volume, that is the region's price
        of the kind that the machine takes; of a region that nobody states, the dearest of its others.
        """
        billing, known = self.billing[offer.provider], self._disks_of(offer)
        if not known:
            return billing
        usd = known.get(offer.region, max(known.values()))
        return msgspec.structs.replace(billing, disk_usd_per_gib_month=usd, volume_usd_per_gib_month=usd)

    def knows_disk(self, offer: Offer) -> bool:
        """Whether the price of a disk is that of the place, where its provider's places differ in that."""
        known = self._disks_of(offer)
        return not known or offer.region in known

    def _disks_of(self, offer: Offer) -> dict[str, Decimal]:
        """By region, of the kind that the machine takes; empty where its provider has one price."""
        kind = disk_kind(self.disk_kinds, offer.provider, offer.instance_type)
        return {} if kind is None else self.disks.get(offer.provider, {}).get(kind, {})

    def gpu(self, name: str) -> GpuMatch:
        """The GPU that a name, an alias or a common word means, whatever its case and punctuation. Raises GpuUnknown."""
        return self._names.match(name, self.gpus)

    def gpu_of_driver(self, name: str, memory_mib: float) -> str | None:
        """The name here of a card as its driver reports it: of several with one name the one with its memory. None: no row."""
        for each in (f"{name} {round(memory_mib / 1024)}GB", name):
            with suppress(CatalogError):
                return self.gpu(each).gpu.name
        return None

    def gpu_memory_gib(self, offer: Offer) -> float | None:
        """GiB as sold of each GPU that the box shows: a slice of a card has a slice of its memory. None on a CPU box."""
        if offer.gpu is None:
            return None
        memory_gib = self.gpus[offer.gpu].memory_gib
        return memory_gib if offer.num_gpus >= 1 else memory_gib * float(offer.num_gpus)

    @property
    def providers(self) -> tuple[str, ...]:
        """Who has an offer here, in alphabetical order."""
        return tuple(sorted({offer.provider for offer in self.offers}))

    @cached_property
    def _names(self) -> GpuNames:
        return index_names(self.gpus, self.gpu_words)


def read_catalog(folder: Path = DATA) -> Catalog:
    """The tables of a folder, checked against each other. Raises CatalogError with file, line and field."""
    sources = read_sources(folder)
    gpus = _read_gpus(folder, sources)
    billing = _read_billing(folder, sources)
    return Catalog(
        gpus=gpus,
        gpu_words=_read_gpu_words(folder, gpus),
        offers=_read_offers(folder, gpus, billing, sources),
        billing=billing,
        sources=sources,
        disks=_read_disks(folder, billing, sources),
        disk_kinds=_read_disk_kinds(folder, sources),
    )


def _read_disks(folder: Path, billing: dict[str, Billing], sources: dict[str, Source]) -> Disks:
    """A folder without such a table knows no region that differs."""
    disks: Disks = {}
    if not (folder / "disks.csv").exists():
        return disks
    for row in read_rows(folder / "disks.csv", DISKS_FIELDS):
        provider, kind, region = cited(row, sources).get("provider", str), row.get("kind", str), row.get("region", str)
        if provider not in billing:
            raise row.error("provider", f'"{provider}" has no row in billing.csv')
        of_kind = disks.setdefault(provider, {}).setdefault(kind, {})
        if region in of_kind:
            raise row.error("region", f'"{region}" is there twice')
        of_kind[region] = row.get("usd_per_gib_month", rate)
    return disks


def _read_disk_kinds(folder: Path, sources: dict[str, Source]) -> DiskKinds:
    kinds: DiskKinds = {}
    if not (folder / "disk_kinds.csv").exists():
        return kinds
    for row in read_rows(folder / "disk_kinds.csv", DISK_KINDS_FIELDS):
        provider = cited(row, sources).get("provider", str)
        kinds[provider] = (*kinds.get(provider, ()), (row.get("instance_type", str), row.get("kind", str)))
    return kinds


def disk_kind(kinds: DiskKinds, provider: str, instance_type: str) -> str | None:
    """What the machine's disk is called where it is sold: of the first row that fits; None where its provider sells one."""
    return next((kind for pattern, kind in kinds.get(provider, ()) if fnmatchcase(instance_type, pattern)), None)


def read_rules(folder: Path = DATA) -> Rules:
    """How each provider bills, without what it sells. Raises CatalogError."""
    sources = read_sources(folder)
    billing = _read_billing(folder, sources)
    return Rules(billing=billing, disks=_read_disks(folder, billing, sources), disk_kinds=_read_disk_kinds(folder, sources))


def _read_billing(folder: Path, sources: dict[str, Source]) -> dict[str, Billing]:
    rules = (billing_of(cited(row, sources)) for row in read_rows(folder / "billing.csv", BILLING_FIELDS))
    return {rule.provider: rule for rule in rules}


def read_sources(folder: Path = DATA) -> dict[str, Source]:
    """Where the rows of a folder come from, by code. Raises CatalogError."""
    return {source.code: source for source in map(source_of, read_rows(folder / "sources.csv", SOURCE_FIELDS))}


def cited(row: Row, sources: dict[str, Source]) -> Row:
    """The row itself, when it names its source. Raises CatalogError for a code that no source has."""
    for code in row.get("source", words):
        if code not in sources:
            raise row.error("source", f'"{code}" is not a code in sources.csv')
    return row


def _read_gpus(folder: Path, sources: dict[str, Source]) -> dict[str, Gpu]:
    gpus: dict[str, Gpu] = {}
    for row in read_rows(folder / "gpus.csv", GPU_FIELDS):
        gpu = gpu_of(cited(row, sources))
        if gpu.name in gpus:
            raise row.error("name", f'"{gpu.name}" is there twice')
        gpus[gpu.name] = gpu
    return gpus


def _read_gpu_words(folder: Path, gpus: dict[str, Gpu]) -> dict[str, GpuWord]:
    ambiguous: dict[str, GpuWord] = {}
    for row in read_rows(folder / "gpu_words.csv", GPU_WORD_FIELDS):
        word = GpuWord(word=row.get("word", str), taken=row.get("taken", str), also=row.get("also", words))
        for field, name in (("taken", word.taken), *(("also", name) for name in word.also)):
            if name not in gpus:
                raise row.error(field, f'"{name}" is not a name in gpus.csv')
        ambiguous[key_of(word.word)] = word
    return ambiguous


def _read_offers(
    folder: Path, gpus: dict[str, Gpu], billing: dict[str, Billing], sources: dict[str, Source]
) -> tuple[Offer, ...]:
    instances = _read_instances(folder, gpus, billing, sources)
    offers: dict[tuple[str, str, str, str], Offer] = {}
    for row in read_rows(folder / "prices.csv", PRICE_FIELDS):
        key = row.cells["provider"], row.cells["instance_type"]
        if key not in instances:
            raise row.error("instance_type", f'"{key[1]}" of {key[0]} is not in instances.csv')
        for offer in offers_of(cited(row, sources), instances[key]):
            if offers.setdefault((*key, offer.region, offer.purchase), offer) is not offer:
                raise row.error("instance_type", f"{offer.key} is there twice")
    return tuple(offers.values())


def _read_instances(
    folder: Path, gpus: dict[str, Gpu], billing: dict[str, Billing], sources: dict[str, Source]
) -> dict[tuple[str, str], dict[str, object]]:
    instances = {}
    hosts = read_hosts(folder, sources)
    for row in read_rows(folder / "instances.csv", INSTANCE_FIELDS):
        instance = instance_of(cited(row, sources))
        if instance["provider"] not in billing:
            raise row.error("provider", f'"{instance["provider"]}" has no row in billing.csv')
        if instance["gpu"] not in gpus and instance["gpu"] is not None:
            raise row.error("gpu", f'"{instance["gpu"]}" is not a name in gpus.csv')
        if (instance["gpu"] is None) != (instance["num_gpus"] == 0):
            raise row.error("num_gpus", "must be 0 on a CPU box, and above 0 with a GPU")
        key = row.cells["provider"], row.cells["instance_type"]
        instances[key] = instance | {"hosts": next((each.hosts for each in hosts if each.fit(*key)), None)}
    return instances


def read_hosts(folder: Path, sources: dict[str, Source]) -> tuple[HostsRow, ...]:
    """On whose machines each provider's types run; the first row that fits a type counts. Raises CatalogError."""
    return tuple(hosts_of(cited(row, sources)) for row in read_rows(folder / "hosts.csv", HOSTS_FIELDS))


def select(
    catalog: Catalog,
    *,
    gpus: Iterable[str] = (),
    providers: Iterable[str] = (),
    regions: Iterable[str] = (),
    spot: bool | None = None,
    min_gpu_memory_gib: float | None = None,
    max_usd_per_hour: Decimal | None = None,
) -> tuple[Offer, ...]:
    """The offers that pass every condition given, cheapest hour first. No condition: all, CPU boxes included.

    Regions may be patterns ("us-*"). An offer with one price everywhere has the region "*", and only the pattern "*"
    finds it: what it calls its regions is not known. Raises CatalogError for an unknown GPU, provider or region.
    """
    names = {catalog.gpu(name).gpu.name for name in gpus}
    wanted = {_provider(catalog, name) for name in providers}
    patterns = tuple(_pattern(catalog, name) for name in regions)

    def passes(offer: Offer) -> bool:
        memory_gib = catalog.gpu_memory_gib(offer)
        return (
            (not names or offer.gpu in names)
            and (not wanted or offer.provider in wanted)
            and (not patterns or any(fnmatchcase(offer.region.lower(), pattern) for pattern in patterns))
            and (spot is None or (offer.purchase == "spot") == spot)
            and (min_gpu_memory_gib is None or (memory_gib is not None and memory_gib >= min_gpu_memory_gib))
            and (max_usd_per_hour is None or offer.usd_per_hour <= max_usd_per_hour)
        )

    return tuple(sorted(filter(passes, catalog.offers), key=lambda offer: (offer.usd_per_hour, offer.key)))


def _provider(catalog: Catalog, name: str) -> str:
    if name.lower() in catalog.billing:
        return name.lower()
    from difflib import get_close_matches  # only for a name that is wrong: it costs start-up time

    near = get_close_matches(name.lower(), catalog.billing, n=3, cutoff=0.6)
    known = f"nearest: {', '.join(near)}" if near else f"there are {', '.join(sorted(catalog.billing))}"
    raise CatalogError(f'no provider "{name}" in the catalog', hint=known)


def _pattern(catalog: Catalog, name: str) -> str:
    """A region or a pattern of regions, in lower case; at least one offer is there."""
    known = {offer.region.lower() for offer in catalog.offers}
    if any(fnmatchcase(region, name.lower()) for region in known):
        return name.lower()
    from difflib import get_close_matches  # only for a name that is wrong: it costs start-up time

    near = get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    raise CatalogError(f'no region "{name}" in the catalog', hint=f"nearest: {', '.join(near)}" if near else None)


def age_days(offer: Offer, today: dt.date) -> int | None:
    """Days since the price was read; None if nobody wrote down when, or a day that is still to come."""
    day = offer.observed_on
    return None if day is None or is_to_come(day, today) else max(0, (today - day).days)


def is_to_come(day: dt.date, today: dt.date) -> bool:
    """Whether a day is later than it is anywhere by this machine's clock, which is behind then."""
    return (today - day).days < -ZONES_DAYS


def is_stale(offer: Offer, today: dt.date) -> bool:
    """Whether the price may well have moved: older than STALE_AFTER_DAYS, or undated."""
    age = age_days(offer, today)
    return age is None or age > STALE_AFTER_DAYS


def attributions(catalog: Catalog, offers: Iterable[Offer]) -> tuple[str, ...]:
    """The credits that have to stand beside these prices, one line for each source that asks for it."""
    codes = dict.fromkeys(offer.source for offer in offers)
    return tuple(text for code in codes if code in catalog.sources and (text := catalog.sources[code].attribution))
