"""A table on disk -> rows that can tell where they are wrong: file, line and field."""

from __future__ import annotations

import csv
import datetime as dt
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from catalogs.failure import Failure
from catalogs.user_file import shortened

T = TypeVar("T")


class CatalogError(Failure):
    """A table is wrong, or a name is not in it. The message begins with the place, if there is one."""

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        file: str | None = None,
        line: int | None = None,
        field: str | None = None,
    ) -> None:
        place = ":".join(str(part) for part in (file, line, field) if part is not None)
        super().__init__(f"{place}: {message}" if place else message, hint=hint)
        self.file = file
        self.line = line
        self.field = field


class Row(msgspec.Struct, frozen=True, gc=False):
    """One line of a table. An empty cell means that nothing is known; it is never zero."""

    file: str
    line: int
    cells: dict[str, str]

    def get(self, field: str, parse: Callable[[str], T]) -> T:
        """The cell's value. Raises CatalogError if it is empty or `parse` (a ValueError with a sentence) refuses it."""
        cell = self.cells[field]
        if not cell:
            raise self.error(field, "is empty and must not be")
        try:
            return parse(cell)
        except ValueError as refusal:
            raise self.error(field, str(refusal)) from None

    def maybe(self, field: str, parse: Callable[[str], T]) -> T | None:
        """As `get`, but an empty cell is None."""
        cell = self.cells[field]
        return self.get(field, parse) if cell else None

    def error(self, field: str, message: str) -> CatalogError:
        """A CatalogError that points at this row."""
        return CatalogError(message, file=self.file, line=self.line, field=field)


def read_rows(path: Path, fields: tuple[str, ...]) -> Iterator[Row]:
    """The lines of a CSV file (UTF-8, comma, header) that has exactly these columns, in any order."""
    if not path.is_file():
        raise CatalogError("is not there; a catalog folder holds all its tables", file=path.name)
    with path.open(encoding="utf-8", newline="") as stream:
        yield from rows_of(stream, path.name, fields, needed=fields)


def rows_of(
    stream: Iterable[str], file: str, fields: tuple[str, ...] | None, *, needed: tuple[str, ...], by_hand: bool = False
) -> Iterator[Row]:
    """The lines of a CSV text whose header has some of these columns, and those that are needed; what it has not is empty.

    Without `fields` columns that are new to us are there too: a format of others' grows. `by_hand`: somebody typed the header,
    and its capitals and blanks don't matter. Raises CatalogError.
    """
    reader = csv.reader(stream)
    try:
        header = next(reader, [])
        header = [field.strip().lower() for field in header] if by_hand else header
        if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
            wrong = "separates its columns with semicolons or tabs; save it with commas, and with a point in its numbers"
            raise CatalogError(wrong, file=file, line=1)
        _check_header(file, header, header if fields is None else fields, needed)
        unsaid = dict.fromkeys(fields, "") if fields is not None and len(header) < len(fields) else {}
        for cells in reader:
            if len(cells) != len(header):
                wrong = f"has {len(cells)} cells where the header has {len(header)}; quote a cell that holds a comma"
                raise CatalogError(wrong, file=file, line=reader.line_num)
            yield Row(file, reader.line_num, unsaid | dict(zip(header, cells)))  # noqa: B905  (as long as each other: see above)
    except csv.Error as error:
        raise CatalogError(f"is not CSV: {error}", file=file) from None


def _check_header(file: str, header: list[str], fields: Sequence[str], needed: tuple[str, ...]) -> None:
    for field in needed:
        if field not in header:
            raise CatalogError("column is missing from the header", file=file, line=1, field=field)
    for field in header:
        if field not in fields or header.count(field) > 1:
            raise CatalogError(
                f"column is not known or twice there; columns are {', '.join(fields)}", file=file, line=1, field=field
            )


Number = TypeVar("Number", float, Decimal)
NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?")
LEAST_PRICE: Final = Decimal("0.000001")  # assumed: what is less than that in an hour is a slip of the hand
MOST_USD_PER_HOUR: Final = 100_000  # assumed: no machine costs more; the dearest of the price list $216.32, 2026-11
MOST_GPUS: Final = 72  # derived: the GPUs of an NVL72 rack, the largest that is one machine
MOST_VCPUS: Final = 4_096  # assumed: over twice the cores of the largest that is rented (AWS u7inh-32tb: 1,920)
MOST_RAM_GIB: Final = 131_072  # assumed: four times the RAM of the same
MOST_DISK_GIB: Final = 1_048_576  # assumed: three times the disks of the largest (AWS d3en.12xlarge: 336 TB)
MOST: Final = 1_000_000_000  # assumed: above it a dollar, a GiB or a clock is a slip of the hand, and what follows overflows

# Parsers: a cell's text -> a value, or ValueError with a sentence that says what to write instead.


def positive(text: str) -> float:
    """A number above zero."""
    value = not_negative(text)
    if value == 0:
        raise ValueError("must be above 0; leave it empty if it is not known")
    return value


def not_negative(text: str) -> float:
    """A finite number, zero or more."""
    return float(_decimal(text))


def count(text: str) -> int:
    """A whole number, zero or more."""
    if not text.isascii() or not text.isdigit():
        raise ValueError(f'"{shortened(text)}" is not a whole number such as 80')
    return int(_decimal(text))


def price(text: str) -> Decimal:
    """Dollars above zero. A price of nothing is a fault of its source."""
    value = _decimal(text)
    if value == 0:
        raise ValueError("a price of 0 is not an offer; leave it empty if there is none")
    if value < LEAST_PRICE:
        raise ValueError(f"{shortened(text)} is less than anything costs in an hour")
    return _at_most(value, MOST_USD_PER_HOUR, text)


def fee(text: str) -> Decimal:
    """Dollars that are paid once, zero or more."""
    return _at_most(_decimal(text), MOST_USD_PER_HOUR, text)


def vcpus(text: str) -> float:
    """Virtual cores of one machine."""
    return _at_most(positive(text), MOST_VCPUS, text)


def ram_gib(text: str) -> float:
    """GiB of one machine's RAM."""
    return _at_most(positive(text), MOST_RAM_GIB, text)


def disk_gib(text: str) -> float:
    """GiB of the disks in one machine."""
    return _at_most(positive(text), MOST_DISK_GIB, text)


def num_gpus(text: str) -> Decimal:
    """Whole cards, or a share of one."""
    value = _at_most(_decimal(text), MOST_GPUS, text)
    if value > 1 and value != int(value):
        raise ValueError(f"{shortened(text)} is neither a whole number nor a share of one card, which is below 1")
    return value


def _at_most(value: Number, most: int, text: str) -> Number:
    """The value. Raises ValueError where no machine has so much."""
    if value > most:
        raise ValueError(f"{shortened(text)} is more than any machine has; at most {most:,}")
    return value


def rate(text: str) -> Decimal:
    """Dollars, zero or more."""
    return _decimal(text)


def _decimal(text: str) -> Decimal:
    if NUMBER.fullmatch(text) is None:  # Decimal itself takes 1_0, and the digits of every alphabet
        below = text.startswith("-") and NUMBER.fullmatch(text[1:]) is not None
        raise ValueError(f'"{shortened(text)}" is {"below zero" if below else "not a number such as 1.25"}')
    value = Decimal(text)
    if value > MOST:
        raise ValueError(f"{shortened(text)} is more than anything here has; at most {MOST:,}")
    return value


@cache
def day(text: str) -> dt.date:
    """An ISO date."""
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise ValueError(f'"{text}" is not a date such as 2026-10-01') from None


@cache
def words(text: str) -> tuple[str, ...]:
    """Words separated by semicolons."""
    return tuple(word.strip() for word in text.split(";"))


def one_of(choices: tuple[Any, ...]) -> Callable[[str], Any]:
    """A parser that takes these words only."""

    def parse(text: str) -> Any:
        if text not in choices:
            raise ValueError(f'"{text}" is not one of {", ".join(choices)}')
        return text

    return parse


def yes_no(text: str) -> bool:
    """The word yes or the word no."""
    return bool(one_of(("yes", "no"))(text) == "yes")
