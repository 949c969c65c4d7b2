"""Lines of a job file that hold what the planner chose: their mark, how it is read back, and what is chosen anew."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from catalogs.failure import KeyPath
from planner.asking.jobfile.positions import Document
from planner.asking.options.table import said

CHOSEN: Final = "planner's choice"
MARK: Final = f"({CHOSEN})"
ANEW: Final = f"delete the lines marked {MARK}, all of them: then the planner chooses anew"

# Key -> the key of its section whose value it was chosen for: where that says another, it is chosen anew
FOLLOWS: Final[Mapping[KeyPath, tuple[str, str]]] = {("training", "alpha"): ("training", "rank")}

_MOVING_SECTIONS: Final = ("training", "purpose", "where")
_MOVING_FIELDS: Final = frozenset({"model", "global_batch_size"})
_LEFT_OPEN: Final = frozenset({"where.allow_from", "where.power_usd_per_kwh"})  # no machine is another for them


def is_marked(line: str) -> bool:
    """Whether a line ends with the mark."""
    return line.rstrip().endswith(MARK)


def followed(place: str, values: Mapping[str, Any]) -> str:
    """What the line of a choice says before its mark where it follows another key of its section; else nothing."""
    leader = FOLLOWS.get(tuple(place.split(".")))
    value = values.get(leader[1]) if leader is not None else None
    return f"for {leader[1]} {value}" if leader is not None and value is not None else ""


def marked(text: str, document: Document) -> tuple[KeyPath, ...]:
    """The keys of sections that stand in marked lines."""
    lines = text.splitlines()
    return tuple(
        path
        for path, (line, _) in document.positions.items()
        if len(path) == 2 and 0 < line <= len(lines) and is_marked(lines[line - 1])
    )


def outlived(text: str, document: Document, chosen: Iterable[KeyPath]) -> Iterator[KeyPath]:
    """Those of the choices that followed another key's value, and it is another now."""
    lines = text.splitlines()
    for path in chosen:
        leader = FOLLOWS.get(path)
        if leader is None:
            continue
        was = re.search(rf"for {leader[1]} (\S+) {re.escape(MARK)}\s*$", lines[document.positions[path][0] - 1])
        section = document.values.get(leader[0])
        now = section.get(leader[1]) if isinstance(section, dict) else None
        if was is not None and was[1] != str(now):
            yield path


def chooses_anew(options: Mapping[str, Any]) -> bool:
    """Whether options ask for another machine or another training: choices belong together, and were made for what was."""
    fields = said(options).keys() - _LEFT_OPEN
    return any(field in _MOVING_FIELDS or field.partition(".")[0] in _MOVING_SECTIONS for field in fields)
