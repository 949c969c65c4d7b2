"""The report on a terminal. rich is imported here, so this file is imported late."""

from __future__ import annotations

from typing import Final

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.panel import Panel
from rich.table import Table as RichTable
from rich.text import Text

from provision.account.receipt import Receipt
from provision.report.tables import Table, Tone, headline, tables, tone
from provision.report.words import NO_ANSWER, weights_words
from provision.words import model_words
from remote.contract import Sample

STYLES: Final[dict[Tone, str]] = {"good": "bold green", "in_part": "bold yellow", "bad": "bold red"}
NUMBER_COLUMNS_FROM = 1  # the first column is a name, the others are figures


def print_report(receipt: Receipt, console: Console, *, report_file: str | None) -> None:
    """The whole account of one run."""
    console.print(Text(f"Run {receipt.run_id}: {model_words(receipt.model)} on {receipt.offer}", style="bold"))
    console.print(Text(receipt.strategy, style="dim"))
    console.print(Text(headline(receipt), style=STYLES[tone(receipt)]))
    for sentence in filter(None, (receipt.message, weights_words(receipt))):
        console.print(Text(sentence))
    for table in tables(receipt):
        console.print()
        console.print(draw(table))
    for sample in receipt.samples:
        console.print()
        console.print(_sample(sample))
    console.print()
    if receipt.adapter_folder:
        console.print(Text(f"Adapter: {receipt.adapter_folder}", overflow="fold"))
    if report_file:
        console.print(Text(f"Report:  {report_file}", overflow="fold"))


def draw(table: Table) -> RenderableType:
    """One table, its total below a line, its note below that."""
    drawn = RichTable(show_footer=table.total is not None)
    for position, column in enumerate(table.columns):
        footer = table.total[position] if table.total else ""
        to_the_left = table.of_words or position < NUMBER_COLUMNS_FROM
        justify: JustifyMethod = "left" if to_the_left else "right"
        drawn.add_column(column, footer=footer, justify=justify, overflow="fold", no_wrap=column in table.unbroken)
    for row in table.rows:
        drawn.add_row(*(Text(cell) for cell in row))
    note = (Text(table.note, style="dim"),) if table.note else ()
    return Group(Text(table.title, style="bold"), drawn, *note)


def _sample(sample: Sample) -> RenderableType:
    side_by_side = RichTable.grid(padding=(0, 2), expand=True)
    for _ in range(3):
        side_by_side.add_column(ratio=1)
    side_by_side.add_row(Text("reference", style="dim"), Text("before", style="dim"), Text("after", style="dim"))
    side_by_side.add_row(*(Text(text or NO_ANSWER) for text in (sample.reference, sample.before, sample.after)))
    return Panel(side_by_side, title=Text(sample.prompt.strip()), title_align="left")
