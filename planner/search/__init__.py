"""Strategies × offers -> ranked Plans and Rejections: what the whole job costs, cheapest first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.catalog import Catalog, attributions
from catalogs.hardware import Offer
from planner.advise import advise, fixed_by_pack
from planner.asking.policy import Rule, in_force, unmatched
from planner.asking.request import Changes, Request
from planner.asking.sent import NOTHING, Sent
from planner.asking.training_keys import check_training
from planner.choice.goals import Goal
from planner.edges import Edges
from planner.estimators.memory.refused.support import (
    require_apart,
    require_fusable,
    require_trainable,
    require_unpacked,
    require_unquantized,
)
from planner.methods import QLORA, QLORA_MEANS
from planner.notices.rows import cut_words, label_words
from planner.plan import Cards, Considered, Layout, Place, Plan, Rejection, SearchResult, WayOut
from planner.search.best import AIMS, Aim, best, by_the_hour, rank_by
from planner.search.figures import Figures
from planner.search.floors import Floors
from planner.search.market.idle import Told, idle_wishes
from planner.search.market.names import cards_of as cards_of
from planner.search.market.names import check_cards, check_memory, check_names, close_names, known_names
from planner.search.market.offers import Asked, Kind, Market, admit
from planner.search.ranking import Found, Question, Ranked, considered, rank
from planner.search.told.assumptions import assumptions
from planner.search.told.below_ram import waiting_on_disk
from planner.search.told.conceded import Way
from planner.search.told.concessions import concessions, first_enough
from planner.search.told.mistakes import check_trained
from planner.search.told.notebook import Notebook
from planner.search.told.remedies import few_rows_cut, memory_rejections, ways_out
from planner.search.told.shorter import longest_that_does
from planner.search.ways.lengths import decisive_words
from planner.search.ways.strategies import check_attention, check_layers, check_method, seq_len_of
from planner.strategy.packed import require_stored
from planner.units import SECONDS_PER_HOUR

PAID_BY: Final[frozenset[Goal]] = frozenset({"fastest"})  # whose goal dollars are paid for, where one machine does the job
WORTH_A_WORD: Final = 0.8  # assumed: of the dollars; less is no reason to cut rows


class _Asked(msgspec.Struct, frozen=True):
    """What a search is about: a question that makes sense, what is admitted to it, and figures that are its own."""

    question: Question
    market: Market
    admitted: Asked
    floors: Floors
    policy: tuple[Rule, ...]
    cards: Cards | None

    @property
    def figures(self) -> Figures:
        return self.floors.figures


class _Searched(msgspec.Struct, frozen=True):
    """What was found, what was turned down, and the ways out."""

    found: tuple[Found, ...]  # in the order of their dollars
    several: tuple[Found, ...]  # on several machines at once, which this version rents to nobody
    by_the_hour: Found | None
    ways: tuple[Way, ...]
    notebook: Notebook
    considered: Considered
    stuck: bool  # this version can run none of what was found
    none_alone: bool  # nor by the card alone


def search(
    request: Request,
    architecture: Architecture,
    edges: Edges,
    market: Market,
    *,
    cards: Cards | None = None,
    sent: Sent = NOTHING,
) -> SearchResult:
    """Every way to do the job, ranked by its total dollars (p50); what was refused says why.

    `cards`: cards that somebody has, to be told in which ways they hold the job. `sent`: what goes to the machine from here.
    Raises RequestError, CaseRefused or CatalogError where the request names what does not exist.
    """
    asked = _asked(request, architecture, edges, market, cards=cards, sent=sent)
    return _told(asked, _ranked(asked), edges)


def question_of(
    request: Request, architecture: Architecture, catalog: Catalog, edges: Edges, *, kept_at: tuple[Place, ...]
) -> Question:
    """What is asked of the ranking: the request, what is advised where it is silent, and who may be rented from."""
    return Question(
        request=request,
        advice=advise(request, architecture),
        seq_len=seq_len_of(request, architecture),
        catalog=catalog,
        providers=edges.providers,
        capabilities=edges.capabilities,
        rules=in_force(edges.rules, request.overruled),
        kept_at=kept_at,
    )


def figures_for(question: Question, architecture: Architecture, edges: Edges, sent: Sent) -> Figures:
    """The estimates of the question's job."""
    driver_installers = frozenset(name for name, each in edges.providers.items() if each.may_install_driver)
    return Figures(
        architecture,
        question.request,
        question.advice,
        seq_len=question.seq_len,
        seen=edges.seen,
        sent=sent,
        driver_installers=driver_installers,
    )


def _asked(
    request: Request, architecture: Architecture, edges: Edges, market: Market, *, cards: Cards | None, sent: Sent
) -> _Asked:
    """Raises for what can't be asked."""
    for check in checks(request, architecture, market.catalog, market.offers, runnable=edges.providers):
        check()
    if cards is not None and cards.gpu is None:
        check_memory(cards.memory_gib, market.catalog, said="--gpus", number=cards.number)
    question = question_of(request, architecture, market.catalog, edges, kept_at=edges.volume_at(request))
    figures = figures_for(question, architecture, edges, sent)
    check_trained(request, figures)
    return _Asked(
        question=question,
        market=market,
        admitted=admit(request, market, question.rules, kept_at=question.kept_at),
        floors=Floors(figures, market.catalog.billing),
        policy=edges.rules,
        cards=cards,
    )


def _ranked(asked: _Asked) -> _Searched:
    """The cheapest and the best for each goal; where none of them can be run, or none by the card alone, ways out."""
    question, kinds, floors, notebook = asked.question, asked.admitted.kinds, asked.floors, Notebook()
    found, priced = rank(question, kinds, floors, notebook)
    stuck = all(each.obstacle is not None for each in found)
    hourly = None
    if not stuck:
        hourly, priced_by_hour = best(question, kinds, floors, by_the_hour)
        found, priced_by_goal = _with_the_best(found, question, kinds, floors)
        priced |= priced_by_hour | priced_by_goal
    steps = tuple(concessions(question.request, question.advice, asked.figures.architecture)) if stuck else ()
    less, priced_with_less = first_enough(steps, question, kinds, floors)
    milder = _by_another_method(question, kinds, floors) if stuck else None
    in_part = _in_fewer_steps(question, kinds, floors, notebook) if stuck and notebook.over else None
    none_alone = stuck or _streams_at_best(found)
    short = any(each.strategy.offload == "stream" for each in (*notebook.short_of_ram, *notebook.untold_ram))
    wishes = ways_out(question, asked.market, floors, notebook.over, for_want_of_ram=short) if none_alone else ()
    ways = [way for way in wishes if stuck or _beats(way, found, AIMS[question.request.budget.goal])]
    for way in filter(None, (less, milder, in_part)):
        ways = [way, *ways] if way.conceded.is_advised else [*ways, way]
    return _Searched(
        found=found,
        several=_on_several(question, found, kinds, asked.figures, notebook),
        by_the_hour=hourly,
        ways=tuple(ways),
        notebook=notebook,
        considered=considered(
            question,
            asked.admitted,
            asked.figures,
            num_concessions=len(steps),
            num_priced=len(priced | priced_with_less),
        ),
        stuck=stuck,
        none_alone=none_alone,
    )


def _on_several(
    question: Question, found: tuple[Found, ...], kinds: tuple[Kind, ...], figures: Figures, notebook: Notebook
) -> tuple[Found, ...]:
    if found and question.request.budget.goal not in PAID_BY:
        return ()
    from planner.search.machines import machines_that_are_quicker, machines_that_do  # only then: it costs start-up time

    if found:
        return machines_that_are_quicker(question, found, figures)
    return machines_that_do(question, kinds, figures, notebook)


def _told(asked: _Asked, ranked: _Searched, edges: Edges) -> SearchResult:
    """All of it in words."""
    question, market, figures = asked.question, asked.market, asked.figures

    def plan(found: Found, question: Question = question) -> Plan:
        return plan_of(found, question, figures, edges)

    plans, several = (tuple(map(plan, sorted(found, key=lambda each: each.order))) for found in (ranked.found, ranked.several))
    layouts = tuple(_layouts(asked.cards, question, market.offers, figures, none_alone=ranked.none_alone))
    ways = tuple(_way_out(way, plan(way.found, way.question)) for way in ranked.ways)
    return SearchResult(
        request=question.request,
        plans=plans,
        several=several,
        rejections=tuple(_rejections(asked, ranked)),
        warnings=(*_warnings(asked, ranked), *_cautions(asked, layouts)),
        ways_out=ways,
        attributions=attributions(market.catalog, [each.offer for each in (*plans, *several, *(way.plan for way in ways))]),
        cards=asked.cards,
        layouts=layouts,
        by_the_hour=plan(ranked.by_the_hour) if ranked.by_the_hour is not None else None,
        considered=ranked.considered,
    )


def _way_out(way: Way, plan: Plan) -> WayOut:
    conceded = way.conceded
    return WayOut(change=conceded.words, changes=conceded.changes, plan=plan, given_up=conceded.given_up)


def _rejections(asked: _Asked, ranked: _Searched) -> Iterator[Rejection]:
    """Of strategies, then of offers: what fits nothing, what was turned down, what was not admitted."""
    question, kinds, figures = asked.question, asked.admitted.kinds, asked.figures

    def shorter(kinds: Iterable[Kind]) -> Changes:
        return longest_that_does(kinds, question, figures)

    yield from memory_rejections(question, kinds, asked.market, figures)
    leads = not ranked.stuck or any("where.offload_disk" in way.conceded.changes for way in ranked.ways)
    below_ram = waiting_on_disk(question, figures, leads_to_a_plan=leads)
    yield from ranked.notebook.rejections(
        shorter, below_ram, complete=not ranked.found, disk_was_tried=question.request.where.offload_disk
    )
    yield from asked.admitted.rejections


def _warnings(asked: _Asked, ranked: _Searched) -> Iterator[str]:
    """What was said in vain, or wrongly, and what the length of the rows means."""
    question, market = asked.question, asked.market
    yield from idle_wishes(Told(question.request, asked.figures.architecture, market, asked.policy))
    yield from asked.admitted.warnings
    yield from _slips(question, market.catalog, market.offers)
    data = question.request.data
    if data.path is not None and (cut := cut_words(data, question.seq_len)) is not None:
        yield cut
    yield from label_words(data.classes, data.reading.balance)
    decisive = decisive_words(question.request, question.seq_len)
    if decisive is not None:
        saving = "" if ranked.stuck else _saving_words(ranked.found, few_rows_cut(question, market, asked.floors))
        yield decisive + saving


def _by_another_method(question: Question, kinds: tuple[Kind, ...], floors: Floors) -> Way | None:
    from planner.search.told.methods import first_runnable, lighter, otherwise  # only where nothing can be run: for start-up

    steps = (*otherwise(question.request, question.capabilities), *lighter(question.request))
    return first_runnable(steps, question, kinds, floors)


def _in_fewer_steps(question: Question, kinds: tuple[Kind, ...], floors: Floors, notebook: Notebook) -> Way | None:
    from planner.search.told.methods import first_runnable  # as above
    from planner.search.told.steps import fewer_steps

    return first_runnable(fewer_steps(question, notebook.over), question, kinds, floors)


def _saving_words(ranked: tuple[Found, ...], cut: Way | None) -> str:
    """On what, in what time and for how much the job would be done then, where that saves something worth a word."""
    cheapest_usd = min(found.cost.held_usd.p50 for found in ranked if found.obstacle is None)
    if cut is None or cut.found.cost.held_usd.p50 > WORTH_A_WORD * cheapest_usd:
        return ""
    found = cut.found
    took_s, usd = found.duration.wall_s.p50, found.cost.total_usd.p50
    time = f"{took_s / 60:.0f} min" if took_s < 2 * SECONDS_PER_HOUR else f"{took_s / SECONDS_PER_HOUR:,.1f} h"
    return f": {found.kind.name} would do then, in {time} for ${usd:,.{2 if usd >= 1 else 3}f}"


def _streams_at_best(ranked: tuple[Found, ...]) -> bool:
    """Whether all that can be run leaves something in RAM: then it is told what else there would be, and what a link costs."""
    return all(found.needs_ram for found in ranked if found.obstacle is None)


def _beats(way: Way, ranked: tuple[Found, ...], aim: Aim) -> bool:
    """Whether who streams is told of it: it holds its blocks on the card, and its command leads to nothing streamed; or it is
    a disk that a plan counts on only where it is asked to.
    """
    found = way.found
    streamed = [rank_by(each, aim) for each in ranked if each.obstacle is None]
    told = not found.needs_ram or "where.offload_disk" in way.conceded.changes
    return told and (not streamed or rank_by(found, aim) < min(streamed))


def _layouts(
    cards: Cards | None, question: Question, market: tuple[Offer, ...], figures: Figures, *, none_alone: bool
) -> Iterator[Layout]:
    """On the cards that were asked about; else, where a budget per GPU leaves nothing to run by the card alone (`none_alone`),
    on cards of its size.
    """
    if cards is None and not (none_alone and question.request.where.gpu_memory_gib is not None):
        return
    from planner.search.ways.layouts import layouts_of_budget, layouts_of_cards  # only then: it costs start-up time

    yield from layouts_of_cards(cards, question, figures) if cards else layouts_of_budget(question, market, figures)


def _cautions(asked: _Asked, layouts: tuple[Layout, ...]) -> Iterator[str]:
    if asked.cards is not None:
        from planner.search.ways.layouts import cautions  # as above

        yield from cautions(asked.cards, asked.question, layouts)


def _with_the_best(ranked: tuple[Found, ...], question: Question, kinds: tuple[Kind, ...], floors: Floors) -> Ranked:
    """The ranked and, for each goal, the best of all machines: it may be dear, or slow, and further down."""
    of_goals = [best(question, kinds, floors, aim) for aim in AIMS.values()]
    every = [*ranked, *(each.found for each in of_goals if each.found is not None)]
    kept = {found.name: found for found in every}
    return Ranked(
        tuple(sorted(kept.values(), key=lambda found: found.order)), frozenset().union(*(each.priced for each in of_goals))
    )


def _slips(question: Question, catalog: Catalog, market: tuple[Offer, ...]) -> tuple[str, ...]:
    """Names in rules that mean nobody; the market is gone through only where a rule has names at all."""
    naming = tuple(rule for rule in question.rules if isinstance(rule.allows, tuple))
    return unmatched(naming, known_names(catalog, market), close_names) if naming else ()


def checks(
    request: Request,
    architecture: Architecture | None,
    catalog: Catalog,
    offers: tuple[Offer, ...],
    *,
    runnable: Collection[str] = (),
) -> tuple[Callable[[], object], ...]:
    """What may be refused of a request before anything is ranked, each by itself: a search ends at the first that raises.

    Without an architecture, those that need none. `runnable`: who can be rented from, to be named first.
    """
    of_words: tuple[Callable[[], object], ...] = (
        lambda: check_training(request.model, request.training),
        lambda: check_cards(request.where, catalog),
        lambda: check_names(request.where, catalog, offers, first=runnable),
        lambda: check_memory(request.where.gpu_memory_gib, catalog, said="gpu_budget"),
    )
    if architecture is None:
        return of_words
    meant = (
        fixed_by_pack(request, architecture)
        | request.training
        | (QLORA_MEANS if request.training.get("method") == QLORA else {})
    )
    return (
        *of_words,
        lambda: require_trainable(architecture, request.task),
        lambda: require_fusable(architecture) if request.training.get("kernels") == "fused" else None,
        lambda: require_apart(architecture) if request.data.reading.packing else None,
        lambda: require_unpacked(request.model),
        lambda: require_unquantized(
            architecture,
            str(meant.get("quant", "none")),
            double_quant=bool(meant.get("double_quant", False)),
            param_dtype=meant.get("param_dtype"),
        ),
        lambda: require_stored(architecture, str(meant.get("quant", "none"))),
        lambda: check_layers(request, architecture),
        lambda: check_attention(request, architecture),
        lambda: seq_len_of(request, architecture),
        lambda: check_method(request, architecture),
    )


def plan_of(found: Found, question: Question, figures: Figures, edges: Edges) -> Plan:
    """The plan that was found, with all that is told of it."""
    provider = question.provider(found.offer.provider)
    strategy, gpu = found.fit.strategy, found.kind.gpu
    scaling = figures.scaling(strategy, gpu, found.offer, tokens_per_s=found.duration.tokens_per_s.p50)
    return Plan(
        request=question.request,
        strategy=strategy,
        offer=found.offer,
        gpu=gpu,
        billing=found.billing,
        vram=figures.vram(strategy, gpu),
        host=found.host,
        duration=msgspec.structs.replace(found.duration, scaling=scaling),
        cost=found.cost,
        verdict=found.fit.verdict,
        margin_bytes=found.fit.margin_bytes,
        why_not=found.obstacle.words if found.obstacle is not None else None,
        provider_status=provider.status,
        missing=provider.missing,
        quota=provider.quota_of(found.offer),
        asks_ram=provider.asks_ram and not found.offer.is_stated,
        assumptions=assumptions(found, question, today=edges.today),
        catalog_as_of=found.offer.observed_on,
        planned_on=edges.today,
        versions=dict(edges.versions),
        choices=question.advice.done_by(strategy),
    )
