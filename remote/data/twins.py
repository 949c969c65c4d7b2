"""Rows that stand twice: in one file, or in what is learned and in what judges it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from remote.contract import LINES_TOLD, Value
from remote.data.rows import Row, Rows


class Twins(Value, frozen=True, kw_only=True):
    """Rows that say word for word what another one says."""

    rows: int
    first: tuple[tuple[int, int], ...]  # (line, line of the one that it repeats), at most `LINES_TOLD`


NO_TWINS = Twins(rows=0, first=())


def repeated(rows: Rows) -> Twins:
    """The rows of a file that stand in it before; their pairs are of lines of that file."""
    return _told(_again(zip(rows.lines, rows.rows, strict=True), {}))


def shared(learned: Rows, judged: Rows) -> Twins:
    """The rows of a held-out file that are learned from, too: pairs of (line there, line in what is learned)."""
    return shared_lines(zip(learned.lines, learned.rows, strict=True), zip(judged.lines, judged.rows, strict=True))


def shared_lines(learned: Iterable[tuple[int, Row]], judged: Iterable[tuple[int, Row]]) -> Twins:
    """The held-out rows that are learned from, too, of rows with their lines."""
    known: dict[Row, int] = {}
    for _ in _again(learned, known):
        pass
    return _told((line, known[row]) for line, row in judged if row in known)


def _again(numbered: Iterable[tuple[int, Row]], known: dict[Row, int]) -> Iterator[tuple[int, int]]:
    """(line, first line) of each row that `known` has by then; the others are put into it."""
    for line, row in numbered:
        first = known.setdefault(row, line)
        if first != line:
            yield line, first


def _told(pairs: Iterator[tuple[int, int]]) -> Twins:
    first = tuple(islice(pairs, LINES_TOLD))
    return Twins(rows=len(first) + sum(1 for _ in pairs), first=first)
