"""The tables of an answer: plans by price, what was refused, and where each figure of one plan comes from."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import msgspec

from planner.estimators.cost import UNBILLED_PHASES, billed_range
from planner.estimators.time.phases import scaled
from planner.plan import Plan, Range, Rejection
from planner.report import lines, words
from planner.report.lines import Table
from remote.contract import Phase


class Column(msgspec.Struct, frozen=True):
    """A column of the plan table; the terminal must be at least `from_width` wide for it, and below `below_width`."""

    title: str
    text: Callable[[Plan], str]
    figure: bool = False  # figures are never cut in two; names may be
    from_width: int = 0
    below_width: float = math.inf
    stacks_below: int = 0  # narrower, what stands in brackets stands below its middle


def _job_and_rate(plan: Plan) -> str:
    rate = f"\n{words.per_million(plan)}/M tok" if plan.cost.usd_per_million_tokens else ""
    return f"{words.total(plan)}{rate}"


def _job_rate_and_age(plan: Plan) -> str:
    """With the days since the price was seen, where there is no room for a column of them."""
    age = f", {words.age_in_short(plan)}" if plan.cost.usd_per_million_tokens and plan.offer.usd_per_hour else ""
    return f"{_job_and_rate(plan)}{age}"


def _offer_and_machine(plan: Plan) -> str:
    return f"{words.sold(plan.offer)}\n{words.machine(plan)}"


BRACKETS: Final = re.compile(r"([^\n(]+) (\([^)\n]*\))( \w+$)?")  # the words before them, they, and a unit behind them
ARROW: Final = "→"
MACHINE_WIDTH: Final = 66  # derived: the words of all columns and the gaps; narrower, GPUs stand below their offer
STRATEGY_WIDTH: Final = 112  # narrower, a sentence below the table says how the rows train
ONE_LINE_WIDTH: Final = 100  # narrower, every range stands below its middle
TIME_WIDTH: Final = STRATEGY_WIDTH  # narrower, that of the hours does: names get its room, and a row no third line
MOST_FIGURES: Final = 0.52  # of the width, assumed; where figures are larger, a range does so too, or names would have no room
PRICE_WIDTH: Final = 128  # narrower, days stand behind the dollars, and one sentence says what they are
RATE_WIDTH: Final = 140  # narrower, dollars of a million tokens stand below those of the job

COLUMNS: Final = (
    Column("offer, GPUs", _offer_and_machine, below_width=MACHINE_WIDTH),
    Column("offer", lambda plan: words.sold(plan.offer), from_width=MACHINE_WIDTH),
    Column("GPUs", words.machine, from_width=MACHINE_WIDTH),
    Column("strategy", words.strategy, from_width=STRATEGY_WIDTH),
    Column("GiB need/has", words.fit, from_width=80),
    Column("time", lambda plan: words.span_range(plan.duration.wall_s), figure=True, stacks_below=TIME_WIDTH),
    Column("whole job", words.total, figure=True, from_width=RATE_WIDTH),
    Column("whole job", _job_and_rate, figure=True, from_width=PRICE_WIDTH, below_width=RATE_WIDTH),
    Column("whole job", _job_rate_and_age, figure=True, below_width=PRICE_WIDTH),
    Column("$/M tok", words.per_million, figure=True, from_width=RATE_WIDTH),
    Column("status", words.status),
    Column("price seen", words.age, figure=True, from_width=PRICE_WIDTH),
)


def plan_table(groups: Mapping[str, Iterable[Plan]], *, width: int, recommended: Plan | None = None) -> Table:
    """One row a plan, in the order given, below the word of its group where it has one. What can be run is bold, what is
    recommended has an arrow. A narrow terminal gets fewer columns.
    """
    columns = [column for column in COLUMNS if column.from_width <= width < column.below_width]
    shown_groups = {word: list(plans) for word, plans in groups.items()}
    shown = (lines.Column(column.title, right=column.figure, wraps=not column.figure) for column in columns)
    table = Table((lines.Column("", right=True), *shown))
    every = [plan for plans in shown_groups.values() for plan in plans]
    stacks = width < ONE_LINE_WIDTH or _figures_width(columns, every) > width * MOST_FIGURES
    for word, plans in shown_groups.items():
        if word:
            table.heading(f"{word}:")
        for number, plan in enumerate(plans, start=len(table.rows) + 1):
            mark = f"{ARROW} {number}" if plan is recommended else str(number)
            texts = ((_below(word, column.text(plan)), stacks or width < column.stacks_below) for column in columns)
            cells = (_stacked(text) if below else text for text, below in texts)
            table.add(mark, *cells, style="bold" if plan.obstacle is None else "dim")
    return table


def _below(heading: str, text: str) -> str:
    """The text without the words that stand above it."""
    return text.removeprefix(heading).removeprefix(", ") if heading else text


def _figures_width(columns: Iterable[Column], plans: Iterable[Plan]) -> int:
    """Signs that the figures take, each column as wide as its widest line."""
    plans = tuple(plans)
    texts = ([line for plan in plans for line in column.text(plan).split("\n")] for column in columns if column.figure)
    return sum(max(map(len, lines), default=0) for lines in texts)


def _stacked(text: str) -> str:
    """What stands in brackets below what it is about: "7 min" above "(3–26)" for 7 (3–26) min."""
    return BRACKETS.sub(r"\1\3\n\2", text)


def rejection_table(rejections: Iterable[Rejection], spelled: words.Spelling) -> Table:
    """What was looked at and refused, why, and what would help."""
    table = Table(tuple(lines.Column(title, wraps=True) for title in ("refused", "why", "what would do")))
    for rejection in rejections:
        table.add(rejection.what, words.reason(rejection, spelled), words.what_would_do(rejection, spelled))
    return table


def memory_table(plan: Plan) -> Table:
    """What is alive on the fullest GPU at the peak, the largest part first; sums to the allocated peak."""
    table = _figures("GPU memory at the peak" if plan.gpu else "tensors at the peak", "part", "GiB")
    for name, num_bytes in sorted(plan.vram.components.items(), key=lambda part: -part[1]):
        if num_bytes:
            table.add(name.replace("_", " "), words.memory_gib(num_bytes))
    table.rule()
    table.add(f"allocated, in {plan.vram.peak_instant.replace('_', ' ')}", words.memory_gib(plan.vram.allocated_peak_bytes))
    if plan.gpu is not None:
        table.add("reserved by the allocator", words.memory_gib(plan.vram.reserved_peak_bytes))
        table.add("process, as nvidia-smi shows it", words.memory_gib(plan.vram.process_peak_bytes))
        table.add("required, with a margin and without spare cache", words.memory_gib(plan.vram.required_bytes))
    return table


def host_table(plan: Plan) -> Table:
    """RAM and disk by part."""
    table = _figures("RAM and disk of the box", "part", "GiB")
    for title, parts, total in (
        ("RAM", plan.host.ram_components, plan.host.ram_peak_bytes),
        ("disk", plan.host.disk_components, plan.host.disk_peak_bytes),
    ):
        for name, num_bytes in sorted(parts.items(), key=lambda part: -part[1]):
            if num_bytes:
                table.add(f"{title}: {name.replace('_', ' ')}", words.memory_gib(num_bytes))
        table.add(f"{title} at its peak", words.memory_gib(total), style="bold")
        table.rule()
    return table


REWORK: Final = "rework"
TIME_NOTES: Final[dict[str, str]] = dict.fromkeys(UNBILLED_PHASES, "not billed") | {REWORK: "when it is taken away"}


def time_rows(plan: Plan) -> Iterator[tuple[str, Range]]:
    """Seconds of all that the whole time is made of: each phase, and what a spot machine does again."""
    for phase in Phase:
        if (figure := plan.duration.phase_s.get(phase)) is not None and figure.p90 > 0:
            yield phase, figure
    if (times := plan.duration.interruptions) is not None:
        yield REWORK, scaled(times, plan.duration.lost_s)


def time_table(plan: Plan) -> Table:
    """Seconds of each phase, from where to where they may lie."""
    table = _figures("Time by phase", "phase", "p10", "p50", "p90", note="")
    for name, figure in time_rows(plan):
        table.add(name, *_three(figure, words.span), TIME_NOTES.get(name, ""))
    table.rule()
    table.add("in all", *_three(plan.duration.wall_s, words.span), "")
    return table


SELDOM = ("setup", REWORK, "public address")  # lines that most plans have not


def cost_table(plan: Plan) -> Table:
    """Dollars by line; the lines sum to the total."""
    table = _figures("Dollars", "line", "p10", "p50", "p90")
    hours = words.billed_hours(billed_range(plan.duration, plan.billing, rework=False))
    for name, figure in (
        ("setup, once", plan.cost.setup_usd),
        (f"compute: {hours}{_rule(plan)} at {words.hourly(plan)}", plan.cost.compute_usd),
        ("rework: done again when the machine is taken away", plan.cost.rework_usd),
        ("disk", plan.cost.disk_usd),
        ("public address", plan.cost.address_usd),
        (f"egress: the adapter{' and checkpoints' if plan.offer.purchase == 'spot' else ''} home", plan.cost.egress_usd),
    ):
        if figure.p90 == 0 and name.startswith(SELDOM):
            continue
        unknown = any(name.startswith(line) for line in plan.cost.unknown)
        table.add(name, *(["unknown"] * 3 if unknown else _three(figure, words.usd)))
    table.rule()
    table.add("total", *_three(plan.cost.total_usd, words.usd))
    if plan.cost.unknown:
        table.add("ranked at: what is unknown as dear as any", *_three(plan.cost.held_usd, words.usd))
    if plan.cost.usd_per_million_tokens:
        table.add("a million tokens", "", words.per_million(plan), "")
    return table


# Seconds that are always billed whole -> how a bill calls that; shorter ones change no figure that is shown
# derived: seconds of a minute, of an hour
STARTED: Final[Mapping[int, str]] = {60: ", by the started minute,", 3_600: ", by the started hour,"}


def _rule(plan: Plan) -> str:
    return STARTED.get(plan.billing.increment_s, "") if plan.offer.usd_per_hour else ""


def _figures(title: str, name: str, *figures: str, note: str | None = None) -> Table:
    """A table of names and figures, with a column of words behind them where there is a note."""
    columns = (lines.Column(name, wraps=True), *(lines.Column(figure, right=True) for figure in figures))
    return Table(columns if note is None else (*columns, lines.Column(note, wraps=True)), title=title)


def _three(figure: Range, word: Callable[[float], str]) -> Iterator[str]:
    return (word(value) for value in (figure.p10, figure.p50, figure.p90))
