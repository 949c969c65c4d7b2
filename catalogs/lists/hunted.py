"""A provider's file as gpuhunt publishes it, or a table of what it was told live -> offers. Its code is not run here.

gpuhunt (MPL-2.0, version 0.1.34 read) downloads without a deadline and without a limit of bytes, and says of a file that it
could not use only that there are no offers. So its files are fetched and judged here.
"""

from __future__ import annotations

import datetime as dt
import io
import re
from collections import Counter
from decimal import Decimal
from typing import Final

import msgspec

from catalogs.catalog import DATA, Catalog, CatalogError, read_hosts
from catalogs.hardware import ANYWHERE, Confidence, CpuArchitecture, Offer, Purchase
from catalogs.names import GpuMatch
from catalogs.read import Row, count, not_negative, positive, price, rate, rows_of
from catalogs.sellers import RUNPOD_GPU_IDS

SOURCE: Final = "gpuhunt"
NEEDED: Final = (
    "instance_name",
    "location",
    "price",
    "cpu",
    "memory",
    "gpu_count",
    "gpu_name",
    "gpu_memory",
    "spot",
    "gpu_vendor",
    "flags",
    "cpu_arch",
)
# Rows that are not a machine to rent by the hour: Google's calendar reservations, RunPod's clusters of pods and its CPU pods,
# and a copy of each G4 row for an old version of dstack.
OTHER_FLAGS: Final = frozenset(("gcp-dws-calendar-mode", "gcp-g4-preview", "runpod-cluster", "runpod-cpu"))
VENDORS: Final = ("nvidia", "amd", "intel")
FORMS: Final = ("sxm", "pcie", "nvl")  # of one card, where its name alone leaves that open
# assumed: two figures of one card's memory differ by less (MI325X: 256 and 288), those of two cards by more (H100: 80 and 94)
NEAR_SHARE: Final = 0.13
ZONE: Final = re.compile(r"-[a-z]$")  # Google's: a region and a letter
BY_COUNT: Final = frozenset({"lium"})  # a name is a host's, and each number of its GPUs a machine
RUNPOD_CENTRE: Final = re.compile(r"[A-Z]{2,3}-[A-Z]{2,3}-\d+")  # of its secure cloud; the other is told by countries
CPU_ARCHITECTURES: Final[dict[str, CpuArchitecture]] = {"": "x86_64", "x86": "x86_64", "arm": "arm64"}


class Hunted(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says: offers of machines with whole GPUs, what was passed over and why, and which prices were nothing."""

    offers: tuple[Offer, ...]
    num_rows: int
    passed_over: dict[str, int]  # a reason -> rows
    free: tuple[str, ...]  # machines at a price of 0


def read_hunted(text: str, provider: str, catalog: Catalog, *, observed_on: dt.date | None) -> Hunted:
    """The rows of `provider` (our name for it). Of the zones of a region the cheapest counts.

    Raises CatalogError with line and field for a file that is not in gpuhunt's format.
    """
    table = _Table(provider, catalog, observed_on)
    cheapest: dict[str, Offer] = {}
    num_rows = 0
    for row in rows_of(io.StringIO(text, newline=""), f"{provider}.csv", None, needed=NEEDED):
        num_rows += 1
        if (offer := table.offer(row)) is not None:
            best = cheapest.setdefault(offer.key, offer)
            if offer.usd_per_hour < best.usd_per_hour:
                cheapest[offer.key] = offer
    return Hunted(
        offers=tuple(cheapest.values()), num_rows=num_rows, passed_over=dict(table.passed_over), free=tuple(table.free)
    )


class _Table:
    """What the rows of one provider are read against, and what became of those that are no offer."""

    def __init__(self, provider: str, catalog: Catalog, observed_on: dt.date | None) -> None:
        self.passed_over: Counter[str] = Counter()
        self.free: list[str] = []
        self._provider = provider
        self._catalog = catalog
        self._observed_on = observed_on
        self._hosts = tuple(each for each in read_hosts(DATA, catalog.sources) if each.provider == provider)
        self._known = {offer.instance_type: offer for offer in catalog.offers if offer.provider == provider and offer.gpu}
        self._cards: dict[tuple[str, ...], tuple[str, Confidence] | str] = {}

    def offer(self, row: Row) -> Offer | None:
        """The row as an offer; None where it is none, which is counted."""
        if (why := _no_machine(row)) is not None:
            self.passed_over[why] += 1
            return None
        if row.get("price", rate) == 0:
            self.free.append(row.cells["instance_name"])
            return None
        card = self._card(row)
        if isinstance(card, str):
            self.passed_over[card] += 1
            return None
        gpu, confidence = card
        instance_type, region = _names(self._provider, row)
        known = self._known.get(instance_type)
        return Offer(
            provider=self._provider,
            region=region,
            instance_type=instance_type,
            purchase=_purchase(row),
            gpu=gpu,
            num_gpus=Decimal(row.get("gpu_count", count)),
            interconnect=known.interconnect if known else "unknown",
            vcpus=row.maybe("cpu", not_negative) or None,
            ram_gib=row.maybe("memory", not_negative) or None,
            local_disk_gib=known.local_disk_gib if known else None,
            cpu_architecture=CPU_ARCHITECTURES.get(row.cells["cpu_arch"], "x86_64"),
            hosts=next((each.hosts for each in self._hosts if each.fit(self._provider, instance_type)), None),
            usd_per_hour=row.get("price", price).quantize(Decimal("0.000001")).normalize(),
            observed_on=self._observed_on,
            source=SOURCE,
            confidence=confidence,
        )

    def _card(self, row: Row) -> tuple[str, Confidence] | str:
        """Which GPU of the catalog it is and how sure that is, or why it is none."""
        key = tuple(row.cells[field] for field in ("instance_name", "gpu_name", "gpu_memory"))
        if key not in self._cards:
            self._cards[key] = self._find_card(key[0], key[1], row.maybe("gpu_memory", positive))
        return self._cards[key]

    def _find_card(self, instance_name: str, name: str, memory_gib: float | None) -> tuple[str, Confidence] | str:
        if (known := self._known.get(instance_name)) is not None and known.gpu is not None and known.num_gpus >= 1:
            return known.gpu, "medium"
        try:
            match = self._catalog.gpu(name)
        except CatalogError:
            return f"a GPU that the catalog does not have: {name}"
        choices = self._choices(match, instance_name)
        fitting = [each for each in choices if memory_gib is None or self._near(each, memory_gib)]
        if not fitting:
            return f"a share of a GPU, or one with other memory than the catalog's {match.gpu.name}"
        return fitting[0], ("medium" if len(fitting) == 1 else "low")

    @staticmethod
    def _choices(match: GpuMatch, instance_name: str) -> tuple[str, ...]:
        """The cards that a name may mean, of several those of the form that the machine's own name tells."""
        every = (match.gpu.name, *match.also)
        told = [form for form in FORMS if form in instance_name.lower()]
        return tuple(each for each in every if any(form in each.lower() for form in told)) or every

    def _near(self, name: str, memory_gib: float) -> bool:
        sold_gib = self._catalog.gpus[name].memory_gib
        return abs(sold_gib - memory_gib) <= NEAR_SHARE * sold_gib


def _no_machine(row: Row) -> str | None:
    """Why the row is no machine with GPUs that can be rented by the hour."""
    if row.get("gpu_count", count) == 0:
        return "a CPU box"
    if row.cells["gpu_vendor"] not in ("", *VENDORS) or row.cells["gpu_name"].startswith("tpu-"):
        return "an accelerator that is no GPU"
    if OTHER_FLAGS.intersection(row.cells["flags"].split()):
        return "a reservation, a cluster or a copy"
    if row.cells["instance_name"].startswith("n1-"):
        return "a Google N1 machine with GPUs added, which has no type of its own"
    return None


def _names(provider: str, row: Row) -> tuple[str, str]:
    """The instance type and the region, each as the catalog writes them and in one word."""
    instance_name, location = row.get("instance_name", str), row.get("location", str)
    if provider == "runpod":
        cloud = "secure" if RUNPOD_CENTRE.fullmatch(location) else "community"
        word = _RUNPOD_WORDS.get(instance_name, instance_name)
        return f"{row.cells['gpu_count']}x-{word}-{cloud}".replace(" ", "-"), ANYWHERE
    if provider in BY_COUNT:
        instance_name = f"{row.cells['gpu_count']}x-{instance_name}"
    if provider == "gcp":
        location = ZONE.sub("", location)
    return "-".join(re.split(r"[\s/]+", instance_name.strip())), "-".join(re.split(r"[\s/]+", location.strip()))


_RUNPOD_WORDS: Final = {gpu_id: word for word, gpu_id in RUNPOD_GPU_IDS.items()}


def _purchase(row: Row) -> Purchase:
    said = row.get("spot", str).lower()
    if said not in ("true", "false"):
        raise row.error("spot", f'"{row.cells["spot"]}" is not one of True, False')
    return "spot" if said == "true" else "on_demand"
