"""Strategies × offers -> ranked Plans and Rejections: what the whole job costs, cheapest first."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.catalog import Catalog, attributions
from catalogs.hardware import Offer
from planner.advise import advise
from planner.asking.policy import Rule, in_force, unmatched
from planner.asking.request import Changes, Request
from planner.asking.sent import NOTHING, Sent
from planner.asking.training_keys import check_training
from planner.estimators.memory.refused.support import require_apart, require_trainable, require_unpacked, require_unquantized
from planner.estimators.time.learned import Seen
from planner.methods import QLORA, QLORA_MEANS
from planner.notices import cut_words
from planner.plan import Cards, Layout, Plan, Provider, SearchResult, WayOut
from planner.search.best import AIMS, Aim, best, by_the_hour, rank_of
from planner.search.figures import Figures
from planner.search.floors import Floors
from planner.search.market.idle import Told, idle_wishes
from planner.search.market.names import check_cards, check_memory, check_names, close_names, known_names
from planner.search.market.offers import Kind, Market, Place, admit
from planner.search.ranking import Found, Question, Ranked, considered, rank
from planner.search.told.assumptions import assumptions
from planner.search.told.conceded import Way
from planner.search.told.concessions import concessions, first_enough
from planner.search.told.machines import several_machines
from planner.search.told.mistakes import check_trained
from planner.search.told.notebook import Notebook
from planner.search.told.remedies import few_rows_cut, memory_rejections, ways_out
from planner.search.ways.lengths import decisive_words, shorter_that_fits
from planner.search.ways.strategies import check_attention, check_layers, check_method, seq_len_of
from planner.units import SECONDS_PER_HOUR
from remote.contract import Capabilities, Strategy

WORTH_A_WORD: Final = 0.8  # assumed: of the dollars; less is no reason to cut rows


def search(
    request: Request,
    *,
    catalog: Catalog,
    architecture: Architecture,
    providers: Mapping[str, Provider],
    capabilities: Capabilities,
    today: dt.date,
    offers: tuple[Offer, ...] | None = None,
    versions: Mapping[str, str] | None = None,
    rules: Iterable[Rule] = (),
    kept_at: tuple[Place, ...] = (),
    cards: Cards | None = None,
    seen: tuple[Seen, ...] = (),
    sent: Sent = NOTHING,
) -> SearchResult:
    """Every way to do the job, ranked by its total dollars (p50); what was refused says why.

    `offers`: None = the catalog's. `providers`: who can be rented from; of any other only the price is known. `rules`:
    what may be rented at all. `kept_at`: where the volume lies that the request wants again; nowhere = it is made. `cards`:
    cards that somebody has, to be told in which ways they hold the job.
    `seen`: earlier runs, which correct speeds. `sent`: what goes to the machine from here.
    Raises RequestError, CaseRefused or CatalogError where the request names what does not exist.
    """
    short = frozenset(key for provider in providers.values() for key in provider.short)
    seen_on = frozenset(each.machine for each in seen)
    market = Market(catalog, catalog.offers if offers is None else offers, short=short, seen_on=seen_on)
    for check in checks(request, architecture, catalog, market.offers, runnable=providers):
        check()
    check_memory(None if cards is None else cards.memory_gib, catalog, said="--gpus")
    policy = tuple(rules)
    seq_len = seq_len_of(request, architecture)
    advice = advise(request, architecture)
    question = Question(
        request=request,
        advice=advice,
        seq_len=seq_len,
        catalog=catalog,
        providers=providers,
        capabilities=capabilities,
        rules=in_force(policy, request.overruled),
        kept_at=kept_at,
    )
    figures = Figures(architecture, request, advice, seq_len=seq_len, seen=seen, sent=sent)
    floors = Floors(figures, catalog.billing)
    check_trained(request, figures)
    asked = admit(request, market, question.rules, kept_at=question.kept_at)
    cut = cut_words(request.data, seq_len) if request.data.path is not None else None
    notebook = Notebook()
    ranked, priced = rank(question, asked.kinds, floors, notebook)
    stuck = all(found.runnable is not None for found in ranked)
    hourly = None
    if not stuck:
        hourly, priced_by_hour = best(question, asked.kinds, floors, by_the_hour)
        ranked, priced_by_goal = _with_the_best(ranked, question, asked.kinds, floors)
        priced |= priced_by_hour | priced_by_goal

    def plan(found: Found, question: Question = question) -> Plan:
        return plan_of(found, question, figures, today=today, versions=dict(versions or {}))

    steps = tuple(concessions(request, advice, architecture)) if stuck else ()
    conceded, priced_with_less = first_enough(steps, question, asked.kinds, floors)
    milder = _by_another_method(question, asked.kinds, floors) if stuck else None
    in_part = _in_fewer_steps(question, asked.kinds, floors, notebook) if stuck and notebook.over else None
    num_priced = len(priced | priced_with_less)
    told = considered(question, asked, figures, num_concessions=len(steps), num_priced=num_priced)

    def shorter(strategy: Strategy, kind: Kind) -> Changes:
        return shorter_that_fits(request, strategy, kind, figures)

    streams = _streams_at_best(ranked)
    found_out = ways_out(question, market, floors, notebook.over) if stuck or streams else ()
    ways = [way for way in found_out if stuck or _beats(way.found, ranked, AIMS[request.budget.goal])]
    for way in filter(None, (conceded, milder, in_part)):
        ways = [way, *ways] if way.conceded.is_advised else [*ways, way]
    plans = tuple(plan(found) for found in ranked)
    decisive = decisive_words(request, seq_len)
    if decisive is not None and not stuck:
        decisive += _saving_words(ranked, few_rows_cut(question, market, floors))
    lengths = filter(None, (cut, decisive))
    out = tuple(
        WayOut(
            change=way.conceded.words,
            changes=way.conceded.changes,
            plan=plan(way.found, way.question),
            given_up=way.conceded.given_up,
        )
        for way in ways
    )
    return SearchResult(
        request=request,
        plans=plans,
        rejections=(
            *(() if ranked else several_machines(question, asked.kinds, figures)),
            *memory_rejections(question, asked.kinds, market, figures),
            *notebook.rejections(shorter, complete=not ranked),
            *asked.rejections,
        ),
        warnings=(
            *idle_wishes(Told(request, architecture, market, policy)),
            *asked.warnings,
            *_slips(question, catalog, market.offers),
            *lengths,
        ),
        ways_out=out,
        attributions=attributions(catalog, [each.offer for each in (*plans, *(way.plan for way in out))]),
        cards=cards,
        layouts=tuple(_layouts(cards, question, market.offers, figures, none_alone=stuck or streams)),
        by_the_hour=plan(hourly) if hourly is not None else None,
        considered=told,
    )


def _by_another_method(question: Question, kinds: tuple[Kind, ...], floors: Floors) -> Way | None:
    from planner.search.told.methods import first_runnable, lighter  # only where nothing can be run: it costs start-up time

    return first_runnable(lighter(question.request), question, kinds, floors)


def _in_fewer_steps(question: Question, kinds: tuple[Kind, ...], floors: Floors, notebook: Notebook) -> Way | None:
    from planner.search.told.methods import first_runnable  # as above
    from planner.search.told.steps import fewer_steps

    return first_runnable(fewer_steps(question, notebook.over), question, kinds, floors)


def _saving_words(ranked: tuple[Found, ...], cut: Way | None) -> str:
    """On what, in what time and for how much the job would be done then, where that saves something worth a word."""
    cheapest_usd = min(found.cost.held_usd.p50 for found in ranked if found.runnable is None)
    if cut is None or cut.found.cost.held_usd.p50 > WORTH_A_WORD * cheapest_usd:
        return ""
    found = cut.found
    took_s, usd = found.duration.wall_s.p50, found.cost.total_usd.p50
    time = f"{took_s / 60:.0f} min" if took_s < 2 * SECONDS_PER_HOUR else f"{took_s / SECONDS_PER_HOUR:,.1f} h"
    return f": {found.kind.name} would do then, in {time} for ${usd:,.{2 if usd >= 1 else 3}f}"


def _streams_at_best(ranked: tuple[Found, ...]) -> bool:
    """Whether all that can be run leaves something in RAM: then it is told what else there would be, and what a link costs."""
    return all(found.fit.strategy.offload != "none" for found in ranked if found.runnable is None)


def _beats(found: Found, ranked: tuple[Found, ...], aim: Aim) -> bool:
    """Whether who streams is told of it: it holds its blocks on the card, and its command leads to nothing streamed."""
    streamed = [rank_of(each, aim) for each in ranked if each.runnable is None]
    return found.fit.strategy.offload == "none" and (not streamed or rank_of(found, aim) < min(streamed))


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
    meant = request.training | (QLORA_MEANS if request.training.get("method") == QLORA else {})
    return (
        *of_words,
        lambda: require_trainable(architecture, request.task),
        lambda: require_apart(architecture) if request.data.reading.packing else None,
        lambda: require_unpacked(request.model),
        lambda: require_unquantized(
            architecture, str(meant.get("quant", "none")), double_quant=bool(meant.get("double_quant", False))
        ),
        lambda: check_layers(request, architecture),
        lambda: check_attention(request, architecture),
        lambda: seq_len_of(request, architecture),
        lambda: check_method(request, architecture),
    )


def plan_of(found: Found, question: Question, figures: Figures, *, today: dt.date, versions: dict[str, str]) -> Plan:
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
        runnable=found.runnable,
        provider_status=provider.status,
        missing=provider.missing,
        quota=provider.quota_of(found.offer),
        asks_ram=provider.asks_ram and not found.offer.is_stated,
        assumptions=assumptions(found, question, today=today),
        catalog_as_of=found.offer.observed_on,
        planned_on=today,
        versions=versions,
        choices=question.advice.choices,
    )
