"""Which offers a request admits: wish after wish, each refusal counted under the first that it breaks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from operator import attrgetter
from typing import Any, Final

import msgspec

from catalogs.catalog import Catalog
from catalogs.hardware import ANYWHERE, Gpu, Offer
from planner.asking.policy import Rule, matches, refusal
from planner.asking.request import HOST, LOCAL, OWN_MACHINES, Request, Where
from planner.edges import Edges
from planner.estimators.time.learned import machine_of
from planner.notices.cards import BOX_VENDOR
from planner.plan import Place, Rejection
from planner.search.market.names import either, how_to_plan_with, whose_regions
from planner.units import GIB, MIB
from remote.contract import Dtype


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """Machines on which a job takes the same memory and the same steps; they differ in price, place and seller."""

    gpu: Gpu | None  # None = the box's own cores train
    num_gpus: int  # 0 on a CPU box
    offers: tuple[Offer, ...]  # the cheapest hour first; of equal machines in several regions only the cheapest
    num_sold: int  # with those in the other regions

    @property
    def name(self) -> str:
        """As a person says it: "2 x L4"."""
        return f"{self.num_gpus} x {self.gpu.name}" if self.gpu is not None else "CPU box"

    @property
    def computes_in(self) -> Dtype:
        """The dtype in which it multiplies fastest. A CPU without 16-bit arithmetic converts at every operation: a
        32-token step of SmolLM2-135M took over 12 CPU s under a bf16 autocast on an AVX2 core, 256 tokens 3 CPU s in fp32
        (measured 2026-11-25).
        """
        if self.gpu is None:
            return "float32"
        return self.gpu.computes_in

    def soonest(self, waits: Callable[[Gpu | None, Offer], bool]) -> Offer:
        """One of these machines that begins as soon as any of them: one that does not wait, where there is such a one."""
        return next((offer for offer in self.offers if not waits(self.gpu, offer)), self.offers[0])


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of the market, and what was left out."""

    kinds: tuple[Kind, ...]
    rejections: tuple[Rejection, ...]
    warnings: tuple[str, ...]
    num_offers: int  # of those that were looked at, admitted or not


class Wish(msgspec.Struct, frozen=True):
    """A condition on offers: which break it, why that refuses them, the field of the Request that says it, what would help."""

    asks: tuple[Any, ...]  # what it depends on, by name and value: of two that ask the same, the same offers break both
    breaks: Callable[[Offer], bool]
    reason: str
    field: str | None = None
    remedy: str | None = None
    reads: str | None = None  # a field of an offer beside those of ALIKE that it looks at


# Nearly all conditions look at these fields alone, and four offers in five are alike in them: one of each is looked at
ALIKE: Final = ("provider", "gpu", "num_gpus", "purchase", "hosts")
RULES_READ: Final = {"regions": "region", "max_usd_per_hour": "usd_per_hour"}  # of rules, what they look at beside those


class Market:
    """All offers of one search. It asks for them again with one wish less, so each condition is looked at once."""

    def __init__(
        self,
        catalog: Catalog,
        offers: tuple[Offer, ...],
        *,
        short: frozenset[str] = frozenset(),
        seen_on: frozenset[str] = frozenset(),
    ) -> None:
        """`short`: the keys of offers that an account may not rent, as far as that is known. `seen_on`: the machines whose
        earlier runs are known, each a kind of its own.
        """
        self.catalog, self.offers, self._short, self._seen_on = catalog, offers, short, seen_on
        self.every = frozenset(range(len(offers)))
        self._alike: dict[str | None, tuple[list[int], ...]] = {}
        self._broken: dict[Hashable, frozenset[int]] = {}
        self._kinds: dict[frozenset[int], tuple[Kind, ...]] = {}

    def beside(self, offer: Offer) -> Market:
        """A market with one offer more than this."""
        return Market(self.catalog, (*self.offers, offer), short=self._short, seen_on=self._seen_on)

    @property
    def sellers(self) -> frozenset[str]:
        """Who sells any of it."""
        return frozenset(self.offers[places[0]].provider for places in self.alike(None))

    def alike(self, reads: str | None) -> tuple[list[int], ...]:
        """The places of all offers, those together that have the same in every field of ALIKE, and in another one."""
        if reads not in self._alike:
            together: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
            for place, what in enumerate(map(attrgetter(*ALIKE, *([reads] if reads else ())), self.offers)):
                together[what].append(place)
            self._alike[reads] = tuple(together.values())
        return self._alike[reads]

    def broken(self, asks: Hashable, breaks: Callable[[Offer], object], *, reads: str | None = None) -> frozenset[int]:
        """Which offers break a condition, by their place among all."""
        if asks not in self._broken:
            groups = (places for places in self.alike(reads) if breaks(self.offers[places[0]]))
            self._broken[asks] = frozenset().union(*groups)
        return self._broken[asks]

    def kinds(self, places: frozenset[int]) -> tuple[Kind, ...]:
        """The offers in these places, sorted into kinds."""
        if places not in self._kinds:
            self._kinds[places] = _kinds(
                [self.offers[place] for place in sorted(places)], self.catalog, short=self._short, seen_on=self._seen_on
            )
        return self._kinds[places]

    def sold_by(self, sellers: frozenset[str]) -> frozenset[int]:
        """The places of what these sell."""
        return self.every - self.broken(("sellers", sellers), lambda offer: offer.provider not in sellers)


def on_sale(catalog: Catalog, edges: Edges, *, beside: tuple[Offer, ...] = ()) -> Market:
    """What the catalog sells, and what is on offer beside it: this machine, a host that exists."""
    short = frozenset(key for provider in edges.providers.values() for key in provider.short)
    return Market(catalog, (*catalog.offers, *beside), short=short, seen_on=frozenset(each.machine for each in edges.seen))


def admit(
    request: Request,
    market: Market,
    rules: tuple[Rule, ...] = (),
    *,
    kept_at: Iterable[Place] = (),
    among: frozenset[int] | None = None,
) -> Asked:
    """Sort the offers into kinds; what breaks a wish or a rule is counted. Raises CatalogError for a GPU that nobody knows.

    `kept_at`: where the volume is that the request wants to use again; nowhere = one is made. `among`: None = all offers.
    """
    catalog, where = market.catalog, request.where
    cards = [catalog.gpu(name) for name in where.cards]
    wishes = (
        *_wishes(where, catalog, frozenset(card.gpu.name for card in cards), market.sellers, rules),
        *_beside_volume(request, tuple(kept_at)),
        *_limits(where),
    )
    kept = offered = market.every if among is None else among
    rejections: list[Rejection] = []
    for wish in wishes:
        if broken := kept & market.broken(wish.asks, wish.breaks, reads=wish.reads):
            kept -= broken
            rejections.append(_counted(len(broken), wish.reason, wish.remedy, wish.field))
    for rule in rules:
        if refused := kept & market.broken(rule, partial(refusal, rule), reads=RULES_READ.get(rule.key)):
            kept -= refused
            nowhere = refused & market.broken(("nowhere",), lambda offer: offer.region == ANYWHERE, reads="region")
            for places in filter(None, (nowhere, refused - nowhere) if rule.key == "regions" else (refused,)):
                reason = refusal(rule, market.offers[min(places)]) or ""
                rejections.append(_counted(len(places), reason, rule.remedy))
    return Asked(
        kinds=market.kinds(kept),
        rejections=tuple(rejections),
        warnings=tuple(card.warning for card in cards if card.warning),
        num_offers=len(offered),
    )


def _wishes(
    where: Where, catalog: Catalog, gpus: frozenset[str], sellers: frozenset[str], rules: tuple[Rule, ...]
) -> Iterable[Wish]:
    """What was asked for by name or by number."""
    if where.host is not None:
        yield Wish(("host",), lambda offer: offer.provider != HOST, f"the job is for {where.host}", "where.host")
    if where.providers:
        reason = f"not from {either(where.providers)}"
        remedy = (
            None
            if sellers & set(where.providers)
            else "; ".join(f"{each}: {_how_to_have(each, rules)}" for each in where.providers)
        )
        asks = "providers", where.providers
        yield Wish(asks, lambda offer: offer.provider not in where.providers, reason, "where.providers", remedy)
    if where.regions:
        reason = f"not in {either(where.regions)}"
        yield Wish(
            ("nowhere", where.regions),
            lambda offer: offer.region == ANYWHERE and not matches(offer.region, where.regions),
            "in no region that its seller names",
            "where.regions",
            reads="region",
        )
        yield Wish(
            ("regions", where.regions),
            lambda offer: not matches(offer.region, where.regions),
            reason,
            "where.regions",
            whose_regions(where, catalog),
            reads="region",
        )
    if where.instance_types:
        types = where.instance_types
        yield Wish(
            ("types", types), lambda offer: offer.instance_type not in types, f"not a {either(types)}", reads="instance_type"
        )
    if gpus:
        sold = any(offer.gpu in gpus for offer in catalog.offers)
        remedy = None if sold else f"nobody sells it; {_of_your_own(catalog.gpus[min(gpus)])}"
        yield Wish(
            ("gpus", gpus, where.own_card),
            # this machine's own card was asked for beside them
            lambda offer: offer.gpu not in gpus and not (where.own_card and offer.provider == LOCAL),
            f"no {either(sorted(gpus))} in it",
            "where.gpus",
            remedy,
        )
    if where.num_gpus is not None:
        reason = f"not {where.num_gpus} GPU{'s' * (where.num_gpus > 1)}"
        asked = where.num_gpus
        yield Wish(("num_gpus", asked), lambda offer: offer.num_gpus != asked, reason, "where.num_gpus")
    if where.spot is not None:
        unwanted = "on_demand" if where.spot else "spot"
        yield Wish(
            ("spot", where.spot),
            # no machine of one's own is a spot machine; where on-demand is asked for it is as good as a rented one
            lambda offer: offer.purchase == unwanted and (unwanted == "on_demand" or not _own(offer)),
            f"sold {unwanted.replace('_', ' ')}",
            "where.spot",
        )
    if (limit_gib := where.gpu_memory_gib) is not None:
        yield Wish(
            ("gpu_memory_gib", limit_gib),
            lambda offer: (catalog.gpu_memory_gib(offer) or 0) > limit_gib,
            f"more than {limit_gib:g} GiB on each GPU",
            "where.gpu_memory_gib",
            "a larger budget per GPU",
        )


def _how_to_have(provider: str, rules: tuple[Rule, ...]) -> str:
    """What to do for a provider without offers; prices of one that a rule forbids would not be planned with."""
    for rule in rules:
        if rule.key == "providers" and isinstance(rule.allows, tuple) and provider not in (*rule.allows, *OWN_MACHINES):
            return f"refused by {rule.words}; {rule.remedy}"
    return how_to_plan_with(provider)


def _beside_volume(request: Request, kept_at: tuple[Place, ...]) -> Iterable[Wish]:
    """A volume is used where it lies, and nowhere else."""
    if kept_at:
        yield Wish(
            ("kept_at", kept_at),
            lambda offer: (
                not any(offer.provider == provider and offer.region in (region, ANYWHERE) for provider, region in kept_at)
            ),
            f"not where the volume {request.keep.volume_name} is: {either('/'.join(place) for place in kept_at)}",
            "keep.volume_name",
            "under another name one is made elsewhere",
            reads="region",
        )


def _limits(where: Where) -> Iterable[Wish]:
    """What the planner itself leaves out."""
    yield Wish(
        ("whole",),
        lambda offer: offer.num_gpus != int(offer.num_gpus),
        "a share of a GPU: no measurement says how fast a share trains",
    )
    yield Wish(
        ("rented CPU", where.providers),
        lambda offer: offer.gpu is None and not _own(offer) and offer.provider not in where.providers,
        "a rented machine without a GPU",
        remedy="name its provider to have it planned all the same",
    )


def _counted(number: int, reason: str, remedy: str | None, wish: str | None = None) -> Rejection:
    what = f"{number:,} offer{'s' * (number > 1)}"
    return Rejection(what=what, reason=reason, remedy=remedy, wish=wish, num_offers=number)


def _kinds(offers: Iterable[Offer], catalog: Catalog, *, short: frozenset[str], seen_on: frozenset[str]) -> tuple[Kind, ...]:
    """Group by what moves memory and time. Of equal machines in several regions only the cheapest is kept, of those first that
    the account may rent.
    """
    cheapest: dict[tuple[str, str, str, bool], Offer] = {}
    num_sold: dict[tuple[str, str, str, bool], int] = {}
    for offer in offers:
        key = _machine(offer)
        num_sold[key] = num_sold.get(key, 0) + 1
        best = cheapest.setdefault(key, offer)
        if short and (offer.key in short) != (best.key in short):
            cheapest[key] = best if offer.key in short else offer
        elif (offer.usd_per_hour, offer.region) < (best.usd_per_hour, best.region):
            cheapest[key] = offer
    grouped: dict[tuple[str | None, int, str, str], list[Offer]] = defaultdict(list)
    for offer in cheapest.values():
        # each its own kind: CPU boxes, where cores and RAM decide, a machine whose cards' free memory was read, or one whose
        # earlier runs may say what they say of no other
        seen = bool(seen_on) and machine_of(offer.provider, offer.instance_type) in seen_on
        own = offer.key if offer.gpu is None or offer.gpu_free_mib is not None or seen else ""
        grouped[offer.gpu, int(offer.num_gpus), offer.interconnect, own].append(offer)
    return tuple(
        Kind(
            gpu=_card(catalog.gpus[gpu], members[0]) if gpu is not None else None,
            num_gpus=num_gpus,
            offers=tuple(sorted(members, key=lambda offer: (offer.usd_per_hour, offer.key))),
            num_sold=sum(num_sold[_machine(offer)] for offer in members),
        )
        for (gpu, num_gpus, _, _), members in grouped.items()
    )


def _machine(offer: Offer) -> tuple[str, str, str, bool]:
    """What is the same machine in every region. One whose RAM is told takes no place of one whose RAM is not."""
    return offer.provider, offer.instance_type, offer.purchase, offer.is_stated


def _card(gpu: Gpu, offer: Offer) -> Gpu:
    """The card with what is free on it in place of its total, where that was read: the driver's share is off already."""
    return gpu if offer.gpu_free_mib is None else msgspec.structs.replace(gpu, torch_memory_gib=offer.gpu_free_mib * MIB / GIB)


def _own(offer: Offer) -> bool:
    return offer.provider in OWN_MACHINES


def _of_your_own(gpu: Gpu) -> str:
    """What to type about a card that nobody rents out."""
    if gpu.vendor == BOX_VENDOR:
        return f'in which ways one of yours holds the job: --gpus "{gpu.name}" in the place of --gpu'
    return f'what fits it: rentune estimate --gpu "{gpu.name}"'
