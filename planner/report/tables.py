"""The tables of an answer: plans by price, what was refused, and where each figure of one plan comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table

from planner.cost import UNBILLED_PHASES
from planner.plan import Plan, Range, Rejection
from planner.report import words
from remote.contract import Phase


class Column(NamedTuple):
    """A column of the plan table; `from_width`: the terminal must be this wide for it."""

    title: str
    text: Callable[[Plan], str]
    justify: Literal["left", "right"]
    from_width: int

    @property
    def figure(self) -> bool:
        """Whether it holds figures, which are never cut in two; names may be."""
        return self.justify == "right"


ARROW: Final = "→"
ONE_LINE_WIDTH: Final = 100  # narrower, a range stands below its middle
PRICE_WIDTH: Final = 128  # narrower, one sentence says how old the prices are

COLUMNS: Final = (
    Column("offer", words.offer, "left", 0),
    Column("GPUs", words.machine, "left", 0),
    Column("strategy", words.strategy, "left", 112),
    Column("GiB need/has", words.fit, "left", 80),
    Column("time", lambda plan: words.span_range(plan.duration.wall_s), "right", 0),
    Column("whole job", lambda plan: words.usd_range(plan.cost.total_usd), "right", 0),
    Column("$/M tok", lambda plan: words.usd(plan.cost.usd_per_million_tokens), "right", 140),
    Column("status", words.status, "left", 0),
    Column("price seen", words.age, "right", PRICE_WIDTH),
)


def plan_table(plans: Iterable[Plan], *, width: int, recommended: Plan | None = None) -> Table:
    """One row a plan, in the order given. What can be run is bold, what is recommended has an arrow. A narrow terminal gets
    fewer columns.
    """
    plans = tuple(plans)
    columns = [column for column in COLUMNS if width >= column.from_width]
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", justify="right")
    for column in columns:
        table.add_column(column.title, justify=column.justify, overflow="fold", no_wrap=column.figure)
    for number, plan in enumerate(plans, start=1):
        style = "bold" if plan.runnable is None else "dim"
        mark = f"{ARROW} {number}" if plan is recommended else str(number)
        cells = (column.text(plan).replace(" (", "\n(") if width < ONE_LINE_WIDTH else column.text(plan) for column in columns)
        table.add_row(mark, *cells, style=style)
    return table


def rejection_table(rejections: Iterable[Rejection]) -> Table:
    """What was looked at and refused, why, and what would help."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for title, ratio in (("refused", 2), ("why", 4), ("what would do", 2)):
        table.add_column(title, ratio=ratio, overflow="fold")
    table.expand = True
    for rejection in rejections:
        table.add_row(rejection.what, rejection.reason, rejection.remedy or "")
    return table


def memory_table(plan: Plan) -> Table:
    """What is alive on the fullest GPU at the peak, the largest part first; sums to the allocated peak."""
    table = _figures("GPU memory at the peak" if plan.gpu else "tensors at the peak", "GiB")
    for name, num_bytes in sorted(plan.vram.components.items(), key=lambda part: -part[1]):
        if num_bytes:
            table.add_row(name.replace("_", " "), words.memory_gib(num_bytes))
    table.add_section()
    table.add_row(f"allocated, in {plan.vram.peak_instant.replace('_', ' ')}", words.memory_gib(plan.vram.allocated_peak_bytes))
    if plan.gpu is not None:
        table.add_row("reserved by the allocator", words.memory_gib(plan.vram.reserved_peak_bytes))
        table.add_row("process, as nvidia-smi shows it", words.memory_gib(plan.vram.process_peak_bytes))
        table.add_row("required, with a margin and without spare cache", words.memory_gib(plan.vram.required_bytes))
    return table


def host_table(plan: Plan) -> Table:
    """RAM and disk by part."""
    table = _figures("RAM and disk of the box", "GiB")
    for title, parts, total in (
        ("RAM", plan.host.ram_components, plan.host.ram_peak_bytes),
        ("disk", plan.host.disk_components, plan.host.disk_peak_bytes),
    ):
        for name, num_bytes in sorted(parts.items(), key=lambda part: -part[1]):
            if num_bytes:
                table.add_row(f"{title}: {name.replace('_', ' ')}", words.memory_gib(num_bytes))
        table.add_row(f"{title} at its peak", words.memory_gib(total), style="bold", end_section=True)
    return table


def time_table(plan: Plan) -> Table:
    """Seconds of each phase, from where to where they may lie."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, title="Time by phase", title_justify="left")
    for title in ("phase", "p10", "p50", "p90", ""):
        table.add_column(title, justify="right" if title.startswith("p") and title != "phase" else "left")
    for phase in Phase:
        if (figure := plan.duration.phase_s.get(phase)) is not None and figure.p90 > 0:
            table.add_row(phase, *_three(figure, words.span), "not billed" if phase in UNBILLED_PHASES else "")
    table.add_section()
    table.add_row("in all", *_three(plan.duration.wall_s, words.span), "")
    return table


def cost_table(plan: Plan) -> Table:
    """Dollars by line; the lines sum to the total."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, title="Dollars", title_justify="left")
    for title in ("line", "p10", "p50", "p90"):
        table.add_column(title, justify="left" if title == "line" else "right")
    hours = words.span_range(plan.cost.billed_s)
    for name, figure in (
        (f"compute: {hours} at {words.hourly(plan)}", plan.cost.compute_usd),
        ("disk", plan.cost.disk_usd),
        ("egress: the adapter home", plan.cost.egress_usd),
    ):
        table.add_row(name, *_three(figure, words.usd))
    table.add_section()
    table.add_row("total", *_three(plan.cost.total_usd, words.usd))
    return table


def _figures(title: str, unit: str) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, title=title, title_justify="left")
    table.add_column("part")
    table.add_column(unit, justify="right")
    return table


def _three(figure: Range, word: Callable[[float], str]) -> Iterator[str]:
    return (word(value) for value in (figure.p10, figure.p50, figure.p90))
