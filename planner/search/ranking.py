"""The cheapest jobs on a set of machines: branch and bound over kinds, cheapest conceivable job first.

A machine cannot beat its floor: its price × the fewest floating point operations of the job ÷ the best matrix rate of
its cards. Kinds are visited in the order of their floors, and passed over once the floor is above everything wanted.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from catalogs.catalog import Catalog
from catalogs.hardware import Billing, Offer
from planner.advise import Advice
from planner.cost import disk_gib, estimate_cost
from planner.plan import CostEstimate, DurationEstimate, HostEstimate, Provider
from planner.request import Request
from planner.search.figures import Figures
from planner.search.fit import Fit, fitting
from planner.search.notebook import Notebook, Short
from planner.search.offers import Kind
from remote.contract import Capabilities

PRICE_ONLY: Final = "price only"
BOX_VENDOR: Final = "nvidia"  # the box's pinned stack is built for CUDA
BOX_CPU: Final = "x86_64"  # and for this machine language
MAX_CPU_HOURS: Final = 24.0  # assumed: nobody waits longer for a machine without a GPU unless --max-hours says so
SECONDS_PER_HOUR: Final = 3600
BYTES_PER_GIB: Final = 2**30
FLOPS_PER_PARAM: Final = {"full": 6}  # derived: 2 forward, 2 for inputs' gradients, 2 for weights' gradients
ADAPTER_FLOPS_PER_PARAM: Final = 4  # derived: frozen weights get no gradient


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """All that a ranking depends on, beside the offers."""

    request: Request
    advice: Advice
    seq_len: int
    catalog: Catalog
    providers: Mapping[str, Provider]
    capabilities: Capabilities

    def provider(self, name: str) -> Provider:
        """What the caller said about a provider; of an unknown one only the price is known."""
        return self.providers.get(name) or Provider(name=name, runnable=False, status=PRICE_ONLY)


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A plan in the making: everything but the words."""

    fit: Fit
    kind: Kind
    offer: Offer
    billing: Billing
    host: HostEstimate
    duration: DurationEstimate
    cost: CostEstimate
    runnable: str | None  # None = this version can run it; else why not

    @property
    def order(self) -> tuple[float, float, str, str]:
        """Dollars of the whole job, then its hours; the rest only makes the order the same every time."""
        return self.cost.total_usd.p50, self.duration.wall_s.p50, self.offer.key, self.fit.strategy.sharding

    @property
    def choice(self) -> tuple[str, str, str | None, int]:
        """What a person chooses between: who rents it out, how, and what trains."""
        return self.offer.provider, self.offer.purchase, self.offer.gpu, int(self.offer.num_gpus)


def rank(
    question: Question, kinds: Iterable[Kind], figures: Figures, notebook: Notebook, *, only_runnable: bool = False
) -> tuple[Found, ...]:
    """The `top` cheapest plans and the `top` cheapest that can be run, together in one order; or the latter alone."""
    top = question.request.top
    every, runnable = _Cheapest(0 if only_runnable else top), _Cheapest(top)
    floor_flops = _floor_flops(question, figures)
    for kind in sorted(kinds, key=lambda kind: _floor_usd(kind, kind.offers[0], floor_flops)):
        wanted = [
            offer
            for offer in kind.offers
            if every.may_take(floor := _floor_usd(kind, offer, floor_flops))
            or (question.provider(offer.provider).runnable and runnable.may_take(floor))
        ]
        for found in _on(kind, wanted, question, figures, notebook):
            every.take(found)
            if found.runnable is None:
                runnable.take(found)
    return tuple(
        sorted({id(found): found for found in (*every.found, *runnable.found)}.values(), key=lambda found: found.order)
    )


class _Cheapest:
    """The cheapest few, one for each provider's GPUs: of the same GPUs in a larger box only the cheapest is a choice."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.found: list[Found] = []

    def may_take(self, floor_usd: float) -> bool:
        return len(self.found) < self._size or (bool(self.found) and floor_usd <= self.found[-1].order[0])

    def take(self, found: Found) -> None:
        same = next((other for other in self.found if other.choice == found.choice), None)
        if same is not None:
            if same.order <= found.order:
                return
            self.found.remove(same)
        bisect.insort(self.found, found, key=lambda each: each.order)
        del self.found[self._size :]


def _floor_flops(question: Question, figures: Figures) -> float:
    """The fewest floating point operations of the job: block weights × tokens, attention and head left out."""
    request, architecture = question.request, figures.architecture
    sequences = request.data.num_examples * request.loop.epochs
    if request.loop.max_steps is not None:
        sequences = min(sequences, request.loop.max_steps * question.advice.global_batch_size)
    active = architecture.experts_per_token / architecture.num_experts if architecture.num_experts else 1.0
    per_param = FLOPS_PER_PARAM.get(question.advice.training["method"], ADAPTER_FLOPS_PER_PARAM)
    mean_tokens = min(request.data.mean_tokens, question.seq_len)
    return per_param * architecture.num_layers * architecture.block_params * active * sequences * mean_tokens


def _floor_usd(kind: Kind, offer: Offer, floor_flops: float) -> float:
    if kind.gpu is None:
        return 0.0
    return float(offer.usd_per_hour) * floor_flops / (kind.gpu.achievable_tflops * 1e12 * kind.num_gpus * SECONDS_PER_HOUR)


def _on(kind: Kind, offers: list[Offer], question: Question, figures: Figures, notebook: Notebook) -> Iterator[Found]:
    """Plans on one kind of machine: with its fastest strategy, and with the fastest that the trainer can do."""
    if not offers:
        return
    best = _fastest(kind, offers[0], question, figures, notebook)
    for offer in offers:
        can_rent = question.provider(offer.provider).runnable
        for fit in best if can_rent else best[:1]:
            found = _found(fit, kind, offer, question, figures)
            if _admitted(found, question, notebook):
                yield found


def _fastest(kind: Kind, offer: Offer, question: Question, figures: Figures, notebook: Notebook) -> tuple[Fit, ...]:
    """The fastest fit, and the fastest that the trainer can do if that is another one. Tight ones only in need."""
    ladders = [
        ladder
        for num_gpus in sorted({1, max(1, kind.num_gpus)} if question.request.where.num_gpus is None else {kind.num_gpus or 1})
        for ladder in figures.ladders(num_gpus, bf16=kind.gpu is None or kind.gpu.bf16)
    ]
    fits = fitting(kind, ladders, figures, notebook)

    def fastest(among: list[Fit]) -> list[Fit]:
        calm = [fit for fit in among if fit.verdict == "fits"] or among
        return [min(calm, key=lambda fit: figures.duration(fit.strategy, kind.gpu, offer).wall_s.p50)] if calm else []

    doable = [fit for fit in fits if not question.capabilities.missing(fit.strategy, question.request.task)]
    chosen = fastest(list(fits)) + fastest(doable)
    return tuple({id(fit): fit for fit in chosen}.values())


def _found(fit: Fit, kind: Kind, offer: Offer, question: Question, figures: Figures) -> Found:
    billing = question.catalog.billing[offer.provider]
    host = figures.host(fit.strategy, on_cpu=kind.gpu is None)
    duration = figures.duration(fit.strategy, kind.gpu, offer)
    return Found(
        fit=fit,
        kind=kind,
        offer=offer,
        billing=billing,
        host=host,
        duration=duration,
        cost=estimate_cost(duration, host, offer=offer, billing=billing, adapter_bytes=figures.adapter_bytes(fit.strategy)),
        runnable=_not_runnable(fit, kind, offer, question),
    )


def _not_runnable(fit: Fit, kind: Kind, offer: Offer, question: Question) -> str | None:
    """Why this version can't run the plan, in one sentence; None = it can."""
    provider = question.provider(offer.provider)
    missing = question.capabilities.missing(fit.strategy, question.request.task)
    reasons = (
        (not provider.runnable, f"price only: this version cannot rent from {provider.name}"),
        (
            provider.max_usd_per_hour is not None and offer.usd_per_hour > provider.max_usd_per_hour,
            f"over the ${provider.max_usd_per_hour} an hour that {provider.name} may cost",
        ),
        (bool(missing), f"not yet runnable: the trainer cannot do {', '.join(missing)}"),
        (
            kind.gpu is not None and kind.gpu.vendor != BOX_VENDOR,
            f"not yet runnable: the trainer's stack is built for {BOX_VENDOR.upper()} cards",
        ),
        (offer.cpu_architecture != BOX_CPU, f"not yet runnable: the trainer's stack is built for {BOX_CPU}"),
    )
    return next((sentence for wrong, sentence in reasons if wrong), None)


def _admitted(found: Found, question: Question, notebook: Notebook) -> bool:
    """Whether RAM, disk, time and money hold; the first that does not is written down."""
    offer, limit_s = found.offer, _limit_s(found, question)
    has_ram_bytes = None if offer.ram_gib is None else offer.ram_gib * BYTES_PER_GIB
    fixed_disk = found.billing.disk_usd_per_gib_month is None and offer.local_disk_gib is not None
    has_disk_bytes = (offer.local_disk_gib or 0) * BYTES_PER_GIB if fixed_disk else None
    disk_bytes = disk_gib(found.host, found.billing) * BYTES_PER_GIB
    max_usd = question.request.budget.max_usd
    checks: tuple[tuple[list[Short], float, float | None], ...] = (
        (notebook.short_of_ram, found.host.ram_peak_bytes, has_ram_bytes),
        (notebook.short_of_disk, disk_bytes, has_disk_bytes),
        (notebook.too_slow, found.duration.wall_s.p90, limit_s),
        (notebook.too_dear, found.cost.total_usd.p90, None if max_usd is None else float(max_usd)),
    )
    for page, needed, limit in checks:
        if limit is not None and needed > limit:
            page.append(Short(offer=offer, needed=needed, limit=limit))
            return False
    return True


def _limit_s(found: Found, question: Question) -> float | None:
    """Seconds that the job may take: as said; without a word, what anybody waits for a machine without a GPU."""
    if (max_hours := question.request.budget.max_hours) is not None:
        return max_hours * SECONDS_PER_HOUR
    named = found.offer.provider in question.request.where.providers
    return MAX_CPU_HOURS * SECONDS_PER_HOUR if found.kind.gpu is None and not named else None
