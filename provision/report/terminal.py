"""The report on a terminal. rich is imported here, so this file is imported late."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table as RichTable
from rich.text import Text

from planner.report.lines import column_widths, least_widths, wrapped
from provision.account.receipt.value import Receipt
from provision.report.tables import Table, Tone, headline, tables, tone
from provision.report.words import NO_ANSWER, base_words, weights_words
from provision.words import model_words
from remote.contract import Sample

STYLES: Final[dict[Tone, str]] = {"good": "bold green", "in_part": "bold yellow", "bad": "bold red"}
NUMBER_COLUMNS_FROM = 1  # the first column is a name, the others are figures
FRAME_OF_COLUMN: Final = 3  # derived: the cells of a line and a space on either side, as rich draws them


def print_report(receipt: Receipt, console: Console, *, report_file: str | None) -> None:
    """The whole account of one run."""
    console.print(Text(f"Run {receipt.run_id}: {model_words(receipt.model)} on {receipt.offer}", style="bold"))
    console.print(Text(receipt.strategy, style="dim"))
    console.print(Text(headline(receipt), style=STYLES[tone(receipt)]))
    for sentence in filter(None, (receipt.ending.message, weights_words(receipt), base_words(receipt))):
        console.print(Text(sentence))
    for table in tables(receipt):
        console.print()
        console.print(draw(table))
    for sample in receipt.learning.samples:
        console.print()
        console.print(_sample(sample))
    console.print()
    if receipt.adapter_folder:
        console.print(Text(f"Adapter: {receipt.adapter_folder}", overflow="fold"))
    if report_file:
        console.print(Text(f"Report:  {report_file}", overflow="fold"))


def draw(table: Table) -> RenderableType:
    """One table, its total below a line, its note below that; no word is broken that has room."""
    return _Drawn(table)


class _Drawn:
    """A table that is as wide as the console that asks."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = _without_spare(self.table, options.max_width)
        yield Text(table.title, style="bold")
        yield _framed(table, options.max_width)
        left_out = [column for column in self.table.columns if column not in table.columns]
        told = f"Left out for want of width: {', '.join(left_out)}." if left_out else None
        if note := " ".join(filter(None, (table.note, told))):
            yield Text(note, style="dim")


def _without_spare(table: Table, width: int) -> Table:
    """Without as many of its spare columns as need to go for the words of the others to stay whole."""
    for column in table.spare:
        if sum(_least_widths(table)) <= _room(table, width):
            break
        table = _without(table, table.columns.index(column))
    return table


def _least_widths(table: Table) -> Iterator[int]:
    """Of each column: what may not be broken, else its longest word."""
    rows, wrapping = _cells(table), _wrapping(table)
    longest = least_widths(rows, wrapping, joints="")
    return (longest.get(place, width) for place, width in enumerate(column_widths(rows, wrapping, room=0)))


def _wrapping(table: Table) -> list[int]:
    return [place for place, column in enumerate(table.columns) if column not in table.unbroken]


def _without(table: Table, place: int) -> Table:
    def cut(cells: tuple[str, ...]) -> tuple[str, ...]:
        return cells[:place] + cells[place + 1 :]

    total = None if table.total is None else cut(table.total)
    return msgspec.structs.replace(table, columns=cut(table.columns), rows=tuple(map(cut, table.rows)), total=total)


def _framed(table: Table, width: int) -> RichTable:
    widths = column_widths(_cells(table), _wrapping(table), room=_room(table, width))
    drawn = RichTable(show_footer=table.total is not None)
    for position, column in enumerate(table.columns):
        footer = _broken(table.total[position], widths[position]) if table.total else ""
        to_the_left = table.of_words or column in table.worded or position < NUMBER_COLUMNS_FROM
        justify: JustifyMethod = "left" if to_the_left else "right"
        header = _broken(column, widths[position])
        drawn.add_column(header, footer=footer, justify=justify, overflow="fold", no_wrap=column in table.unbroken)
    for row in table.rows:
        drawn.add_row(*map(_broken, row, widths))
    return drawn


def _broken(cell: str, width: int) -> Text:
    return Text("\n".join(wrapped(cell, width)))


def _cells(table: Table) -> tuple[tuple[str, ...], ...]:
    return (table.columns, *table.rows, *(() if table.total is None else (table.total,)))


def _room(table: Table, width: int) -> int:
    """The cells that its frame leaves to the words."""
    return width - FRAME_OF_COLUMN * len(table.columns) - 1


def _sample(sample: Sample) -> RenderableType:
    side_by_side = RichTable.grid(padding=(0, 2), expand=True)
    for _ in range(3):
        side_by_side.add_column(ratio=1)
    side_by_side.add_row(Text("reference", style="dim"), Text("before", style="dim"), Text("after", style="dim"))
    side_by_side.add_row(*(Text(text or NO_ANSWER) for text in (sample.reference, sample.before, sample.after)))
    return Panel(side_by_side, title=Text(sample.prompt.strip()), title_align="left")
