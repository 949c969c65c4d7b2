"""The cheapest jobs on a set of machines: branch and bound over kinds, cheapest conceivable job first.

A machine cannot beat its floor: its price × the time that the job would take there if memory were no object. Kinds are
visited in the order of their floors, and passed over once the floor is above everything wanted.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

from catalogs.catalog import Catalog
from catalogs.hardware import OWN_LIST, Billing, Offer
from catalogs.sellers import by_contract
from planner.advise import Advice
from planner.asking.checks import batch_comes_out
from planner.asking.policy import Limits, Rule, limits_of
from planner.asking.request import HOST, LOCAL, Request
from planner.choice.goals import CHEAPEST, MEASURES, SURELY_BETTER
from planner.estimators.cost import estimate_cost
from planner.estimators.time.interruptions import interrupted, interval_s, made_every_s, sent_bytes
from planner.plan import (
    PRICE_ONLY,
    Considered,
    CostEstimate,
    Doubts,
    DurationEstimate,
    HostEstimate,
    Obstacle,
    Place,
    Provider,
)
from planner.search.boxes import OnOffer, held_by, reach_of
from planner.search.figures import Figures, key_of
from planner.search.floors import Floor, Floors
from planner.search.market.offers import Asked, Kind
from planner.search.obstacles import obstacle
from planner.search.told.notebook import Notebook, Over
from planner.search.ways.fit import Fit
from planner.search.ways.fitting import Reach, fitting
from planner.units import SECONDS_PER_HOUR
from remote.contract import Capabilities, Strategy, Task, disk_blocks

MAX_CPU_HOURS: Final = 24.0  # assumed: nobody waits longer for a machine without a GPU unless --max-hours says so


Name = tuple[object, ...]  # of a strategy on an offer
Measure = Callable[[float, float], float]  # dollars and seconds of the job -> what is to be least


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """All that a ranking depends on, beside the offers."""

    request: Request
    advice: Advice
    seq_len: int
    catalog: Catalog
    providers: Mapping[str, Provider]
    capabilities: Capabilities
    rules: tuple[Rule, ...] = ()
    kept_at: tuple[Place, ...] = ()  # of the volume that is to be used again
    judged: dict[tuple[Task, bool, Strategy], bool] = msgspec.field(default_factory=dict)  # by these capabilities: see `doable`

    def provider(self, name: str) -> Provider:
        """What the caller said about a provider; of an unknown one only the price is known."""
        return self.providers.get(name) or Provider(name=name, runnable=False, status=PRICE_ONLY)

    def missing(self, strategy: Strategy) -> tuple[str, ...]:
        """What of it the trainer can't do."""
        return self.capabilities.missing(strategy, self.request.task, packing=self.request.data.reading.packing)

    def doable(self, strategy: Strategy) -> bool:
        """Whether the trainer can do it; asked of each once, for a plan asks thousands of times."""
        key = (self.request.task, self.request.data.reading.packing, strategy)
        if key not in self.judged:
            self.judged[key] = not self.missing(strategy)
        return self.judged[key]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A plan in the making: everything but the words."""

    fit: Fit
    kind: Kind
    offer: Offer
    billing: Billing
    host: HostEstimate
    duration: DurationEstimate
    cost: CostEstimate
    obstacle: Obstacle | None  # None = this version can run it
    ready: bool  # whether nothing is known to be missing here for renting there
    plain: Found | None = None  # the same machine without what this way moves, where that fits too and costs a good deal more

    @property
    def told(self) -> str:
        """Its hours and dollars in words."""
        usd, took_s = self.measured
        return f"{took_s / SECONDS_PER_HOUR:,.1f} h for ${usd:,.{2 if usd >= 0.1 else 3}f}"

    @property
    def needs_ram(self) -> bool:
        """Whether something waits in RAM, and the card does not hold the job by itself."""
        return self.fit.strategy.offload != "none" and self.plain is None

    @property
    def measured(self) -> tuple[float, float]:
        """Dollars and seconds, by which plans are compared."""
        return self.cost.held_usd.p50, self.duration.wall_s.p50

    @property
    def doubts(self) -> Doubts:
        """As those of the plan that it becomes."""
        return Doubts(not self.ready, self.fit.verdict == "tight")

    @property
    def order(self) -> tuple[float, float, str, str]:
        """Dollars of the whole job, then its hours; the rest only makes the order the same every time."""
        return self.cost.held_usd.p50, self.duration.wall_s.p50, self.offer.key, self.fit.strategy.sharding

    @property
    def name(self) -> Name:
        """What tells it from every other plan of one search, also of those with less of an adapter."""
        strategy = self.fit.strategy
        return self.offer.key, strategy.rank, strategy.target_modules, *key_of(strategy)

    @property
    def choice(self) -> tuple[str, str, str | None, int]:
        """What a person chooses between: who rents it out, how, and what trains; more GPUs that stand idle are no choice."""
        return self.offer.provider, self.offer.purchase, self.offer.gpu, self.fit.strategy.num_gpus


class Ranked(NamedTuple):
    """What was found, the cheapest first, and all that was told in dollars on the way, by name."""

    found: tuple[Found, ...]
    priced: frozenset[Name]


def rank(question: Question, kinds: tuple[Kind, ...], floors: Floors, notebook: Notebook) -> Ranked:
    """The `top` cheapest plans, the `top` cheapest that can be run, and of each seller and card that was asked for by name its
    best, together in one order.
    """
    top = question.request.top
    every, runnable, by_name, priced = _Cheapest(top), _Cheapest(top), _Named(question, kinds), set[Name]()
    reach = [(kind, floors.of(kind, max(1, kind.num_gpus))) for kind in kinds]
    for kind, fastest in sorted(reach, key=lambda each: min(map(each[1].usd, each[0].offers))):
        doable = doable_floor(kind, question, floors)
        wanted = [
            offer
            for offer in kind.offers
            if every.may_take(fastest.usd(offer))
            or by_name.may_take(offer, fastest.usd(offer))
            or (question.provider(offer.provider).runnable and runnable.may_take(doable.usd(offer)))
        ]
        for found, over in on_kind(kind, wanted, question, floors.figures, notebook):
            priced.add(found.name)
            if over is not None:
                notebook.over.append(over)
                continue
            every.take(found)
            by_name.take(found)
            if found.obstacle is None:
                runnable.take(found)
    kept = {found.name: found for found in (*every.found, *runnable.found, *by_name.found)}
    return Ranked(tuple(sorted(kept.values(), key=lambda found: found.order)), frozenset(priced))


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


class _Named:
    """The best of each seller, and of each card, where several were asked for by name: who names two compares them. So does who
    has a list of his own. What can be run is better than what can be once somebody rents it himself, that than what cannot,
    else the cheaper.
    """

    def __init__(self, question: Question, kinds: Iterable[Kind]) -> None:
        self._question, where = question, question.request.where
        cards = {question.catalog.gpu(name).gpu.name for name in where.cards}
        ours = (offer.provider for kind in kinds for offer in kind.offers if by_hand(offer, question))
        self._sellers = frozenset((*(where.providers if len(where.providers) > 1 else ()), *(LOCAL,) * where.own_card, *ours))
        self._cards = frozenset(cards if len(cards) > 1 else ())
        self._best: dict[str, Found] = {}

    def _names(self, offer: Offer) -> Iterator[str]:
        if offer.provider in self._sellers:
            yield offer.provider
        if offer.gpu in self._cards:
            yield str(offer.gpu)

    def may_take(self, offer: Offer, floor_usd: float) -> bool:
        return any(self._beats(offer, floor_usd, self._best.get(name)) for name in self._names(offer))

    def _beats(self, offer: Offer, floor_usd: float, best: Found | None) -> bool:
        if best is None or floor_usd <= best.order[0]:
            return True
        return _standing(best) > 0 and (self._question.provider(offer.provider).runnable or _standing(best) > 1)

    def take(self, found: Found) -> None:
        for name in self._names(found.offer):
            best = self._best.get(name)
            if best is None or (_standing(found), found.order) < (_standing(best), best.order):
                self._best[name] = found

    @property
    def found(self) -> tuple[Found, ...]:
        return tuple(self._best.values())


def _standing(found: Found) -> int:
    """0 where it can be run, 1 where nothing but renting keeps from it, else 2."""
    return 0 if found.obstacle is None else 1 if found.obstacle.kind == PRICE_ONLY else 2


def by_hand(offer: Offer, question: Question) -> bool:
    """Whether its seller is of a list of the user's own, or named, and rents nothing to this version."""
    named = offer.provider in question.request.where.providers and not question.provider(offer.provider).runnable
    return offer.source == OWN_LIST or named


def doable_floor(kind: Kind, question: Question, floors: Floors) -> Floor:
    """What the job costs at least there on as many GPUs as the trainer can use."""
    counts = _counts(kind, question.request)
    return floors.of(kind, next((count for count in counts if count <= question.capabilities.max_gpus), counts[0]))


def on_kind(
    kind: Kind,
    offers: list[Offer],
    question: Question,
    figures: Figures,
    notebook: Notebook,
    *,
    measure: Measure = MEASURES[CHEAPEST],
    only_doable: bool = False,
) -> Iterator[tuple[Found, Over | None]]:
    """Plans on one kind of machine: with its fastest strategy, and with the fastest that the trainer can do, or this alone.
    Beside each the limits of money and time that it breaks, if it does. `measure`: of its dollars and seconds, by which one
    that is far from the usual has to be a good deal less than one that is nearer.
    """
    if not offers:
        return
    boxes = [box_of(offer, question) for offer in offers]
    fits = _fastest_first(kind, boxes, question, figures, notebook, only_doable=only_doable)
    doable = tuple(fit for fit in fits if question.doable(fit.strategy))
    # a seller's cheapest box with these GPUs is enough, once it holds the job, and surely does and can be had, but for what is
    # quicker; where blocks have to wait on its disk the next may have RAM for them, and cost less by the job
    placed: dict[tuple[str, str, tuple[bool, ...], bool], int] = {}
    for box in boxes:
        offer, provider = box.offer, question.provider(box.offer.provider)
        can_rent = provider.runnable or by_hand(offer, question)
        for of_doable, choice in ((False, fits), (True, doable if can_rent and doable[:1] != fits[:1] else ())):
            place = offer.provider, offer.purchase, _can_be_had(offer, provider), of_doable
            if not (quicker := choice[: placed.get(place, len(choice))]):
                continue
            told = notebook if place not in placed else Notebook()  # that a box lacks RAM for more is no reason against it
            fit = held_by(quicker, box, kind, figures, told, offload_disk=question.request.where.offload_disk)
            if fit is None:
                continue
            found = _unless_nearer(_found(fit, kind, offer, question, figures), choice, box, question, figures, measure)
            over = over_of(found, question)
            if over is not None:
                found, over = _within(found, over, quicker, box, question, figures)
            if over is None and not disk_blocks(fit.strategy):
                placed[place] = quicker.index(fit)
            yield found, over


def _within(
    found: Found, over: Over, choice: tuple[Fit, ...], box: OnOffer, question: Question, figures: Figures
) -> tuple[Found, Over | None]:
    """What does the job there within what it may cost and take, where something does: limits are held at p90, and what takes
    less at p50 may take more there. Else what needs least beyond. Nothing that takes less at p50: then more of what is allowed
    would lead to a dearer plan.
    """
    least = found, over
    for fit in choice:
        if fit.verdict == found.fit.verdict and held_by((fit,), box, found.kind, figures, Notebook()) is not None:
            tried = _found(fit, found.kind, found.offer, question, figures)
            if tried.measured < found.measured:
                continue
            if (needs := over_of(tried, question)) is None:
                return tried, None
            if (needs.needed_usd, needs.needed_s) < (least[1].needed_usd, least[1].needed_s):
                least = tried, needs
    return least


def _unless_nearer(
    found: Found, choice: tuple[Fit, ...], box: OnOffer, question: Question, figures: Figures, measure: Measure
) -> Found:
    """The plan, with what the box would do without what it moves, where it surely holds that; or that, where it is no good deal
    more: what waits in RAM may take a dearer disk.
    """
    if not found.fit.num_moves or disk_blocks(found.fit.strategy):
        return found
    strategy, surely = found.fit.strategy, found.fit.verdict == "fits"
    nearer = (
        fit
        for fit in sorted(choice, key=lambda each: each.num_moves)
        if fit.verdict == "fits" and surely and (fit.num_moves == 0 or fit.strategy.offload == "none" != strategy.offload)
    )
    usual = held_by(nearer, box, found.kind, figures, Notebook())
    if usual is None:
        return found
    plain = _found(usual, found.kind, found.offer, question, figures)
    counted = plain.fit.counted(measure(*plain.measured))
    if plain.fit.num_moves == 0 and counted <= found.fit.counted(measure(*found.measured)):
        return plain
    return msgspec.structs.replace(found, plain=plain)


def box_of(offer: Offer, question: Question) -> OnOffer:
    """The machine on offer, as its seller rents it out."""
    return OnOffer(offer, question.catalog.billing_of(offer), question.provider(offer.provider).asks_ram)


def _can_be_had(offer: Offer, provider: Provider) -> tuple[bool, ...]:
    """What else of an offer decides whether it can be run."""
    return provider.is_told(offer), provider.ready(offer), by_contract(offer)


def _fastest_first(
    kind: Kind, boxes: list[OnOffer], question: Question, figures: Figures, notebook: Notebook, *, only_doable: bool
) -> tuple[Fit, ...]:
    """Everything that fits this kind, the fastest first, each move from the usual counted; what is tight comes last."""

    def beside(strategy: Strategy) -> Reach:
        return reach_of(strategy, boxes, kind, figures)

    fits = [
        fit
        for each in _counts(kind, question.request)
        for fit in fitting(
            kind,
            each,
            figures,
            notebook,
            offer=boxes[0].offer,
            doable=question.doable,
            beside=beside,
            only_doable=only_doable,
        )
    ]
    if any(question.doable(fit.strategy) for fit in fits):
        notebook.holds(kind)

    def order(fit: Fit) -> tuple[bool, bool, float, int]:
        duration = figures.duration(fit.strategy, kind.gpu, boxes[0].offer)
        return fit.verdict == "tight", fit.spare, fit.counted(duration.wall_s.p50), fit.lever

    quickest = sorted(fits, key=order)
    return _unless_clearly_quicker(quickest, kind, boxes[0].offer, figures) if figures.seen else tuple(quickest)


def _unless_clearly_quicker(fits: list[Fit], kind: Kind, offer: Offer, figures: Figures) -> tuple[Fit, ...]:
    """The same, but first the way that would be taken if nothing had run here before, unless another takes a good deal less
    time by what earlier runs taught: they differ by as much among themselves, and a plan should not change for that.
    """
    durations = {id(fit): figures.duration(fit.strategy, kind.gpu, offer) for fit in fits}
    alike = [fit for fit in fits if (fit.verdict, fit.lever) == (fits[0].verdict, fits[0].lever)]
    usual = min(alike, key=lambda fit: durations[id(fit)].unlearned_s, default=None)
    if usual is None or durations[id(usual)].wall_s.p50 > SURELY_BETTER * durations[id(fits[0])].wall_s.p50:
        return tuple(fits)
    return (usual, *(fit for fit in fits if fit is not usual))


def _counts(kind: Kind, request: Request) -> tuple[int, ...]:
    """How many of the machine's GPUs may be used: all, or one, unless the number was said. Where a step's sequences, as they
    were said, can't be spread over all, over half of them, or a fourth, …: the whole machine is paid for.
    """
    every = max(1, kind.num_gpus)
    if every == 1 or request.where.num_gpus is not None:
        return (every,)
    halves = (every >> halved for halved in range(every.bit_length()) if every % (1 << halved) == 0)
    most = next((number for number in halves if batch_comes_out(request, number)), 1)
    return (most, 1) if most > 1 else (1,)


def considered(question: Question, asked: Asked, figures: Figures, *, num_concessions: int, num_priced: int) -> Considered:
    """On how much a search over what was admitted has decided, each way to train as asked and with so many concessions; so many
    of these candidates were told in dollars.
    """
    kinds = asked.kinds
    ways = {
        (num_gpus, kind.computes_in): figures.ladders(num_gpus, computes_in=kind.computes_in).num_strategies
        for kind in kinds
        for num_gpus in _counts(kind, question.request)
    }
    num_strategies, num_adapters = sum(ways.values()), 1 + num_concessions
    num_candidates = num_adapters * sum(
        kind.num_sold * ways[num_gpus, kind.computes_in] for kind in kinds for num_gpus in _counts(kind, question.request)
    )
    return Considered(
        num_offers_sold=asked.num_offers,
        num_offers_admitted=sum(kind.num_sold for kind in kinds),
        num_strategies_asked=num_strategies,
        num_strategies=num_adapters * num_strategies,
        num_candidates=num_candidates,
        num_pruned=num_candidates - num_priced,
    )


def _found(fit: Fit, kind: Kind, offer: Offer, question: Question, figures: Figures) -> Found:
    billing, provider = question.catalog.billing_of(offer), question.provider(offer.provider)
    host = figures.host(fit.strategy, on_cpu=kind.gpu is None)
    adapter_bytes, checkpoint_bytes = figures.adapter_bytes(fit.strategy), figures.checkpoint_bytes(fit.strategy)
    duration = figures.duration(fit.strategy, kind.gpu, offer)
    made_s = made_every_s(question.request.loop, step_s=duration.step_s.p50, num_steps=duration.num_steps)
    every_s = interval_s(offer, billing, checkpoint_bytes=checkpoint_bytes, checkpoint_every_s=made_s)
    duration = interrupted(duration, offer, every_s=every_s)
    return Found(
        fit=fit,
        kind=kind,
        offer=offer,
        billing=billing,
        host=host,
        duration=duration,
        cost=estimate_cost(
            duration,
            host,
            offer=offer,
            billing=billing,
            sent_bytes=sent_bytes(
                duration, offer, adapter_bytes=adapter_bytes, checkpoint_bytes=checkpoint_bytes, every_s=every_s
            ),
            keeps_volume=question.request.keep.volume_name is not None,
            dearest=figures.dearest(question.catalog.billing),
        ),
        obstacle=obstacle(
            fit.strategy, kind.gpu, offer, question.request, provider, question.capabilities, rules=question.rules
        ),
        ready=provider.ready(offer),
    )


def over_of(found: Found, question: Question) -> Over | None:
    """What of time and money does not hold at p90; None where both do."""
    usd, seconds = found.cost.held_usd.p90, found.duration.wall_s.p90
    broken = limits_on(found.kind, found.offer, question).broken(usd=usd, seconds=seconds)
    if broken is None:
        return None
    return Over(
        offer=found.offer,
        needed_usd=usd,
        needed_s=seconds,
        cap=broken.cap,
        limit_s=broken.max_s,
        runnable=found.obstacle is None,
        is_told=question.provider(found.offer.provider).is_told(found.offer),
        fits=found.fit.verdict == "fits",
    )


def limits_on(kind: Kind, offer: Offer, question: Question) -> Limits:
    """What the job may cost and take there: without a word as long as anybody waits for a machine without a GPU."""
    budget, named = question.request.budget, (*question.request.where.providers, HOST)
    usual_max_s = MAX_CPU_HOURS * SECONDS_PER_HOUR if kind.gpu is None and offer.provider not in named else None
    return limits_of(budget, question.rules, offer, usual_max_s=usual_max_s)
