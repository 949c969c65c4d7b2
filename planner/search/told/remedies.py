"""What would help: the machine that a refused strategy needs, and the best runnable plan with one wish given up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import combinations
from typing import Any, Final

import msgspec

from planner.asking.options.overlay import changed
from planner.asking.request import OWN_MACHINES, Changes, Request, Where
from planner.methods import METHODS
from planner.plan import Rejection
from planner.refusals import CaseRefused
from planner.search.best import AIMS, best
from planner.search.figures import Figures
from planner.search.floors import Floors
from planner.search.market.offers import Kind, Market, admit
from planner.search.ranking import Found, Question, over_of
from planner.search.told.conceded import Conceded, Way
from planner.search.told.notebook import Over, lifted, nearest_of, told_apart
from planner.search.ways.capacity import capacity_bytes, floor_bytes, required_bytes
from planner.search.ways.lengths import few_cut
from planner.strategy.words import describe
from planner.units import GIB
from remote.contract import Dtype, Strategy

STREAMED: Final = "stream"
BF16: Final = "bfloat16"


class Relaxed(msgspec.Struct, frozen=True):
    """A request with one wish less. What the wish would have to be shows the plan that is found."""

    without: Changes  # fields of the Request; None = as if it had not been said
    conceded: Callable[[Found], Conceded]


def _below_ram(_found: Found) -> Conceded:
    return Conceded(changes={"where.offload_disk": True}, words="with blocks waiting on the disk, for want of RAM")


BELOW_RAM: Final = Relaxed({"where.offload_disk": True}, _below_ram)


def ways_out(
    question: Question, market: Market, floors: Floors, over: Iterable[Over], *, for_want_of_ram: bool = False
) -> Iterator[Way]:
    """For each wish: the best plan that this version can run without it. Nothing for a wish that is not the cause.

    Where the wish is memory the best may be on far more than is needed, so the smallest card that does is named, too. Where no
    wish alone is enough, each is given up with the limits of money and time; where that is not, as few of them as do.
    `over`: plans that were found and break a limit. `for_want_of_ram`: RAM is what streamed blocks lack somewhere.
    """
    among = _of_runnable(question, market)
    told: set[str] = set()
    if (cut := few_rows_cut(question, market, floors)) is not None:
        yield cut
    below_ram = (BELOW_RAM,) if for_want_of_ram and not question.request.where.offload_disk else ()
    for relaxed in (*_relaxations(question.request), *_lifted_limits(over), *below_ram):
        if (way := _way(relaxed, question, market, among, floors)) is not None:
            told.add(way.conceded.words)
            yield way
    larger = (_best_of(relaxed, kinds, question, floors) for relaxed, kinds in _larger_cards(question, market, among))
    nearest = next((way for way in larger if way is not None), None)
    if nearest is not None and nearest.conceded.words not in told:
        yield nearest
    if nearest is None and not told:
        yield from _by_fewest(question, market, among, floors)


def _by_fewest(question: Question, market: Market, among: frozenset[int], floors: Floors) -> Iterator[Way]:
    """With the limits of money and time each wish, or as few wishes as have to be given up together: what clashes with one may
    clash with another.
    """
    wishes = tuple(_relaxations(question.request))
    for number in range(1, len(wishes) + 1):
        together = (_at_once(each) for each in combinations(wishes, number))
        ways = (_way(_without_limits(each, question), question, market, among, floors) for each in together)
        if found := [way for way in ways if way is not None]:
            yield from found
            return


def _way(relaxed: Relaxed, question: Question, market: Market, among: frozenset[int], floors: Floors) -> Way | None:
    """The best plan of the relaxed request that this version can run."""
    request = changed(question.request, relaxed.without)
    asked = admit(request, market, question.rules, kept_at=question.kept_at, among=among)
    return _best_of(relaxed, asked.kinds, question, floors)


def _best_of(relaxed: Relaxed, kinds: tuple[Kind, ...], question: Question, floors: Floors) -> Way | None:
    """The same on these machines; one with doubts only where there is no other. Best for the goal that was asked for: the
    command that is printed asks for it again.
    """
    asked = msgspec.structs.replace(question, request=changed(question.request, relaxed.without))
    found = best(asked, kinds, floors, AIMS[asked.request.budget.goal]).found
    if found is None:
        return None
    conceded = relaxed.conceded(found)
    answered = msgspec.structs.replace(question, request=changed(question.request, conceded.changes))
    return Way(conceded=conceded, question=answered, found=found)


def _of_runnable(question: Question, market: Market) -> frozenset[int]:
    return market.sold_by(frozenset(seller for seller in market.sellers if question.provider(seller).runnable))


def few_rows_cut(question: Question, market: Market, floors: Floors) -> Way | None:
    """The best plan where the few rows are cut that make the sequences long."""
    length = few_cut(question.request, question.seq_len)
    if length is None:
        return None
    conceded = Conceded(changes={"training.seq_len": length}, words=f"with sequences of at most {length:,} tokens")
    within = msgspec.structs.replace(question, seq_len=length)
    return _way(_known(conceded), within, market, _of_runnable(question, market), floors.within(length))


def _known(conceded: Conceded) -> Relaxed:
    """Where it is known before a plan is found."""
    return Relaxed(conceded.changes, lambda _found: conceded)


def _relaxations(request: Request) -> Iterator[Relaxed]:
    for applies, without, conceded in _WISHES:
        if applies(request.where):
            yield Relaxed(dict.fromkeys(without), partial(conceded, request.where))


def _lifted_limits(over: Iterable[Over]) -> Iterator[Relaxed]:
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
    limits = (lifted(each) for each in nearest if each is not None)
    return (_known(Conceded(changes=changes, words=_limit_words(changes))) for changes in limits)


def _at_once(wishes: tuple[Relaxed, ...]) -> Relaxed:
    """The request without any of these."""

    def conceded(found: Found) -> Conceded:
        each = [wish.conceded(found) for wish in wishes]
        changes = {name: value for one in each for name, value in one.changes.items()}
        return Conceded(changes=changes, words=" and ".join(one.words for one in each))

    return Relaxed({name: value for wish in wishes for name, value in wish.without.items()}, conceded)


def _without_limits(relaxed: Relaxed, question: Question) -> Relaxed:
    """The same with as much money and time as the plan then needs."""
    budget = question.request.budget
    if budget.max_usd is None and budget.max_hours is None:
        return relaxed
    free = {"budget.max_usd": None, "budget.max_hours": None}
    return Relaxed(free | relaxed.without, partial(_within_limits, relaxed, question))


def _within_limits(relaxed: Relaxed, question: Question, found: Found) -> Conceded:
    """The same, told with the limits that the plan breaks."""
    conceded, over = relaxed.conceded(found), over_of(found, question)
    limits = {} if over is None else lifted(over)
    words = " ".join(filter(None, (conceded.words, _limit_words(limits))))
    return msgspec.structs.replace(conceded, changes=conceded.changes | limits, words=words)


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
    unlimited = changed(question.request, {"where.gpu_memory_gib": None})
    kinds = admit(unlimited, market, question.rules, kept_at=question.kept_at, among=among).kinds
    for size_gib in sorted({kind.gpu.memory_gib for kind in kinds if kind.gpu is not None}):
        if size_gib > budget_gib:
            of_size = tuple(kind for kind in kinds if kind.gpu is not None and kind.gpu.memory_gib == size_gib)
            yield Relaxed({"where.gpu_memory_gib": size_gib}, partial(_memory, question.request.where)), of_size


def _memory(where: Where, found: Found) -> Conceded:
    gpu, asked_gib = found.kind.gpu, where.gpu_memory_gib
    has_gib = 0.0 if gpu is None else gpu.memory_gib
    return Conceded(
        changes={"where.gpu_memory_gib": has_gib},
        words=f"with {has_gib:g} GiB on the GPU instead of {asked_gib:g}{_alone(found)}",
    )


def _alone(found: Found) -> str:
    """What the card would take by itself, where it holds the job and something is moved all the same."""
    return "" if found.plain is None else f", which hold it alone, too, in {found.plain.told}"


def _machine(_where: Where, found: Found) -> Conceded:
    """With a machine of one's own its provider: it overrules cards that a job file names.

    A number of GPUs says that so many train: where the plan leaves some of them idle none is said.
    """
    gpu, own = found.kind.gpu, found.offer.provider
    all_train = gpu is not None and found.fit.strategy.num_gpus == found.kind.num_gpus
    cards = {"where.gpus": (gpu.name,) if gpu else None, "where.num_gpus": found.kind.num_gpus if all_train else None}
    return Conceded(changes=cards | ({"where.providers": (own,)} if own in OWN_MACHINES else {}), words=f"on {found.kind.name}")


def _purchase(_where: Where, found: Found) -> Conceded:
    is_spot = found.offer.purchase == "spot"
    return Conceded(changes={"where.spot": is_spot}, words="as a spot machine" if is_spot else "on demand")


def _region(_where: Where, found: Found) -> Conceded:
    return Conceded(changes={"where.regions": (found.offer.region,)}, words=f"in {found.offer.region}")


def _seller(where: Where, found: Found) -> Conceded:
    """Regions are names of a provider's own: where some were asked for, they change with it."""
    regions = {"where.regions": (found.offer.region,)} if where.regions else {}
    return Conceded(changes={"where.providers": (found.offer.provider,)} | regions, words=f"from {found.offer.provider}")


# Whether a wish was said; its fields of the Request; what it would have to be for the plan that was found without it
_WISHES: Final[tuple[tuple[Callable[[Where], bool], tuple[str, ...], Callable[[Where, Found], Conceded]], ...]] = (
    (lambda where: where.gpu_memory_gib is not None, ("where.gpu_memory_gib",), _memory),
    (lambda where: bool(where.gpus) or where.num_gpus is not None, ("where.gpus", "where.num_gpus"), _machine),
    (lambda where: where.spot is not None, ("where.spot",), _purchase),
    (lambda where: bool(where.regions), ("where.regions",), _region),
    (lambda where: bool(where.providers), ("where.providers", "where.regions"), _seller),
)


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
