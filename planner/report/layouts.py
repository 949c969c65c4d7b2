"""In which ways given cards hold the job: a row for each way, and a column for each card where there are several kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from planner.estimators.calibration import TOTAL_SHARE
from planner.plan import NOT_YET, Cards, Layout, LayoutKind, Streamed
from planner.report import lines, words
from planner.report.lines import Table
from planner.report.words import span_range
from planner.strategy.words import sparing
from planner.units import GIB

NAMES: Final[Mapping[LayoutKind, str]] = {
    "whole": "all on one card",
    "copies": "a copy on each card",
    "states": "states cut in parts",
    "turns": "blocks on card after card",
    "parts": "cut in parts",
    "three_bits": "3 bits a weight",
    "two_bits": "2 bits a weight",
    "streamed": "streamed from RAM",
}
ADDS_UP: Final[Mapping[LayoutKind, str]] = {
    "whole": "nothing adds up, the other cards stand idle",
    "copies": "nothing adds up: every card holds the whole model, so it is faster and no larger",
    "states": "only optimizer states and, with zero2, gradients add up: of an adapter these are small",
    "turns": "weights add up; one card computes while the others wait",
    "parts": "weights, gradients and optimizer states add up; activations and the block at work do not",
    "three_bits": "nothing adds up",
    "two_bits": "nothing adds up",
    "streamed": "no card's memory adds up: frozen blocks wait in RAM and pass through one card",
}
SLOWER: Final = " slower"
ON_ONE: Final[Mapping[LayoutKind, str]] = {  # of a single card, which has nothing to add up with
    "whole": "everything lies on the card",
    "streamed": "frozen blocks wait in RAM and pass through the card",
}


def cards_lines(cards: Cards, layouts: tuple[Layout, ...]) -> Iterator[str | Table]:
    """One way a row: what of the cards' memory it adds up, and whether that does."""
    yield f"{_heading(cards)} {_found(cards)}"
    timed = (lines.Column("training", wraps=True),) if cards.gpu is not None else ()
    words, heading = (ON_ONE, "what lies where") if cards.number == 1 else (ADDS_UP, "what adds up")
    table = Table((lines.Column("way", wraps=True), lines.Column(heading, wraps=True), lines.Column("GiB", wraps=True), *timed))
    for each in layouts:
        table.add(
            way(each),
            f"{words[each.kind]}{_in_ram(each)}{_over_link(each)}",
            cell(each),
            *((_time(each),) if timed else ()),
            style=None if each.verdict == "does_not_fit" else "bold",
        )
    yield table
    yield from _cannot(layouts)
    if cards.number > 1:
        yield (
            "Cards of several machines are none of these ways: their rows stand in the table where no single machine does the "
            "job, or with --goal fastest, and this version runs none."
        )
    yield "Tensor and context parallel cut weights and rows, too: `rentune estimate` counts them, and nothing here runs them."


def _in_ram(each: Layout) -> str:
    return "" if each.ram_bytes is None else f"; the job needs {each.ram_bytes / GIB:.0f} GiB of RAM"


def _over_link(each: Layout) -> str:
    """What streaming takes of the link, where the card is known."""
    streamed = each.streamed
    if streamed is None:
        return ""
    half = f"{pace(streamed.slow_down_half)} on half of that"
    return f"; {pace(streamed.slow_down)} over a link of {streamed.link_gb_per_s:g} GB/s (assumed), {half}"


def _share(slow_down: float) -> str:
    said = pace(slow_down)
    return said.removesuffix(SLOWER) if said.endswith(SLOWER) else f"nothing, {said}"


def pace(slow_down: float) -> str:
    """How long it takes beside another, as "2% slower", "4% quicker" or "as fast". `slow_down`: its time over the other's."""
    percent = round(100 * (slow_down - 1))
    return f"{abs(percent)}%{SLOWER if percent > 0 else ' quicker'}" if percent else "as fast"


def _time(each: Layout) -> str:
    return "" if each.train_s is None or each.verdict == "does_not_fit" else span_range(each.train_s)


def _found(cards: Cards) -> str:
    """Where the second figure of each row comes from, and of what kind the hours are."""
    if cards.gpu is None:
        share = f"{TOTAL_SHARE:.0%} of what it is sold with, where no name (2xRTX 3090) says more"
        return f"What a job needs of each, with what torch is assumed to find there: {share}."
    over = ", cards linked by PCIe" if cards.number > 1 else ""
    return f"What a job needs of each, with what torch finds there, and how long it trains (P10–P90{over})."


def _heading(cards: Cards) -> str:
    size = f"{cards.memory_gib:g} GiB" if cards.gpu is None else f"{cards.gpu} ({cards.memory_gib:g} GiB)"
    if cards.number == 1:
        return f"One card of {size}." if cards.gpu is None else f"One {size}."
    what = f"cards of {size}" if cards.gpu is None else size
    return f"{cards.number} {what} in one machine are not one card of {cards.number * cards.memory_gib:g} GiB."


def way(each: Layout, held: Iterable[str] = ()) -> str:
    """A way by its name, with the framework's word where there are several cards, and how weights are `held`; () = as there."""
    strategy, kinds = each.strategy, set(held) or {words.held_in(each.strategy)}
    name = NAMES[each.kind]
    if strategy.num_gpus > 1:
        name = f"{strategy.num_gpus} cards, {name} ({strategy.sharding})"
    name = f"{name}, {kinds.pop()}" if len(kinds) == 1 else name
    return f"{name}{sparing(strategy)}"


def cell(each: Layout) -> str:
    """As in "16.2/16.0 tight": GiB that each card must hold and has, and the verdict."""
    figures = "/".join(f"{value / GIB:.1f}" for value in (each.required_bytes, each.available_bytes))
    return f"{figures} {each.verdict.replace('_', ' ')}"


# ── a budget per GPU ───────────────────────────────────────────────────────────────────────────────────────────────

Line = tuple[str, Callable[[Streamed], str]]
STREAMING: Final[tuple[Line, ...]] = (
    ("  RAM needed", lambda streamed: f"{streamed.ram_bytes / GIB:.0f} GiB"),
    ("  link, assumed", lambda streamed: f"{streamed.link_gb_per_s:g} GB/s"),
    ("  hidden from", lambda streamed: f"{streamed.hiding_tokens:,} tokens a pass"),
    ("  slower by", lambda streamed: f"{_share(streamed.slow_down)} at {streamed.tokens:,} tokens"),
    ("  on half the link", lambda streamed: _share(streamed.slow_down_half)),
)


def budget_lines(budget_gib: float, layouts: tuple[Layout, ...]) -> Iterator[str | Table]:
    """A row for each way, a column for each card of the budget's size; what streaming takes below its row."""
    seq_len = layouts[0].strategy.seq_len
    yield f"What it takes on {budget_gib:g} GiB per GPU as sold, whoever owns it (GiB need/has; {seq_len:,} tokens a sequence):"
    cards = list(dict.fromkeys(str(each.card) for each in layouts))
    table = Table((lines.Column("way", wraps=True), *(lines.Column(card, wraps=True) for card in cards)))
    for kind in dict.fromkeys(each.kind for each in layouts):
        of_kind = {str(each.card): each for each in layouts if each.kind == kind}
        held = {card: words.held_in(each.strategy) for card, each in of_kind.items()}
        apart = len(set(held.values())) > 1  # older cards hold whole weights that move in fp32
        figures = {card: f"{cell(each)}{f', {held[card]}' if apart else ''}" for card, each in of_kind.items()}
        table.add(way(next(iter(of_kind.values())), held.values()), *(figures.get(card, "") for card in cards))
        streams = {card: each.streamed for card, each in of_kind.items() if each.streamed is not None}
        for name, text in STREAMING if streams else ():
            table.add(name, *(text(streams[card]) if card in streams else "" for card in cards), style="dim")
    yield table
    yield from _cannot(layouts)


def _cannot(layouts: tuple[Layout, ...]) -> Iterator[str]:
    """What of those that would fit runs on no such card, and what the trainer can't do of them, a sentence each."""
    would = [each for each in layouts if each.verdict != "does_not_fit"]
    for card, reason in dict.fromkeys((each.card, each.unfit) for each in would if each.unfit is not None):
        yield f"{NOT_YET} on the {card}: {reason}."
    missing = dict.fromkeys(word for each in would for word in each.missing if word != each.unfit)
    if missing:
        yield f"{NOT_YET}: of those that would fit the trainer cannot do {', '.join(missing)}."
