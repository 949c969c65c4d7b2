"""Paragraphs and tables as the lines of a terminal.

A plan is shown by nearly every command, and rich takes 60 ms to import and to draw it, a quarter of what `rentune plan`
may take in all (docs/LOG.md). All that a plan needs of it is here: columns that wrap, two styles, and rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Final, Literal

import msgspec

Style = Literal["bold", "dim"]
SELECT_GRAPHIC_RENDITION: Final[dict[Style, str]] = {"bold": "\x1b[1m", "dim": "\x1b[2m"}
RESET: Final = "\x1b[0m"
JOINTS: Final = "-/_"  # behind which a name may go on in the next line
GAP: Final = "  "
RULE: Final = "─"
BULLET: Final = "  · "  # before each point of a list
FIRST_WIDE: Final = "\u1100"  # no sign before it takes two cells (Unicode 15, East Asian Width)
OUR_SIGNS: Final = str.maketrans("", "", "–—‘’“”•…→≤≥─")  # later ones that we use ourselves, and that take one


class Column(msgspec.Struct, frozen=True):
    """How a column stands. One that does not wrap is as wide as its widest cell, whatever the terminal has."""

    title: str
    right: bool = False
    wraps: bool = False


class _Row(msgspec.Struct, frozen=True):
    cells: tuple[str, ...]
    style: Style | None


class Table:
    """Rows below a heading; a cell may hold several lines."""

    def __init__(self, columns: tuple[Column, ...], *, title: str | None = None) -> None:
        self.columns = columns
        self.title = title
        self.rows: list[_Row] = []
        self.rules_above: set[int] = set()  # numbers of rows, from 0
        self.headings_above: dict[int, str] = {}

    def add(self, *cells: str, style: Style | None = None) -> None:
        """One row more."""
        self.rows.append(_Row(cells, style))

    def rule(self) -> None:
        """A line between what is there and what comes."""
        self.rules_above.add(len(self.rows))

    def heading(self, text: str) -> None:
        """Words across all columns, above what comes."""
        self.headings_above[len(self.rows)] = text


class Words(msgspec.Struct, frozen=True):
    """A paragraph in a style; `whole` is never broken, for it is there to be copied."""

    text: str
    style: Style | None = None
    whole: bool = False


def render(part: str | Words | Table, *, width: int, colour: bool) -> Iterator[str]:
    """The lines of one part, at most `width` cells wide where its words allow it."""
    if isinstance(part, Table):
        yield from _table_lines(part, width=width, colour=colour)
        return
    words = part if isinstance(part, Words) else Words(part)
    lines = [words.text] if words.whole else wrapped(words.text, width)
    yield from (_styled(line, words.style, colour=colour) for line in lines)


def cells_of(text: str) -> int:
    """How many cells of a terminal the text takes: two for the wide signs of East Asian scripts."""
    if text.isascii() or max(text.translate(OUR_SIGNS), default="") < FIRST_WIDE:
        return len(text)
    from unicodedata import east_asian_width  # a megabyte, for names that few give

    return sum(1 + (east_asian_width(sign) in "WF") for sign in text)


def wrapped(text: str, width: int) -> list[str]:
    """The text's lines, broken between words, and within one only where it is wider than `width`."""
    return [piece for line in text.split("\n") for piece in _wrapped_line(line, max(width, 1))]


def _wrapped_line(line: str, width: int) -> Iterator[str]:
    if cells_of(line) <= width:
        yield line
        return
    hanging = BULLET in line[: len(BULLET)] and width > 2 * len(BULLET)
    if hanging:  # its lines stand below its words
        inner = _wrapped_line(line[len(BULLET) :], width - len(BULLET))
        yield from (f"{start}{piece}" for start, piece in zip(chain([BULLET], repeat(" " * len(BULLET))), inner, strict=False))
        return
    taken = ""
    for word in line.split(" "):
        joined = f"{taken} {word}" if taken else word
        if cells_of(joined) <= width:
            taken = joined
            continue
        if taken:
            yield taken
        *full, taken = _cut(word, width)
        yield from full
    yield taken


def _cut(word: str, width: int) -> Iterator[str]:
    """Pieces of a word, each at most `width` cells wide, or one sign that is wider; behind a joint where it has one."""
    piece = ""
    for sign in word:
        if piece and cells_of(piece + sign) > width:
            at = max(piece.rfind(joint) for joint in JOINTS) + 1 or len(piece)
            yield piece[:at]
            piece = piece[at:]
        piece += sign
    yield piece


def _table_lines(table: Table, *, width: int, colour: bool) -> Iterator[str]:
    titles = tuple(column.title for column in table.columns)
    widths = _widths(table, titles, width)
    if table.title is not None:
        yield table.title
    yield from _row_lines(table, _Row(titles, "bold"), widths, colour=colour)
    for number, row in enumerate(table.rows):
        if number == 0 or number in table.rules_above:
            yield RULE * min(width, sum(widths) + len(GAP) * (len(widths) - 1))
        if number in table.headings_above:
            yield from wrapped(table.headings_above[number], width)
        yield from _row_lines(table, row, widths, colour=colour)


def _widths(table: Table, titles: tuple[str, ...], width: int) -> list[int]:
    rows = (titles, *(row.cells for row in table.rows))
    wrapping = [place for place, column in enumerate(table.columns) if column.wraps]
    return column_widths(rows, wrapping, room=width - len(GAP) * (len(titles) - 1))


def column_widths(rows: Sequence[Sequence[str]], wrapping: Sequence[int], *, room: int) -> list[int]:
    """The cells of each column: as its widest line. What is more than `room` in all is taken from the widest that wrap, down
    to their words, then to the pieces of their names, and only then to one cell.
    """
    widths = [max(cells_of(line) for cells in rows for line in cells[place].split("\n")) for place in range(len(rows[0]))]
    excess = sum(widths) - room
    for least in (least_widths(rows, wrapping, joints=""), least_widths(rows, wrapping), dict.fromkeys(wrapping, 1)):
        while excess > 0 and (shrinking := [place for place in wrapping if widths[place] > least[place]]):
            widest = max(widths[place] for place in shrinking)
            for place in [place for place in shrinking if widths[place] == widest][:excess]:
                widths[place] -= 1
                excess -= 1
    return widths


def least_widths(rows: Sequence[Sequence[str]], places: Sequence[int], *, joints: str = JOINTS) -> dict[int, int]:
    """By place of a column: the cells of the longest piece that is not broken between words, nor behind a joint."""
    return {
        place: max((cells_of(piece) for cells in rows for piece in _unbroken(cells[place], joints)), default=1)
        for place in places
    }


def _unbroken(text: str, joints: str) -> list[str]:
    """The pieces of which each is to stay in one line."""
    for joint in joints:
        text = text.replace(joint, f"{joint} ")
    return text.split()


def _row_lines(table: Table, row: _Row, widths: Sequence[int], *, colour: bool) -> Iterator[str]:
    cells = [wrapped(cell, width) for cell, width in zip(row.cells, widths, strict=True)]
    for number in range(max(map(len, cells))):
        pieces = (cell[number] if number < len(cell) else "" for cell in cells)
        line = GAP.join(
            _padded(piece, width, right=column.right)
            for piece, width, column in zip(pieces, widths, table.columns, strict=True)
        )
        yield _styled(line.rstrip(), row.style, colour=colour)


def _padded(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - cells_of(text))
    return space + text if right else text + space


def _styled(line: str, style: Style | None, *, colour: bool) -> str:
    return f"{SELECT_GRAPHIC_RENDITION[style]}{line}{RESET}" if style and colour and line else line
