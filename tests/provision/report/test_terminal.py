"""Tables on a terminal: names stay whole, whatever its width; what has no room is left out, and said to be."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from catalogs.bases.models import registry
from catalogs.catalog import select
from provision.commands.catalog import _base, _models_table, _table
from provision.prepare.asking import shipped
from provision.report.tables import Table
from provision.report.terminal import draw

NAMES = st.text("abc-/ ", min_size=1, max_size=30)


def shown(table: Table, *, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(draw(table))
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, told.splitlines())) <= width
    return str(told)


def pieces(text: str) -> set[str]:
    """What may stand alone in a line: words, and what ends at a joint within a name."""
    return set(filter(None, re.split(r"(?<=[-/_])|\s", text)))


def broken(table: Table, *, width: int) -> set[str]:
    """The pieces in the table's lines that are in none of its cells."""
    cells = (cell for line in shown(table, width=width).splitlines() if line[:1] in "┃│" for cell in re.split("[┃│]", line))
    return set().union(*map(pieces, cells)) - set().union(*map(pieces, (*table.columns, *sum(table.rows, ()))))


@pytest.mark.parametrize("width", [80, 120])
def test_no_name_of_an_offer_or_a_model_is_broken_within_a_word(width: int) -> None:
    catalog = shipped()
    offers = sorted(select(catalog), key=lambda offer: -len(offer.key))[:200]
    of_offers = _table(catalog, tuple(offers), num_offers=len(offers))
    of_models = _models_table(tuple(map(_base, registry())))
    assert not broken(of_offers, width=width)
    assert not broken(of_models, width=width)


def test_what_is_typed_stands_in_one_line_and_what_that_costs_is_said() -> None:
    """`--gpu "RTX 4060 Ti 16GB"` is to be read off the table: the columns that nobody chooses by give way."""
    catalog = shipped()
    offers = select(catalog, gpus=("RTX 4060 Ti 16GB",))
    narrow, wide = (shown(_table(catalog, offers, num_offers=len(offers)), width=width) for width in (80, 140))
    assert "× RTX 4060 Ti 16GB" in narrow
    assert ("vCPUs" in wide, "Left out" in wide) == (True, False)
    assert "Left out for want of width: vCPUs, RAM." in " ".join(narrow.split())


@given(st.lists(st.tuples(NAMES, NAMES, NAMES), min_size=1, max_size=5), st.integers(40, 120))
def test_any_table_keeps_its_words_where_each_column_has_room_for_its_longest(rows: list[tuple[str, ...]], width: int) -> None:
    table = Table(title="names", columns=("a", "b", "c"), rows=tuple(rows), spare=("b",))
    longest = (max((len(piece) for row in rows for piece in pieces(row[place])), default=1) for place in range(3))
    if sum(longest) <= width - 3 * 3 - 1:
        assert not broken(table, width=width)
