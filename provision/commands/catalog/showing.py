"""`rentune catalog show`: all that is known of one GPU, one provider or one offer, and where each figure is from."""

from __future__ import annotations

import datetime as dt
import shlex
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click
import msgspec

if TYPE_CHECKING:
    from catalogs.catalog import Catalog
    from catalogs.hardware import Billing, Gpu, Offer, Source
    from catalogs.quotas import QuotaName
    from catalogs.storage import StoragePrice
    from provision.report.tables import Table


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU model, and what it is rented for."""

    gpu: Gpu
    warning: str | None  # what was taken where the word names several cards
    num_offers: int
    cheapest: tuple[Offer, ...]  # of each purchase, per GPU
    sources: tuple[Source, ...]


class Seller(msgspec.Struct, frozen=True, kw_only=True):
    """A provider: how it bills, what its limits are called, how old its prices are."""

    provider: str
    billing: Billing
    num_offers: int
    gpus: tuple[str, ...]
    oldest: dt.date | None
    newest: dt.date | None
    quotas: tuple[QuotaName, ...]
    storage: tuple[StoragePrice, ...]
    sources: tuple[Source, ...]


class Sold(msgspec.Struct, frozen=True, kw_only=True):
    """One offer, with the rule that its hours are billed by."""

    offer: Offer
    billing: Billing
    sources: tuple[Source, ...]


PER_MONTH = "{:f} $ per GiB and month"
PER_HOUR = "{:f} $/h"
YOUR_OWN = "a list of your own, by `rentune catalog import`"
UNPRICED = "no price of its own is known: it may come with the machine"
STOPPED = "stopped"  # in the name of what a disk costs while its machine is
OFFER_WORDS = 4  # derived: provider, region, type and purchase


@click.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def show_one(name: str, as_json: bool) -> int:  # noqa: FBT001 - click hands it over by name
    """All that is known of a GPU, a provider or an offer ("aws/us-east-1/g5.xlarge/on_demand"), and from where."""
    from provision.envelope.show import console, show
    from provision.prepare.asking import market

    catalog = market()
    found = find(name, catalog)

    def draw_it() -> None:
        from provision.report.terminal import draw

        console().print(draw(_table(found, catalog)))

    return show("catalog show", found, draw_it, as_json=as_json)


def find(name: str, catalog: Catalog) -> Card | Seller | Sold:
    """What a name means. Raises CatalogError or BadInput with the nearest that there is."""
    from catalogs.names import GpuUnknown, Instead
    from planner.nearest import near as near_word
    from provision.errors import BadInput

    if "/" in name:
        return _sold(name, catalog)
    if len(words := name.split()) == OFFER_WORDS and words[0].lower() in catalog.billing:
        return _sold("/".join(words), catalog)  # as a plan prints it
    if name.lower() in catalog.billing:
        return _seller(name.lower(), catalog)
    try:
        return _card(name, catalog)
    except GpuUnknown as error:
        keys = {offer.instance_type: offer.key for offer in reversed(catalog.offers)}
        near = name if name in keys else near_word(name, (*catalog.billing, *keys))
        if near is None and error.instead is Instead.USUAL:
            raise BadInput(f"Nothing is called {name}.", hint="rentune catalog list shows providers and machines") from None
        if near is None or error.instead is Instead.OTHERWISE or not _is_nearest(near, name, catalog):
            raise
        raise BadInput(f"Nothing is called {name}.", hint=f"rentune catalog show {shlex.quote(keys.get(near, near))}") from None


def _is_nearest(word: str, name: str, catalog: Catalog) -> bool:
    """Whether a word is nearer to what was typed than the name of every GPU."""
    from difflib import get_close_matches

    return get_close_matches(name.lower(), [word.lower(), *(gpu.lower() for gpu in catalog.gpus)], n=1) == [word.lower()]


def _sold(key: str, catalog: Catalog) -> Sold:
    from planner.nearest import near as near_word
    from provision.errors import BadInput

    offers = {offer.key: offer for offer in catalog.offers}
    if (offer := offers.get(key)) is None:
        near = near_word(key, offers)
        hint = f"rentune catalog show {shlex.quote(near)}" if near else "rentune catalog list"
        raise BadInput(f"There is no offer {key}.", hint=hint)
    billing = catalog.billing_of(offer)
    return Sold(offer=offer, billing=billing, sources=_sources(catalog, (offer.source, billing.source)))


def _seller(provider: str, catalog: Catalog) -> Seller:
    from catalogs.quotas import read_quotas
    from catalogs.storage import read_storage

    offers = [offer for offer in catalog.offers if offer.provider == provider]
    days = sorted(offer.observed_on for offer in offers if offer.observed_on is not None)
    billing = catalog.billing[provider]
    storage = tuple(price for price in read_storage() if price.provider == provider)
    quotas = tuple(quota for quota in read_quotas() if quota.provider == provider)
    of_offers = (offer.source for offer in offers)
    cited = (billing.source, *of_offers, *(price.source for price in storage), *(quota.source for quota in quotas))
    return Seller(
        provider=provider,
        billing=billing,
        num_offers=len(offers),
        gpus=tuple(sorted({offer.gpu for offer in offers if offer.gpu})),
        oldest=days[0] if days else None,
        newest=days[-1] if days else None,
        quotas=quotas,
        storage=storage,
        sources=_sources(catalog, cited),
    )


def _card(name: str, catalog: Catalog) -> Card:
    match = catalog.gpu(name)
    offers = [offer for offer in catalog.offers if offer.gpu == match.gpu.name]
    cheapest: dict[str, Offer] = {}
    for offer in sorted(offers, key=lambda each: (each.usd_per_hour / each.num_gpus, each.key)):
        cheapest.setdefault(offer.purchase, offer)
    cited = (match.gpu.source, *(offer.source for offer in cheapest.values()))
    return Card(
        gpu=match.gpu,
        warning=match.warning,
        num_offers=len(offers),
        cheapest=tuple(cheapest.values()),
        sources=_sources(catalog, cited),
    )


def _sources(catalog: Catalog, cited: Iterable[str]) -> tuple[Source, ...]:
    """Each once; what the user fetched or wrote has no row."""
    codes = dict.fromkeys(code for text in cited for code in text.split(";"))
    return tuple(catalog.sources[code] for code in codes if code in catalog.sources)


def _table(found: Card | Seller | Sold, catalog: Catalog) -> Table:
    from provision.report.tables import Table

    today = dt.datetime.now(tz=dt.UTC).date()
    if isinstance(found, Card):
        title, rows = found.gpu.name, tuple(_card_rows(found, today))
    elif isinstance(found, Seller):
        title, rows = found.provider, tuple(_seller_rows(found, today))
    else:
        title, rows = found.offer.key, tuple(_sold_rows(found, catalog, today))
    credits = " ".join(filter(None, (source.attribution for source in found.sources)))
    return Table(
        title=title,
        columns=("what", "figure"),
        rows=(*rows, *(("source", _source(source)) for source in found.sources)),
        note=credits or None,
        of_words=True,
        unbroken=("what",),
    )


def _card_rows(card: Card, today: dt.date) -> Iterator[tuple[str, str]]:
    gpu = card.gpu
    if card.warning is not None:
        yield "taken for", card.warning
    yield "also called", ", ".join(gpu.aliases) or "–"
    yield "made by", f"{gpu.vendor}, {gpu.architecture}{_capability(gpu)}"
    yield "memory as sold", f"{gpu.memory_gib:g} GiB"
    yield "by the driver", _known(gpu.driver_memory_mib, "{:,} MiB")
    yield "by torch", _known(gpu.torch_memory_gib, "{:.2f} GiB, the least that was seen; decides what fits")
    yield "bandwidth", f"{gpu.memory_bandwidth_gb_per_s:,g} GB/s"
    yield "16-bit products", f"{gpu.achievable_tflops:g} TFLOP/s at best, {gpu.achievable_basis}"
    yield "peaks, dense", ", ".join(_peaks(gpu)) or "not known"
    yield "form", gpu.form_factor
    yield "link to the host", _host_link(gpu)
    yield "link to others", f"{gpu.nvlink_gb_per_s:g} GB/s, both directions" if gpu.nvlink_gb_per_s else "none but PCIe"
    yield "power", f"{gpu.tdp_w:g} W"
    yield "bf16", "yes" if gpu.bf16 else "no: fp16"
    yield "flash attention", gpu.flash_attention
    yield "bitsandbytes", gpu.bitsandbytes
    yield "confidence", f"{gpu.confidence}, as of {gpu.as_of}"
    yield "offers", f"{card.num_offers:,}"
    for offer in card.cheapest:
        per_gpu = offer.usd_per_hour / offer.num_gpus
        yield f"cheapest, {offer.purchase.replace('_', ' ')}", f"{per_gpu:.4f} $/h per GPU: {offer.key}, {_age(offer, today)}"


def _seller_rows(seller: Seller, today: dt.date) -> Iterator[tuple[str, str]]:
    from planner.report.words import several

    yield "offers", f"{seller.num_offers:,}" + (f", seen {_days(seller.oldest, seller.newest, today)}" if seller.newest else "")
    yield "GPUs", ", ".join(seller.gpus) or "none listed"
    yield from _billing_rows(seller.billing, seller.storage)
    yield "object storage", ", ".join(_buckets(seller.storage)) or "not known"
    for quota in seller.quotas:
        yield f"quota, {quota.purchase.replace('_', ' ')}", f"{quota.name} ({quota.code}), in {quota.unit}: {quota.covers}"
    if seller.storage:
        yield (
            "storage and traffic",
            f"{several(len(seller.storage), 'price')}: rentune catalog storage --provider {seller.provider}",
        )


def _buckets(storage: tuple[StoragePrice, ...]) -> Iterator[str]:
    """What bytes in a bucket cost, by the provider's words for it and for where."""
    from catalogs.hardware import ANYWHERE

    for price in storage:
        if price.kind == "object":
            place = "" if price.region == ANYWHERE else f" in {price.region}"
            yield f"{price.name}{place} {price.usd:f} $ per {price.unit}"


def _sold_rows(sold: Sold, catalog: Catalog, today: dt.date) -> Iterator[tuple[str, str]]:
    from catalogs.hardware import OWN_LIST

    offer = sold.offer
    memory_gib = catalog.gpu_memory_gib(offer)
    gpus = "none" if offer.gpu is None else f"{offer.num_gpus.normalize():f} × {offer.gpu}, {memory_gib:g} GiB each"
    yield "GPUs", gpus
    yield "between them", offer.interconnect
    yield "vCPUs", _known(offer.vcpus, "{:g}") + f", {offer.cpu_architecture}"
    yield "RAM", _known(offer.ram_gib, "{:g} GiB")
    yield "local disk", _known(offer.local_disk_gib, "{:g} GiB")
    yield "hosts", offer.hosts or "not known"
    yield "price", f"{offer.usd_per_hour.normalize():f} $/h, {_age(offer, today)}, {offer.confidence} confidence"
    yield from _billing_rows(sold.billing, ())
    if offer.source not in catalog.sources:
        yield "source", YOUR_OWN if offer.source == OWN_LIST else offer.source


def _billing_rows(rule: Billing, storage: tuple[StoragePrice, ...]) -> Iterator[tuple[str, str]]:
    least = f", {rule.minimum_s} s at least" if rule.minimum_s else ""
    assumed = " (assumed: its rule is not known)" if "assumed-hour" in rule.source else ""
    yield "billed by", f"{rule.increment_s} s{least}{assumed}"
    yield "stopped machine", _answer(rule.stopped_compute_bills, "is billed", "is not billed")
    dearer = "".join(f"; {price.name} {price.usd:f} $ per {price.unit}" for price in storage if STOPPED in price.name.split())
    yield "its disk", _answer(rule.stopped_disk_bills, f"is billed{dearer}", "is not billed")
    least_disk = f", {rule.minimum_disk_gib} GiB at least" if rule.minimum_disk_gib else ""
    yield "disk of the machine", _known(rule.disk_usd_per_gib_month, PER_MONTH, UNPRICED) + least_disk
    yield "kept volume", _known(rule.volume_usd_per_gib_month, PER_MONTH)
    free = f" after {rule.egress_free_gb} GB a month" if rule.egress_free_gb else ""
    spot = rule.spot_address_usd_per_hour
    cheaper = "" if spot is None else f", {spot:f} of a spot machine"
    included = rule.address_usd_per_hour == 0
    yield "public address", "in the machine's price" if included else _known(rule.address_usd_per_hour, PER_HOUR) + cheaper
    yield "egress", _known(rule.egress_usd_per_gb, "{:f} $/GB") + free


def _host_link(gpu: Gpu) -> str:
    if gpu.host_link_gb_per_s is not None:
        return f"{gpu.host_link_gb_per_s:g} GB/s, both directions"
    return "not known" if gpu.pcie_generation is None else f"PCIe {gpu.pcie_generation}.0 x{gpu.pcie_lanes}"


def _peaks(gpu: Gpu) -> Iterator[str]:
    for name, tflops in (("bf16", gpu.bf16_tflops), ("fp16", gpu.fp16_tflops), ("fp32", gpu.fp32_tflops)):
        if tflops is not None:
            yield f"{name} {tflops:g} TFLOP/s"


def _capability(gpu: Gpu) -> str:
    return "" if gpu.compute_capability is None else ", compute capability {}.{}".format(*gpu.compute_capability)


def _known(figure: object, words: str, unknown: str = "not known") -> str:
    return unknown if figure is None else words.format(figure)


def _answer(told: bool | None, yes: str, no: str) -> str:  # noqa: FBT001 - three answers, not a switch
    return "not known" if told is None else yes if told else no


def _age(offer: Offer, today: dt.date) -> str:
    from catalogs.catalog import is_stale
    from planner.report.words import seen

    words = "undated" if offer.observed_on is None else f"seen {seen(offer.observed_on, today)}"
    return f"{words}, stale" if is_stale(offer, today) else words


def _days(oldest: dt.date | None, newest: dt.date | None, today: dt.date) -> str:
    from planner.report.words import seen

    words = [seen(day, today) for day in (oldest, newest) if day is not None]
    return " to ".join(dict.fromkeys(words))


def _source(source: Source) -> str:
    terms = f", {source.licence}" if source.licence else ""
    return f"{source.title}{terms}, {source.as_of}"
