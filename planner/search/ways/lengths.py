"""The length that decides: which rows set it, what a shorter one would cut, and where the job would fit with it."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from typing import Final

from planner.asking.request import ESTIMATED, DataAsked, Request
from planner.estimators.sequences import rows_read
from planner.search.ways.strategies import ESTIMATE_MARGIN
from remote.contract import RowsRead, place_words

LENGTHS: Final = tuple(1 << power for power in range(9, 18))  # assumed: 512 to 131,072; nobody says a length between them
STEP: Final = 512  # assumed: so fine is the longest that fits told; with less of it nobody learns more
FEW_ROWS: Final = 0.02  # assumed: so small a share of the rows, or a single one, should not choose the card
MOST_ROWS: Final = 0.5  # assumed: no remedy is what shortens more of them
SHORTER: Final = 2  # assumed: times; below it a cut gains little


def few_cut(request: Request, seq_len: int) -> int | None:
    """The length with which a few rows are cut that alone make the sequences `seq_len` long; None where none do."""
    data = request.data
    if not data.profile:
        return None  # of stated sizes all rows are alike
    for length in _shorter_than(seq_len // SHORTER + 1, data):
        touched, total = _touched(data, length)
        if 0 < touched <= max(1, FEW_ROWS * total):
            return length
    return None


def decisive_words(request: Request, seq_len: int) -> str | None:
    """That a few rows set the sequence length, and what would be cut without them, as a sentence; None where none do."""
    if "seq_len" in request.training or (length := few_cut(request, seq_len)) is None:
        return None
    data, read = request.data, rows_read(request.data, _surely_within(request.data, length))
    touched, total = _touched(data, length)
    counted = data.basis != ESTIMATED
    longest = f"{'' if counted else 'about '}{data.max_tokens:,} tokens"
    rows = f"one row, of {longest}{_line_words(data)}, makes" if touched == 1 else f"{touched:,} rows, of up to {longest}, make"
    margin = "" if counted else ", with a margin for what is estimated,"
    return (
        f"{rows} the sequences {seq_len:,} tokens long{margin} and memory goes by that; "
        f"--seq-len {length} would {_fate(read)} of {total:,} rows"
    )


def longest(data: DataAsked, does: Callable[[int], bool], *, below: int) -> int | None:
    """The longest length below `below` that does, as every shorter one would, with most rows whole; None where none does."""
    least = max(STEP, data.least_seq_len or 0)
    lengths = [length for length in range(STEP, below, STEP) if length >= least and _leaves_most(data, length)]
    too_long = bisect.bisect_left(lengths, 1, key=lambda length: not does(length))
    return lengths[too_long - 1] if too_long else None


def _leaves_most(data: DataAsked, length: int) -> bool:
    lost, total = _lost(data, length)
    return lost <= MOST_ROWS * total


def _shorter_than(seq_len: int, data: DataAsked) -> Iterator[int]:
    return (length for length in LENGTHS if (data.least_seq_len or 0) <= length < seq_len)


def _surely_within(data: DataAsked, length: int) -> int:
    """As many tokens, as the data counts them, surely fit."""
    return int(length / ESTIMATE_MARGIN) if data.basis == ESTIMATED else length


def _lost(data: DataAsked, length: int) -> tuple[int, int]:
    """Rows that are not learned from whole, of how many."""
    read = rows_read(data, _surely_within(data, length))
    return read.cut + read.left_out, read.used + read.left_out


def _touched(data: DataAsked, length: int) -> tuple[int, int]:
    """Rows that are not read in one piece, of how many: what is split is not lost."""
    read = rows_read(data, _surely_within(data, length))
    return read.cut + read.left_out + read.split, read.used + read.left_out


def _line_words(data: DataAsked) -> str:
    return (
        f" (line {place_words(data.beginnings.longest[0][0], data.files)})"
        if data.beginnings is not None and data.beginnings.longest
        else ""
    )


def _fate(read: RowsRead) -> str:
    fates = (("split", read.split), ("cut", read.cut), ("leave out", read.left_out))
    return " and ".join(f"{word} {number:,}" for word, number in fates if number)
