"""The report as one HTML file: no script, no network, light and dark."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Final

from planner.plan import Plan
from planner.units import GIB
from provision.account.receipt.value import Receipt
from provision.report.plot import Level, Series, render_plot
from provision.report.tables import Table, headline, tables, tone
from provision.report.words import NO_ANSWER, base_words, weights_words
from provision.watch.curves import Curves
from provision.words import model_words
from remote.contract import Sample

STYLE_FILE = Path(__file__).with_name("page.css")
# From where to where a figure may lie, with the unit behind it: never broken, so that it stands below its middle at the most
RANGE: Final = re.compile(r"\([^()\s]*–[^()\s]*\)( \w+)?")
COMMAND: Final = re.compile(r"`([^`]*)`")
WHOLE: Final = r'<span class="range">\g<0></span>'


def render_page(receipt: Receipt, plan: Plan, curves: Curves) -> str:
    """A whole document. A run that never trained has no curves and shows no plot."""
    body = [
        _head(receipt),
        *map(render_table, tables(receipt)),
        _plots(plan, curves),
        _samples(receipt.learning.samples),
        _foot(receipt),
    ]
    return document(f"rentune run {receipt.run_id}", "".join(body))


def document(title: str, body: str) -> str:
    """A page in the house's style around what is already HTML."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE_FILE.read_text()}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _head(receipt: Receipt) -> str:
    said = " ".join(filter(None, (receipt.ending.message, weights_words(receipt), base_words(receipt))))
    return (
        f"<h1>{escape(model_words(receipt.model))} on {escape(receipt.offer)}</h1>"
        f'<p class="soft">Run {escape(receipt.run_id)} of {escape(receipt.model)}. {escape(receipt.strategy)}.</p>'
        f'<p class="verdict {tone(receipt)}">{escape(headline(receipt))}</p><p>{escape(said)}</p>'
    )


def marked(text: str) -> str:
    """Words as HTML, with what stands between backticks as code."""
    return COMMAND.sub(r"<code>\1</code>", escape(text))


def render_table(table: Table) -> str:
    """One table under its heading; it scrolls by itself where the window is narrow."""
    worded = tuple(' class="said"' if column in table.worded else "" for column in table.columns)
    head = "".join(f'<th scope="col"{said}>{escape(column)}</th>' for column, said in zip(table.columns, worded, strict=True))
    body = "".join(_row(row, worded) for row in table.rows)
    foot = f"<tfoot>{_row(table.total, worded)}</tfoot>" if table.total else ""
    words = ' class="words"' if table.of_words else ""
    note = f'<p class="note">{marked(table.note)}</p>' if table.note else ""
    return (
        f'<h2>{escape(table.title)}</h2><div class="wide"><table{words}><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody>{foot}</table></div>{note}"
    )


def _row(cells: tuple[str, ...], worded: tuple[str, ...]) -> str:
    pairs = zip(cells, worded, strict=True)
    return "<tr>" + "".join(f"<td{said}>{RANGE.sub(WHOLE, marked(cell))}</td>" for cell, said in pairs) + "</tr>"


def _plots(plan: Plan, curves: Curves) -> str:
    loss = render_plot(
        (
            Series(
                name="training loss", colour="var(--one)", points=tuple((float(step), value) for step, value in curves.losses)
            ),
            Series(
                name="held-out loss",
                colour="var(--two)",
                points=tuple((float(step), value) for step, value in curves.held_out),
                marks=True,
            ),
        ),
        x_label="optimizer step",
        y_label="loss, nats per token",
    )
    meter, planned_bytes = ("RAM", plan.host.ram_peak_bytes) if plan.gpu is None else ("VRAM", plan.vram.process_peak_bytes)
    memory = render_plot(
        (
            Series(
                name=f"peak {meter} so far",
                colour="var(--one)",
                points=tuple((since_s, value / GIB) for since_s, value in curves.memory),
            ),
        ),
        x_label="seconds since the trainer started",
        y_label=f"{meter} in GiB",
        levels=(Level(name="planned peak", y=planned_bytes / GIB),),
        from_zero=True,
    )
    return (f"<h2>Loss</h2>{loss}" if loss else "") + (f"<h2>Memory</h2>{memory}" if memory else "")


def _samples(samples: tuple[Sample, ...]) -> str:
    if not samples:
        return ""
    return "<h2>Answers before and after</h2>" + "".join(_sample(sample) for sample in samples)


def _sample(sample: Sample) -> str:
    columns = (("reference", sample.reference), ("before", sample.before), ("after", sample.after))
    cells = "".join(f"<div><small>{name}</small>{escape(text or NO_ANSWER)}</div>" for name, text in columns)
    return f'<div class="sample"><b>{escape(sample.prompt.strip())}</b><div class="three">{cells}</div></div>'


def _foot(receipt: Receipt) -> str:
    adapter = f"<p>Adapter: <code>{escape(receipt.adapter_folder)}</code></p>" if receipt.adapter_folder else ""
    tags = "".join(f" {escape(key)}={escape(value)}" for key, value in receipt.tags.items())
    versions = ", ".join(f"{escape(name)} {escape(version)}" for name, version in sorted(receipt.versions.items()))
    return f'{adapter}<p class="soft">{f"Tags:{tags}. " if tags else ""}{versions}</p>'
