"""The answer of `plan` as one HTML file: what nothing beats in dollars, hours and risk, and why the rest is refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import Final

from planner.choice.goals import GOALS
from planner.plan import Plan, SearchResult
from planner.report import job_line, words
from planner.report.groups import grouped
from planner.report.layouts import cell, way
from planner.report.legend import legend
from planner.report.tables import time_rows
from planner.search.pareto import pareto, risks
from planner.units import SECONDS_PER_HOUR
from provision.report.page import document, marked, render_table
from provision.report.scatter import Dot, render_scatter
from provision.report.tables import Table

RECOMMENDED: Final = "recommended"
KEYS: Final = (
    (RECOMMENDED, "recommended"),
    ("best", "no other beats it in dollars, hours and risk"),
    ("can", "can be run by this version"),
    ("other", "price only, or not yet runnable"),
)
DRAWN: Final = "A dot: a provider's cheapest plan with a card, a number of them, and a way of renting; or the best for a goal."
MOST_REASONS: Final = 40  # assumed: as many as a page bears; more are counted


def render_plan_page(result: SearchResult, wide: SearchResult, *, command: str | None, spelled: words.Spelling) -> str:
    """A whole document. `wide`: the same question, answered with each provider's cheapest for each card, number of them and
    way of renting.
    """
    best = pareto(wide.plans)
    parts = [
        _head(result, command),
        _plot(result, wide, best),
        *(render_table(table) for table in _tables(result, best, spelled)),
        _legend(result, best),
        _foot(result, wide.attributions),
    ]
    return document(f"rentune plan {result.request.model}", "".join(parts))


def _head(result: SearchResult, command: str | None) -> str:
    plan = result.recommended
    if plan is None:
        verdict = '<p class="verdict bad">Nothing on offer does this job as asked and can be run.</p>'
    else:
        told = f"{words.offer(plan)}: {words.total(plan)}, {words.span_range(plan.duration.wall_s)}"
        verdict = f'<p class="verdict good">{escape(told)}</p><p class="soft">{escape(words.strategy(plan))}</p>'
    change = next((f"It can be run {way_out.change}:" for way_out in result.ways_out if plan is None), "")
    typed = f"<p>{escape(change)} <code>{escape(command)}</code></p>" if command is not None else ""
    given_up = next((each.given_up for each in result.ways_out[:1] if plan is None and each.given_up is not None), None)
    typed += f"<p>Given up: {escape(given_up)}.</p>" if given_up is not None else ""
    typed += f"<p>{marked(result.if_it_takes_longer)}</p>" if result.if_it_takes_longer is not None else ""
    notes = "".join(f"<p>{marked(words.note(each))}</p>" for each in result.warnings)
    return f"<h1>{escape(result.request.model)}</h1><p>{escape(job_line(result))}.</p>{verdict}{typed}{notes}"


def _plot(result: SearchResult, wide: SearchResult, best: tuple[Plan, ...]) -> str:
    chosen = result.recommended
    on_line = {id(plan) for plan in best}

    def css(plan: Plan) -> str:
        if chosen is not None and plan.name == chosen.name:
            return RECOMMENDED
        return "best" if id(plan) in on_line else "can" if plan.why_not is None else "other"

    order = [css for css, _ in reversed(KEYS)]  # what matters most is drawn last, above the rest
    dots = sorted((_dot(plan, css(plan)) for plan in wide.plans), key=lambda dot: order.index(dot.css))
    drawn = render_scatter(
        tuple(dots),
        line=_frontier(best),
        x_label="time of the whole job (p50)",
        y_label="dollars of the whole job (p50)",
        x_words=lambda hours: words.span(hours * SECONDS_PER_HOUR),
        y_words=words.usd,
    )
    there = {dot.css for dot in dots}
    keys = "".join(f'<span><i class="{css}"></i>{escape(name)}</span>' for css, name in KEYS if css in there)
    legend = f'<p class="legend">{keys}</p><p class="soft">{DRAWN}</p>'
    return f"<h2>Dollars against hours</h2>{drawn}{legend}" if drawn else ""


def _frontier(best: tuple[Plan, ...]) -> tuple[tuple[float, float], ...]:
    """Of what nothing beats those that nothing beats in dollars and hours alone: risk has no axis."""
    points = sorted((plan.duration.wall_s.p50 / SECONDS_PER_HOUR, plan.cost.total_usd.p50) for plan in best)
    line: list[tuple[float, float]] = []
    for hours, usd in points:
        if not line or usd < line[-1][1]:
            line.append((hours, usd))
    return tuple(line)


def _dot(plan: Plan, css: str) -> Dot:
    figures = f"{words.total(plan)}, {words.span_range(plan.duration.wall_s)}"
    return Dot(
        x=plan.duration.wall_s.p50 / SECONDS_PER_HOUR,
        y=plan.cost.total_usd.p50,
        words=f"{words.offer(plan)}, {words.machine(plan)}: {figures}; {words.status(plan)}",
        css=css,
        label=words.offer(plan) if css == RECOMMENDED else "",
    )


# ── tables ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _tables(result: SearchResult, best: tuple[Plan, ...], spelled: words.Spelling) -> Iterator[Table]:
    if best:
        yield _plans("What nothing beats in dollars, hours and risk", best)
    goals = [(goal, plan) for goal in GOALS if (plan := result.best(goal)) is not None]
    if goals:
        yield Table(
            title="Best for each goal",
            columns=("goal", "offer", "whole job", "$/M tokens", "time"),
            rows=tuple((goal, words.offer(plan), *_figures(plan)) for goal, plan in goals),
            worded=("offer",),
        )
    yield from (_plans(f"The cheapest: {word}", plans) for word, plans in grouped(result.rows).items())
    yield from (_plans(f"Can be run {way_out.change}", (way_out.plan,)) for way_out in result.ways_out)
    if result.layouts:
        yield Table(
            title="Ways to lay it on such cards",
            columns=("way", "card", "GiB need/has"),
            rows=tuple((way(each), each.card or "any", cell(each)) for each in result.layouts),
            of_words=True,
        )
    if result.recommended is not None:
        yield _phases(result.recommended)
    if result.rejections:
        shown = result.rejections[:MOST_REASONS]
        more = len(result.rejections) - len(shown)
        yield Table(
            title="Why not",
            columns=("refused", "why", "what would do"),
            rows=tuple((each.what, words.reason(each, spelled), words.what_would_do(each, spelled)) for each in shown),
            note=f"{words.several(more, 'more reason')}: --explain." if more else "",
            of_words=True,
        )


def _plans(title: str, plans: Iterable[Plan]) -> Table:
    return Table(
        title=title,
        columns=("offer", "GPUs", "GiB need/has", "whole job", "$/M tokens", "time", "risk", "status"),
        rows=tuple(
            (words.offer(plan), words.machine(plan), words.fit(plan), *_figures(plan), _risks(plan), words.status(plan))
            for plan in plans
        ),
        worded=("GPUs", "risk", "status"),
    )


def _figures(plan: Plan) -> tuple[str, str, str]:
    rate = words.per_million(plan)
    return words.total(plan), rate, words.span_range(plan.duration.wall_s)


def _risks(plan: Plan) -> str:
    return ", ".join(sorted(risks(plan))) or "none known"


def _phases(plan: Plan) -> Table:
    """What is planned of the recommended one, phase by phase."""
    return Table(
        title=f"Planned on {words.offer(plan)}",
        columns=("phase", "p10", "p50", "p90"),
        rows=tuple(
            (str(name), *(words.span(value) for value in (figure.p10, figure.p50, figure.p90)))
            for name, figure in time_rows(plan)
        ),
        total=("in all", *(words.span(value) for value in _three(plan))),
    )


def _three(plan: Plan) -> tuple[float, float, float]:
    wall_s = plan.duration.wall_s
    return wall_s.p10, wall_s.p50, wall_s.p90


def _legend(result: SearchResult, best: tuple[Plan, ...]) -> str:
    """What the words and marks of the tables mean, and how old the prices are."""
    shown = {plan.name: plan for plan in (*result.rows, *(way.plan for way in result.ways_out), *best)}
    sentences = "".join(f"<li>{marked(each)}</li>" for each in legend([*shown.values()], width=0) if each)
    return f"<h2>What the words mean</h2><ul>{sentences}</ul>" if sentences else ""


def _foot(result: SearchResult, attributions: tuple[str, ...]) -> str:
    plan = result.recommended
    rests = "".join(f"<li>{marked(sentence)}</li>" for sentence in (plan.assumptions if plan is not None else ()))
    credit = "".join(f'<p class="soft">{escape(each)}</p>' for each in attributions)
    return f"{f'<h2>This rests on</h2><ul>{rests}</ul>' if rests else ''}{credit}"
