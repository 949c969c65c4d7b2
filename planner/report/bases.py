"""The table of `plan --which-model`: of each family the largest base that the card holds whole, and what its job takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from catalogs.bases.models import is_gated
from planner.asking.options.command_line import spelled
from planner.asking.request import Request
from planner.notices.rows import cut_words
from planner.report import NOT_OFFERED, words
from planner.report.legend import legend
from planner.report.lines import Column, Table, render
from planner.search.bases import BaseHeld, BasesHeld

FAMILY_WIDTH: Final = 96  # derived: narrower, names of bases would break
OFFER_WIDTH: Final = 128  # derived: the words of all columns and the gaps; narrower, the command below leads to the offer
GATED: Final = "* = its weights are given only to an account that has accepted their terms."


def why_none(result: BasesHeld) -> str:
    """In one sentence, or with what to do where it is the card that nobody has."""
    if not result.num_offers:
        return " ".join(filter(None, ("Nothing on offer has such a card.", result.instead, NOT_OFFERED)))
    if (base := result.beyond) is not None:
        would_do = words.what_would_do(base, spelled)
        least = f"{base.what}, which needs least, is {base.reason} ({would_do})"
        return f"None of the bases that such a card holds keeps to the limits: {least}."
    return "No base of the catalog surely trains on such a card as asked."


def render_bases(result: BasesHeld, request: Request, *, command: str | None, width: int, colour: bool) -> str:
    """The whole answer; `command` plans the first row by itself."""
    parts = _answer(result, request, command, width=width)
    lines = [line for part in parts for line in render(part, width=width, colour=colour)]
    return "\n".join(line.rstrip() for line in lines).rstrip()


def _answer(result: BasesHeld, request: Request, command: str | None, *, width: int) -> Iterator[str | Table]:
    data, num_gpus = request.data, request.where.num_gpus or 1
    basis = "" if data.basis in ("default", "stated") else f" ({data.basis})"
    yield (
        f"{'Default job' if data.basis == 'default' else 'Job'}: {words.several(data.num_examples, 'example')} × "
        f"{data.mean_tokens:,.0f} tokens × {words.several(request.loop.epochs, 'epoch')}{basis}"
    )
    for warning in result.warnings:
        yield words.note(warning)
    yield ""
    if not result.bases:
        yield why_none(result)
        return
    such = "one such GPU holds" if num_gpus == 1 else f"{num_gpus} such GPUs hold"
    yield f"Of each family of bases the largest that {such} whole, and its best plan. Smaller ones train there, too."
    if all(base.plan.obstacle is not None for base in result.bases):
        yield "None of them can be run by this version; what stands in the way is told below the table."
    yield _table(result.bases, width=width)
    if any(map(_gated, result.bases)):
        yield GATED
    yield from _cut(result.bases, request)
    yield from legend([base.plan for base in result.bases], width=width)
    yield ""
    yield from result.attributions
    if command is not None:
        yield "The whole plan of one, here of the first:"
        yield f"  {command}"


def _cut(bases: tuple[BaseHeld, ...], request: Request) -> Iterator[str]:
    """Of which bases rows are cut, by what they read: they learn from less than those beside them."""
    cuts: dict[str, list[str]] = {}
    for base in bases:
        if (cut := cut_words(request.data, base.plan.strategy.seq_len)) is not None:
            cuts.setdefault(cut, []).append(base.name)
    yield from (words.note(f"with {', '.join(names)} {cut}") for cut, names in cuts.items())


COLUMNS: Final[tuple[tuple[Column, Callable[[BaseHeld], str], int], ...]] = (  # with the least width for it
    (Column("family", wraps=True), lambda base: base.family, FAMILY_WIDTH),
    (Column("largest base", wraps=True), lambda base: f"{base.name}{' *' if _gated(base) else ''}", 0),
    (Column("size", right=True), lambda base: words.count(base.num_params), 0),
    (Column("how"), lambda base: words.strategy(base.plan).partition(",")[0], 0),
    (Column("GiB need/has"), lambda base: words.fit(base.plan).removesuffix(f" {words.verdict(base.plan)}"), 0),
    (Column("time", right=True), lambda base: words.span(base.plan.duration.wall_s.p50), 0),
    (Column("whole job", right=True), lambda base: words.total_at_p50(base.plan), 0),
    (Column("offer", wraps=True), lambda base: words.offer(base.plan), OFFER_WIDTH),
)


def _table(bases: tuple[BaseHeld, ...], *, width: int) -> Table:
    shown = [(column, text) for column, text, from_width in COLUMNS if width >= from_width]
    table = Table(tuple(column for column, _ in shown))
    for base in bases:
        table.add(*(text(base) for _, text in shown), style="bold" if base.plan.obstacle is None else "dim")
    return table


def _gated(base: BaseHeld) -> bool:
    return any(map(is_gated, base.hub))
