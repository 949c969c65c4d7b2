"""Which column of a file is which, where the file has names of its own for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from remote.data.cells import Unusable

Columns = Mapping[str, str]  # the name that rows are read by → the file's
NAMED_SO: Final[Columns] = {}  # the file has those names


def beside(record: Mapping[str, Any], columns: Columns) -> str:
    """What else the file has, where what was named of it makes no row."""
    others = sorted({str(key) for key in record} - set(columns.values()))
    return f"; its other columns: {', '.join(others)}" if columns and others else ""


def renamed(record: Mapping[str, Any], columns: Columns) -> Mapping[str, Any]:
    """The record by the names that rows are read by, and nothing else of it. Raises `Unusable` where a column is not there."""
    if not columns:
        return record
    there = sorted(map(str, record))
    for theirs in columns.values():
        if theirs not in record:
            from difflib import get_close_matches  # only when something is wrong: it costs start-up time

            meant = get_close_matches(theirs, there, n=1)
            slip = f"; did you mean {meant[0]!r}?" if meant else ""
            raise Unusable(f"no column {theirs!r} (found: {', '.join(there) or 'none'}){slip}")
    return {ours: record[theirs] for ours, theirs in columns.items()}
