"""Which column of a file is which, where the file has names of its own for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from remote.data.cells import Unusable

Columns = Mapping[str, str]  # the name that rows are read by → the file's
NAMED_SO: Final[Columns] = {}  # the file has those names


def renamed(record: Mapping[str, Any], columns: Columns) -> Mapping[str, Any]:
    """The record by the names that rows are read by, and nothing else of it. Raises `Unusable` where a column is not there."""
    if not columns:
        return record
    for theirs in columns.values():
        if theirs not in record:
            raise Unusable(f"no column {theirs!r} (found: {', '.join(sorted(map(str, record))) or 'none'})")
    return {ours: record[theirs] for ours, theirs in columns.items()}
