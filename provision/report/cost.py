"""What a run cost, as Markdown beside the adapter; its model card links to it."""

from __future__ import annotations

from provision.account.receipt.value import Receipt
from provision.report.tables import Table, bill_table, figures_table, headline, phases_table

COST_FILE = "cost.md"


def render_cost(receipt: Receipt) -> str:
    """Bill, figures and phases, planned beside metered."""
    parts = [f"# What it cost\n\n{headline(receipt)}\n"]
    parts += [_table(table) for table in (bill_table(receipt), figures_table(receipt), phases_table(receipt))]
    return "\n".join(parts)


def _table(table: Table) -> str:
    rows = (table.columns, ("---",) * len(table.columns), *table.rows, *([table.total] if table.total else []))
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"## {table.title}", "", *lines, "", *([table.note, ""] if table.note else [])])
