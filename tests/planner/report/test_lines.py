"""How paragraphs and tables stand in a terminal."""

from __future__ import annotations

from unicodedata import east_asian_width

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.report.lines import Column, Table, Words, cells_of, render, wrapped
from planner.report.words import note

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("C", "M", "Z")) | st.sampled_from(" \n漢"), max_size=60)


def lines(part: str | Words | Table, *, width: int = 80, colour: bool = False) -> list[str]:
    return list(render(part, width=width, colour=colour))


@given(TEXT, st.integers(2, 40))
def test_no_line_of_a_wrapped_text_is_wider_than_asked_and_no_sign_is_lost(text: str, width: int) -> None:
    pieces = wrapped(text, width)
    assert max(map(cells_of, pieces)) <= width
    assert "".join("".join(pieces).split()) == "".join(text.split())


def test_words_stay_whole_where_they_fit() -> None:
    assert wrapped("one two three four", 9) == ["one two", "three", "four"]
    assert wrapped("incomprehensible", 6) == ["incomp", "rehens", "ible"]


def test_a_wide_sign_counts_for_two_cells() -> None:
    assert cells_of("漢字") == 4
    assert wrapped("漢字", 3) == ["漢", "字"]


@given(st.characters(codec="utf-8"))
def test_every_sign_is_as_wide_as_unicode_says(sign: str) -> None:
    assert cells_of(sign) == 1 + (east_asian_width(sign) in "WF")


def test_figures_stand_on_the_right_and_below_one_another() -> None:
    table = Table((Column("part"), Column("GiB", right=True)))
    table.add("weights", "14.2")
    table.add("adapter", "0.2")
    assert lines(table) == [
        "part      GiB",
        "─────────────",
        "weights  14.2",
        "adapter   0.2",
    ]


def test_a_rule_stands_above_the_row_that_comes_next_and_none_below_the_last() -> None:
    table = Table((Column("a"),))
    table.add("1")
    table.rule()
    table.add("2")
    table.rule()
    assert lines(table) == ["a", "─", "1", "─", "2"]


def test_only_columns_that_may_wrap_give_way_and_the_widest_first() -> None:
    table = Table((Column("name", wraps=True), Column("figure", right=True), Column("why", wraps=True)))
    table.add("a name of some length", "12,345,678", "short")
    shown = lines(table, width=30)
    assert [line.split() for line in shown[2:]] == [["a", "name", "of", "12,345,678", "short"], ["some", "length"]]
    assert max(map(len, shown)) <= 30


def test_a_cell_of_two_lines_keeps_its_neighbours_above() -> None:
    table = Table((Column("a"), Column("b")))
    table.add("1", "x\ny")
    assert lines(table)[2:] == ["1  x", "   y"]


@pytest.mark.parametrize(("style", "code"), [("bold", "\x1b[1m"), ("dim", "\x1b[2m")])
def test_styles_are_shown_in_colour_only(style: str, code: str) -> None:
    words = Words("look", style)  # type: ignore[arg-type]
    assert lines(words, colour=True) == [f"{code}look\x1b[0m"]
    assert lines(words) == ["look"]


def test_what_is_to_be_copied_is_never_broken() -> None:
    command = "  rentune run --model 7b --data YOUR_DATA.jsonl"
    assert lines(Words(command, whole=True), width=10) == [command]


def test_a_column_is_narrowed_at_the_joints_of_its_names() -> None:
    """Nobody recognizes "digitaloce" and "an"."""
    table = Table((Column("offer", wraps=True), Column("why", wraps=True)))
    table.add("digitalocean gpu-l40s-secure", "needs more memory than the machine has")
    told = [line.split()[0] for line in lines(table, width=36)[2:]]
    assert "digitalocean" in told
    assert wrapped("2x-rtx-a5000-secure", 16) == ["2x-rtx-a5000-", "secure"]


@pytest.mark.parametrize(
    ("words", "told"), [("a b", "Note: a b."), ("a b.", "Note: a b."), ("did you mean b?", "Note: did you mean b?")]
)
def test_a_note_ends_once(words: str, told: str) -> None:
    assert note(words) == told
