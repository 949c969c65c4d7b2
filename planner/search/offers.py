"""Which offers a request admits: wish after wish, each refusal counted under the first that it breaks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from catalogs.catalog import Catalog
from catalogs.hardware import Gpu, Offer
from planner.asking.request import HOST, LOCAL, OWN_MACHINES, Request, RequestError, Where
from planner.plan import Rejection
from planner.policy import Rule, matches, refusal
from remote.contract import Dtype


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """Machines on which a job takes the same memory and the same steps; they differ in price, place and seller."""

    gpu: Gpu | None  # None = the box's own cores train
    num_gpus: int  # 0 on a CPU box
    offers: tuple[Offer, ...]  # the cheapest hour first

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
        return "bfloat16" if self.gpu.bf16 else "float16"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of the market, and what was left out."""

    kinds: tuple[Kind, ...]
    rejections: tuple[Rejection, ...]
    warnings: tuple[str, ...]
    num_offers: int


class Wish(msgspec.Struct, frozen=True):
    """A condition on offers: which break it, why that refuses them, the field of the Request that says it, what would help."""

    breaks: Callable[[Offer], bool]
    reason: str
    field: str | None = None
    remedy: str | None = None


Place = tuple[str, str]  # provider and region
MAX_NAMES: Final = 8  # as many as a sentence holds
CONTINENT_LETTERS: Final = 2  # derived: "eu", "us", "as" open the regions of AWS, Google and their like


def admit(
    request: Request,
    catalog: Catalog,
    offers: Iterable[Offer],
    rules: Iterable[Rule] = (),
    *,
    kept_at: Iterable[Place] = (),
) -> Asked:
    """Sort the offers into kinds; what breaks a wish or a rule is counted. Raises CatalogError for a GPU that nobody knows.

    `kept_at`: where the volume is that the request wants to use again; nowhere = one is made.
    """
    offers = tuple(offers)
    matches = [catalog.gpu(name) for name in request.where.cards]
    sellers = {offer.provider for offer in offers}
    wishes = (
        *_wishes(request.where, catalog, {match.gpu.name for match in matches}, sellers),
        *_beside_volume(request, tuple(kept_at)),
        *_limits(request.where),
    )
    kept = offers
    rejections: list[Rejection] = []
    for wish in wishes:
        before, kept = kept, tuple(offer for offer in kept if not wish.breaks(offer))
        if broken := len(before) - len(kept):
            rejections.append(_counted(broken, wish.reason, wish.remedy, wish.field))
    kept, refused = _allowed(kept, rules)
    return Asked(
        kinds=_kinds(kept, catalog),
        rejections=(*rejections, *refused),
        warnings=tuple(match.warning for match in matches if match.warning),
        num_offers=len(offers),
    )


def _wishes(where: Where, catalog: Catalog, gpus: set[str], sellers: set[str]) -> Iterable[Wish]:
    """What was asked for by name or by number."""
    if where.host is not None:
        yield Wish(lambda offer: offer.provider != HOST, f"the job is for {where.host}", "where.host")
    if where.providers:
        reason = f"not from {_or(where.providers)}"
        remedy = (
            None
            if sellers & set(where.providers)
            else "; ".join(f"{each}: {how_to_plan_with(each)}" for each in where.providers)
        )
        yield Wish(lambda offer: offer.provider not in where.providers, reason, "where.providers", remedy)
    if where.regions:
        reason = f"not in {_or(where.regions)}"
        yield Wish(lambda offer: not matches(offer.region, where.regions), reason, "where.regions")
    if where.instance_types:
        yield Wish(lambda offer: offer.instance_type not in where.instance_types, f"not a {_or(where.instance_types)}")
    if gpus:
        sold = any(offer.gpu in gpus for offer in catalog.offers)
        remedy = None if sold else f'nobody sells it; what fits it: rentune estimate --gpu "{min(gpus)}"'
        yield Wish(
            # this machine's own card was asked for beside them
            lambda offer: offer.gpu not in gpus and not (where.own_card and offer.provider == LOCAL),
            f"no {_or(sorted(gpus))} in it",
            "where.gpus",
            remedy,
        )
    if where.num_gpus is not None:
        reason = f"not {where.num_gpus} GPU{'s' * (where.num_gpus > 1)}"
        yield Wish(lambda offer: offer.num_gpus != where.num_gpus, reason, "where.num_gpus")
    if where.spot is not None:
        unwanted = "on_demand" if where.spot else "spot"
        yield Wish(
            # no machine of one's own is a spot machine; where on-demand is asked for it is as good as a rented one
            lambda offer: offer.purchase == unwanted and (unwanted == "on_demand" or not _own(offer)),
            f"sold {unwanted.replace('_', ' ')}",
            "where.spot",
        )
    if (limit_gib := where.gpu_memory_gib) is not None:
        yield Wish(
            lambda offer: (catalog.gpu_memory_gib(offer) or 0) > limit_gib,
            f"more than {limit_gib:g} GiB on each GPU",
            "where.gpu_memory_gib",
            "a larger budget per GPU",
        )


def _beside_volume(request: Request, kept_at: tuple[Place, ...]) -> Iterable[Wish]:
    """A volume is used where it lies, and nowhere else."""
    if kept_at:
        yield Wish(
            lambda offer: not any(offer.provider == provider and offer.region in (region, "*") for provider, region in kept_at),
            f"not where the volume {request.keep.volume_name} is: {_or('/'.join(place) for place in kept_at)}",
            "keep.volume_name",
            "under another name one is made elsewhere",
        )


def _limits(where: Where) -> Iterable[Wish]:
    """What the planner itself leaves out."""
    yield Wish(
        lambda offer: offer.num_gpus != int(offer.num_gpus), "a share of a GPU: no measurement says how fast a share trains"
    )
    yield Wish(
        lambda offer: offer.gpu is None and not _own(offer) and offer.provider not in where.providers,
        "a rented machine without a GPU",
        remedy="name its provider to have it planned all the same",
    )


def _allowed(offers: tuple[Offer, ...], rules: Iterable[Rule]) -> tuple[tuple[Offer, ...], tuple[Rejection, ...]]:
    """What the rules leave, and what each has refused."""
    kept, rejections = offers, []
    for rule in rules:
        reasons = [refusal(rule, offer) for offer in kept]
        refused = [reason for reason in reasons if reason is not None]
        if refused:
            kept = tuple(offer for offer, reason in zip(kept, reasons, strict=True) if reason is None)
            rejections.append(_counted(len(refused), refused[0], rule.remedy))
    return kept, tuple(rejections)


def _counted(number: int, reason: str, remedy: str | None, wish: str | None = None) -> Rejection:
    what = f"{number:,} offer{'s' * (number > 1)}"
    return Rejection(what=what, reason=reason, remedy=remedy, wish=wish, num_offers=number)


def _kinds(offers: Iterable[Offer], catalog: Catalog) -> tuple[Kind, ...]:
    """Group by what moves memory and time. Of equal machines in several regions only the cheapest is kept."""
    cheapest: dict[tuple[str, str, str], Offer] = {}
    for offer in offers:
        key = (offer.provider, offer.instance_type, offer.purchase)
        best = cheapest.setdefault(key, offer)
        if (offer.usd_per_hour, offer.region) < (best.usd_per_hour, best.region):
            cheapest[key] = offer
    grouped: dict[tuple[str | None, int, str, str], list[Offer]] = defaultdict(list)
    for offer in cheapest.values():
        # each its own kind: CPU boxes, where cores and RAM decide, and a machine whose cards' free memory was read
        own = offer.key if offer.gpu is None or offer.gpu_free_mib is not None else ""
        grouped[offer.gpu, int(offer.num_gpus), offer.interconnect, own].append(offer)
    return tuple(
        Kind(
            gpu=_card(catalog.gpus[gpu], members[0]) if gpu is not None else None,
            num_gpus=num_gpus,
            offers=tuple(sorted(members, key=lambda offer: (offer.usd_per_hour, offer.key))),
        )
        for (gpu, num_gpus, _, _), members in grouped.items()
    )


def _card(gpu: Gpu, offer: Offer) -> Gpu:
    """The card with what is free on it in place of what its driver reports, where that was read."""
    return gpu if offer.gpu_free_mib is None else msgspec.structs.replace(gpu, driver_memory_mib=offer.gpu_free_mib)


def how_to_plan_with(provider: str) -> str:
    """What to type where the catalog has no offer of a provider that is known."""
    if provider == HOST:
        return "name your machine (--host user@address)"
    return "import prices that you see there (rentune catalog import FILE.csv), or rent there yourself (--host user@address)"


def check_names(where: Where, catalog: Catalog, offers: tuple[Offer, ...]) -> None:
    """A name that no offer of the whole market has is a slip of the pen, not a wish that nothing fulfils: RequestError."""
    for key, known in known_names(catalog, offers).items() if where.providers or where.regions else ():
        for name in getattr(where, key):
            if not any(matches(each, (name,)) for each in known):
                close = _close(name, known)
                hint = f"did you mean {_or(close)}?" if close else f"known are {', '.join(sorted(known)[:MAX_NAMES])}"
                raise RequestError(f"no offer has the {key[:-1]} {name}", hint=hint)


def known_names(catalog: Catalog, offers: tuple[Offer, ...]) -> dict[str, set[str]]:
    """Names that a wish or a rule may use, by the key that holds them."""
    return {
        "providers": {offer.provider for offer in offers} | set(catalog.billing),
        "regions": {offer.region for offer in offers},
    }


def _close(name: str, known: set[str]) -> list[str]:
    """What may have been meant: those that are spelled alike, or else lie on the continent that the first letters name."""
    from difflib import get_close_matches  # only for a name that is wrong: it costs start-up time

    continent = sorted(each for each in known if each.lower().startswith(name.lower()[:CONTINENT_LETTERS]))
    alike = get_close_matches(name, continent or known, n=3, cutoff=0.5)
    return alike or continent[:MAX_NAMES]


def _own(offer: Offer) -> bool:
    return offer.provider in OWN_MACHINES


def _or(names: Iterable[str]) -> str:
    return " or ".join(names)
