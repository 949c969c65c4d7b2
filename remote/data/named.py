"""Which column of a file is which, where the file has names of its own for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from remote.contract.reading import ANSWER_KEYS, LABEL_KEYS, PAIR_KEYS, PROMPT_KEYS, TEXT_KEYS
from remote.data.cells import Unusable

Columns = Mapping[str, str]  # the name that rows are read by → the file's
NAMED_SO: Final[Columns] = {}  # the file has those names
PARTNERS: Final[Mapping[str, str]] = {  # of a prompt's name the answer's, and the other way round
    "prompt": "completion",
    "question": "answer",
    "instruction": "output",
    "completion": "prompt",
    "response": "prompt",
    "answer": "question",
    "output": "instruction",
}


def lacking(columns: Columns, *, is_labelled: bool) -> str | None:
    """Which name no column was said for, where another that belongs to it was; None where that is not what is wrong."""
    missing = _of_labelled(frozenset(columns)) if is_labelled else _of_pair(frozenset(columns))
    if not missing:
        return None
    say = " ".join(f"--column {key}=…" for key in missing)
    return f"no column is named for {' and '.join(missing)}: say {say} too (columns: in a job file)"


def _of_labelled(named: frozenset[str]) -> tuple[str, ...]:
    if not named:
        return ()
    pair = next((keys for keys in PAIR_KEYS if named & set(keys)), None)
    whole = (*pair, *LABEL_KEYS[:1]) if pair is not None else (*TEXT_KEYS[:1], *LABEL_KEYS[:1])
    there = {TEXT_KEYS: pair is None and named & set(TEXT_KEYS), LABEL_KEYS: named & set(LABEL_KEYS)}
    return tuple(key for key in whole if key not in named and not any(key in keys and has for keys, has in there.items()))


def _of_pair(named: frozenset[str]) -> tuple[str, ...]:
    asks, answers = named & set(PROMPT_KEYS), named & set(ANSWER_KEYS)
    if bool(asks) == bool(answers):
        return ()
    return tuple(PARTNERS[key] for key in sorted(asks | answers))[:1]


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
