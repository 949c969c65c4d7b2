"""Rows of a classification: a text or a pair of texts, and the name of its class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from remote.contract import Balance
from remote.contract.reading import LABEL_KEYS, PAIR_KEYS, TEXT_KEYS
from remote.data.cells import Unusable, text_at

USABLE: Final = (
    'use "text" and "label", or "text_a", "text_b" and "label", '
    "or say which of yours is which: --column label=… (columns: in a job file)"
)
MOST_LABELS: Final = 1_000  # assumed: more classes are measured numbers or ids, and no head of this kind learns them


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A text, or a pair of texts, and its class."""

    text: str
    pair: str | None = None
    label: str


class Unlabelled(Unusable):
    """The record holds no labelled text; the message says why."""


class NoClasses(Exception):
    """The labels of a file are no classes to learn; the message says why, and what to do."""


def labelled(record: Mapping[str, Any]) -> Labelled:
    """The row that a record holds. Raises `Unlabelled`, or `Unusable` for a text that is none."""
    pair = next((keys for keys in PAIR_KEYS if all(key in record for key in keys)), None)
    keys = pair or next(((key,) for key in TEXT_KEYS if key in record), None)
    if keys is None:
        raise Unlabelled(f"no known keys of a text (found: {_found(record)}); {USABLE}")
    texts = [text_at(record, key) for key in keys]
    return Labelled(text=texts[0], pair=texts[1] if len(texts) > 1 else None, label=_label(record))


def _label(record: Mapping[str, Any]) -> str:
    """Its name: text as it is, a whole number or true and false as JSON writes them."""
    key = next((key for key in LABEL_KEYS if key in record), None)
    if key is None:
        raise Unlabelled(f"no label (found: {_found(record)}); {USABLE}")
    value = record[key]
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise Unlabelled(f'"{key}" must name one class: a text, a whole number, or true or false')
    return value.strip()


def _found(record: Mapping[str, Any]) -> str:
    return ", ".join(sorted(map(str, record))) or "none"


# ── classes ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Class(NamedTuple):
    name: str
    rows: int


def classes_of(rows: Iterable[Labelled]) -> tuple[Class, ...]:
    """The classes in the order of their names, numbers by their size."""
    counts = Counter(row.label for row in rows)
    return tuple(Class(name, counts[name]) for name in sorted(counts, key=_by_name))


def _by_name(name: str) -> tuple[int, float, str]:
    digits = name.removeprefix("-")
    return (0, float(name), name) if digits.isascii() and digits.isdigit() else (1, 0.0, name)


def require_classes(classes: Sequence[Class]) -> None:
    """Raise `NoClasses` for labels that nothing can be learned of."""
    if len(classes) < 2:
        name = f", {classes[0].name}" if classes else ""
        raise NoClasses(f"every row has the same label{name}, so there is nothing to tell apart; add rows of another class")
    if len(classes) > MOST_LABELS:
        raise NoClasses(
            f"{len(classes):,} different labels are no classes; at most {MOST_LABELS:,} are learned: is it the right column?"
        )
    if all(each.rows == 1 for each in classes):
        raise NoClasses("no label stands in two rows, so these are no classes; is it the right column?")


def class_weights(classes: Sequence[Class], balance: Balance) -> tuple[float, ...]:
    """What a row of each class counts in the loss: 1; balanced so that all classes weigh alike, and a row 1 in the mean:
    rows / (classes × rows of the class).
    """
    if balance != "class_weights":
        return (1.0,) * len(classes)
    total = sum(each.rows for each in classes)
    return tuple(total / (len(classes) * each.rows) for each in classes)
