"""What would help: the machine that a refused strategy needs, and the best runnable plan with one wish given up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from planner.asking.request import OWN_MACHINES, Budget, Changes, Request, Where
from planner.methods import METHODS
from planner.plan import Rejection
from planner.refusals import CaseRefused
from planner.search.best import AIMS, best
from planner.search.figures import Figures
from planner.search.floors import Floors
from planner.search.market.offers import Kind, Market, admit
from planner.search.ranking import Found, Question
from planner.search.told.notebook import Over, enough_hours, enough_usd, lifted, nearest_of, told_apart
from planner.search.ways.fit import capacity_bytes, floor_bytes, required_bytes
from planner.search.ways.lengths import few_cut
from planner.strategy.words import describe
from planner.units import GIB, SECONDS_PER_HOUR
from remote.contract import Dtype, Strategy

STREAMED: Final = "stream"
BF16: Final = "bfloat16"


WayFound = tuple[str, Changes, Found]  # what is given up, the same as fields of the Request, the plan


class Relaxed(msgspec.Struct, frozen=True, kw_only=True):
    """A request with one wish less, what that is called, and what the wish would have to be for the plan that was found."""

    request: Request
    change: Callable[[Found], str]
    changes: Callable[[Found], Changes]


def ways_out(question: Question, market: Market, floors: Floors, over: Iterable[Over]) -> Iterator[WayFound]:
    """For each wish: the best plan that this version can run without it. Nothing for a wish that is not the cause.

    Where the wish is memory the best may be on far more than is needed, so the smallest card that does is named, too. Where no
    wish alone is enough, each is given up with the limits of money and time.
    `over`: plans that were found and break a limit.
    """
    among = _of_runnable(question, market)
    told: set[str] = set()
    if (cut := few_rows_cut(question, market, floors)) is not None:
        yield cut
    for relaxed in (*_relaxations(question.request), *_lifted_limits(question.request, over)):
        if (way := _way(relaxed, question, market, among, floors)) is not None:
            told.add(way[0])
            yield way
    larger = (_best_of(relaxed, kinds, question, floors) for relaxed, kinds in _larger_cards(question, market, among))
    nearest = next((way for way in larger if way is not None), None)
    if nearest is not None and nearest[0] not in told:
        yield nearest
    if nearest is None and not told:
        ways = (_way(relaxed, question, market, among, floors) for relaxed in _without_limits(question.request))
        yield from (way for way in ways if way is not None)


def _way(relaxed: Relaxed, question: Question, market: Market, among: frozenset[int], floors: Floors) -> WayFound | None:
    """The best plan of the relaxed request that this version can run."""
    asked = admit(relaxed.request, market, question.rules, kept_at=question.kept_at, among=among)
    return _best_of(relaxed, asked.kinds, question, floors)


def _best_of(relaxed: Relaxed, kinds: tuple[Kind, ...], question: Question, floors: Floors) -> WayFound | None:
    """The same on these machines; one with doubts only where there is no other. Best for the goal that was asked for: the
    command that is printed asks for it again.
    """
    found = best(
        msgspec.structs.replace(question, request=relaxed.request), kinds, floors, AIMS[relaxed.request.budget.goal]
    ).found
    return None if found is None else (relaxed.change(found), relaxed.changes(found), found)


def _of_runnable(question: Question, market: Market) -> frozenset[int]:
    return market.sold_by(frozenset(seller for seller in market.sellers if question.provider(seller).runnable))


def few_rows_cut(question: Question, market: Market, floors: Floors) -> WayFound | None:
    """The best plan where the few rows are cut that make the sequences long."""
    request, length = question.request, few_cut(question.request, question.seq_len)
    if length is None:
        return None
    relaxed = Relaxed(
        request=msgspec.structs.replace(request, training=request.training | {"seq_len": length}),
        change=lambda _found: f"with sequences of at most {length:,} tokens",
        changes=lambda _found: {"training.seq_len": length},
    )
    within = msgspec.structs.replace(question, seq_len=length)
    return _way(relaxed, within, market, _of_runnable(question, market), floors.within(length))


def _relaxations(request: Request) -> Iterator[Relaxed]:
    where = request.where
    if where.gpu_memory_gib is not None:
        yield _with_memory(request, None)
    if where.gpus or where.num_gpus is not None:
        yield Relaxed(
            request=_with(request, where=msgspec.structs.replace(where, gpus=(), num_gpus=None)),
            change=lambda found: f"on {found.kind.name}",
            changes=_machine,
        )
    if where.spot is not None:
        yield Relaxed(
            request=_with(request, where=msgspec.structs.replace(where, spot=None)),
            change=lambda found: "on demand" if found.offer.purchase == "on_demand" else "as a spot machine",
            changes=lambda found: {"where.spot": found.offer.purchase == "spot"},
        )
    if where.regions:
        yield Relaxed(
            request=_with(request, where=msgspec.structs.replace(where, regions=())),
            change=lambda found: f"in {found.offer.region}",
            changes=lambda found: {"where.regions": (found.offer.region,)},
        )
    if where.providers:
        yield Relaxed(
            request=_with(request, where=msgspec.structs.replace(where, providers=(), regions=())),
            change=lambda found: f"from {found.offer.provider}",
            changes=lambda found: _seller(found, where.regions),
        )


def _lifted_limits(request: Request, over: Iterable[Over]) -> Iterator[Relaxed]:
    """The request with its money, its hours or both as high as the nearest plan needs them that this version can run."""
    ours = [each for each in over if each.runnable and not (each.cap is not None and each.cap.rule is not None)]
    dear, slow, both = (
        [each for each in ours if (each.cap is not None, each.limit_s is not None) == broken]
        for broken in ((True, False), (False, True), (True, True))
    )
    nearest = (
        nearest_of(dear, lambda each: each.needed_usd),
        nearest_of(slow, lambda each: each.needed_s),
        nearest_of(both if not dear and not slow else (), lambda each: each.needed_usd),
    )
    return (_with_limits(request, lifted(each)) for each in nearest if each is not None)


def _with_limits(request: Request, changes: Changes) -> Relaxed:
    fields = {name.removeprefix("budget."): value for name, value in changes.items()}
    return Relaxed(
        request=_with(request, budget=msgspec.structs.replace(request.budget, **fields)),
        change=lambda _found: _limit_words(changes),
        changes=lambda _found: changes,
    )


def _without_limits(request: Request) -> Iterator[Relaxed]:
    """The request with a wish less, and with as much money and time as the plan then needs."""
    budget = request.budget
    if budget.max_usd is None and budget.max_hours is None:
        return
    free = _with(request, budget=msgspec.structs.replace(budget, max_usd=None, max_hours=None))
    yield from (_within_limits(relaxed, budget) for relaxed in _relaxations(free))


def _within_limits(relaxed: Relaxed, budget: Budget) -> Relaxed:
    """The same, told with the limits that the plan breaks."""

    def change(found: Found) -> str:
        return " ".join(filter(None, (relaxed.change(found), _limit_words(_limits_broken(budget, found)))))

    def changes(found: Found) -> Changes:
        return relaxed.changes(found) | _limits_broken(budget, found)

    return Relaxed(request=relaxed.request, change=change, changes=changes)


def _limits_broken(budget: Budget, found: Found) -> Changes:
    """The limits of money and time that a plan breaks, as high as it needs them."""
    usd, seconds = found.cost.held_usd.p90, found.duration.wall_s.p90
    is_dear = budget.max_usd is not None and usd > budget.max_usd
    is_slow = budget.max_hours is not None and seconds > budget.max_hours * SECONDS_PER_HOUR
    hours = {"budget.max_hours": enough_hours(seconds)} if is_slow else {}
    return hours | ({"budget.max_usd": enough_usd(usd)} if is_dear else {})


def _limit_words(changes: Changes) -> str:
    return " and ".join(_LIMIT_WORDS[name](value) for name, value in changes.items())


_LIMIT_WORDS: Final[Mapping[str, Callable[[Any], str]]] = {
    "budget.max_usd": lambda usd: f"for up to ${usd}",
    "budget.max_hours": lambda hours: f"in up to {hours:,.1f} hours",
}


def _larger_cards(question: Question, market: Market, among: frozenset[int]) -> Iterator[tuple[Relaxed, tuple[Kind, ...]]]:
    """The request with each size of card above its budget that can be rented, the smallest first, and the machines with it:
    on those with less nothing can be run, as was found before.
    """
    budget_gib = question.request.where.gpu_memory_gib
    if budget_gib is None:
        return
    unlimited = _with(question.request, where=msgspec.structs.replace(question.request.where, gpu_memory_gib=None))
    kinds = admit(unlimited, market, question.rules, kept_at=question.kept_at, among=among).kinds
    for size_gib in sorted({kind.gpu.memory_gib for kind in kinds if kind.gpu is not None}):
        if size_gib > budget_gib:
            of_size = tuple(kind for kind in kinds if kind.gpu is not None and kind.gpu.memory_gib == size_gib)
            yield _with_memory(question.request, size_gib), of_size


def _with_memory(request: Request, memory_gib: float | None) -> Relaxed:
    asked_gib = request.where.gpu_memory_gib
    return Relaxed(
        request=_with(request, where=msgspec.structs.replace(request.where, gpu_memory_gib=memory_gib)),
        change=lambda found: f"with {_memory_gib(found):g} GiB on the GPU instead of {asked_gib:g}",
        changes=lambda found: {"where.gpu_memory_gib": _memory_gib(found)},
    )


def _machine(found: Found) -> Changes:
    """With a machine of one's own its provider: it overrules cards that a job file names.

    A number of GPUs says that so many train: where the plan leaves some of them idle none is said.
    """
    gpu, own = found.kind.gpu, found.offer.provider
    all_train = gpu is not None and found.fit.strategy.num_gpus == found.kind.num_gpus
    cards = {"where.gpus": (gpu.name,) if gpu else None, "where.num_gpus": found.kind.num_gpus if all_train else None}
    return cards | ({"where.providers": (own,)} if own in OWN_MACHINES else {})


def _seller(found: Found, regions: tuple[str, ...]) -> Changes:
    """Regions are names of a provider's own: where some were asked for, they change with it."""
    return {"where.providers": (found.offer.provider,)} | ({"where.regions": (found.offer.region,)} if regions else {})


def _memory_gib(found: Found) -> float:
    return found.kind.gpu.memory_gib if found.kind.gpu is not None else 0.0


def _with(request: Request, *, where: Where | None = None, budget: Budget | None = None) -> Request:
    return msgspec.structs.replace(request, where=where or request.where, budget=budget or request.budget)


# ── memory ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def memory_rejections(question: Question, kinds: tuple[Kind, ...], market: Market, figures: Figures) -> Iterator[Rejection]:
    """Each family of strategies whose least demanding member fits none of the admitted GPUs, with what it needs."""
    unlimited = msgspec.structs.replace(question.request, where=Where())
    everywhere = admit(unlimited, market, question.rules).kinds
    one_is_enough = True
    for num_gpus in sorted({kind.num_gpus for kind in kinds if kind.num_gpus} | {1}):
        of_size = [kind for kind in kinds if kind.gpu is not None and kind.num_gpus >= num_gpus]
        looked_at = list(_least_demanding(question, num_gpus, _computes_in(of_size), figures)) if of_size else []
        refused = [each for each in (_rejection(step, of_size, everywhere, figures) for step in looked_at) if each is not None]
        fits = len(refused) < len(looked_at)
        if num_gpus == 1:
            yield from refused
            one_is_enough = fits or not looked_at
        if fits:
            break  # what fits so many GPUs needs no more of them
        if num_gpus > 1:
            yield from refused[-1:]  # of several GPUs the least demanding is enough
    if not one_is_enough and STREAMED not in question.capabilities.offload and _has_frozen_blocks(question):
        yield Rejection(
            what="frozen blocks streamed from RAM through one GPU",
            reason="would need less GPU memory; this version estimates it and does not run it",
        )


def _has_frozen_blocks(question: Question) -> bool:
    return not METHODS[question.advice.training["method"]].moves_all


def _computes_in(kinds: list[Kind]) -> Dtype:
    """What the machines that are looked at multiply in: bfloat16 as soon as one does, for it takes no more memory."""
    return BF16 if any(kind.computes_in == BF16 for kind in kinds) else max(kinds, key=capacity_bytes).computes_in


def _least_demanding(question: Question, num_gpus: int, computes_in: Dtype, figures: Figures) -> Iterator[Strategy]:
    """The last step of every ladder that recomputes activations; copies (ddp) need what one GPU needs."""
    ladders = figures.ladders(num_gpus, computes_in=computes_in).usual
    said = "gradient_checkpointing" in question.advice.training or "sharding" in question.advice.training
    for *_, last in ladders:
        if said or not METHODS[last.method].recomputes or (last.gradient_checkpointing != "off" and last.sharding != "ddp"):
            yield last


def _rejection(strategy: Strategy, admitted: list[Kind], everywhere: tuple[Kind, ...], figures: Figures) -> Rejection | None:
    try:
        if any(_holds(kind, strategy, figures) for kind in admitted):
            return None
        largest = max(admitted, key=capacity_bytes)
        needed_bytes = required_bytes(strategy, largest, figures)
    except CaseRefused:
        return None  # told by the search, with the estimator's own words
    has_bytes = capacity_bytes(largest)
    needed, has = told_apart(needed_bytes / GIB, has_bytes / GIB)
    enough = [
        kind
        for kind in everywhere
        if kind.gpu is not None and kind.num_gpus == strategy.num_gpus and capacity_bytes(kind) >= needed_bytes
    ]
    place = "on each GPU" if strategy.num_gpus > 1 else "on one GPU"
    return Rejection(
        what=describe(strategy),
        reason=f"needs {needed} GiB {place}; the largest allowed has {has}",
        remedy=_cheapest_of(enough),
        needed={"required_bytes": needed_bytes, "available_bytes": has_bytes},
        num_offers=sum(len(kind.offers) for kind in admitted),
    )


def _holds(kind: Kind, strategy: Strategy, figures: Figures) -> bool:
    """Whether it fits there. Of most that do not, what rests on the GPU says so."""
    has_bytes = capacity_bytes(kind)
    return floor_bytes(strategy, kind, figures) <= has_bytes and required_bytes(strategy, kind, figures) <= has_bytes


def _cheapest_of(kinds: list[Kind]) -> str | None:
    """The cheapest machine with enough memory, in words."""
    kind = min(kinds, key=lambda kind: kind.offers[0].usd_per_hour, default=None)
    if kind is None or kind.gpu is None:
        return None
    return (
        f"{kind.name} with {kind.gpu.memory_gib:g} GiB, from ${kind.offers[0].usd_per_hour:.2f}/h at {kind.offers[0].provider}"
    )
