"""What becomes of a job's rows: cut, packed, held out, fewer than asked for, with a label that nothing learns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Final

from planner.asking.request import ESTIMATED, Classes, DataAsked
from planner.estimators.sequences import counts_exactly, packed_rows, rows_read
from remote.contract import MAX_HELD_OUT_SHARE, Balance, RowsRead

NAMES_SHOWN: Final = 6  # assumed: more make no sentence
ROWS_TO_HOLD_OUT: Final = 2  # derived: of each class all rows but one may be held out (remote/data/classes.py)

FEW_ROWS: Final = 10  # assumed: of fewer hardly any can be held out, so no figure of that class means much
ROWS_BESIDE_FEW: Final = 2 * FEW_ROWS  # assumed: where the commonest class has fewer all is small, and nothing to be weighed


def cut_words(data: DataAsked, seq_len: int) -> str | None:
    """How many rows the trainer will cut at that length or leave out, as a sentence; None for none. Documents are split."""
    read = rows_read(data, seq_len)
    split = read.split if data.reading.long_rows is not None else 0
    number, total = read.cut + read.left_out + split, read.used + read.left_out
    if not number:
        return None
    exact = number == total or (data.basis != ESTIMATED and counts_exactly(data, seq_len))
    rows = f"{'' if exact else 'about '}{number:,} of {total:,} row{'s' * (total != 1)} {'is' if number == 1 else 'are'}"
    longest = f"the longest has {data.max_tokens:,}{', as estimated' if data.basis == ESTIMATED else ''}"
    return f"{rows} longer than {seq_len:,} tokens{_fate(read, split, documents=data.documents)} (--seq-len); {longest}"


def packed_words(data: DataAsked, seq_len: int) -> str | None:
    """How many rows the trainer will lay into how many, as a sentence; None where none are packed."""
    if not data.reading.packing or not data.profile:
        return None
    rows, packs = packed_rows(data, seq_len)
    return (
        f"packing lays {rows.number:,} rows of {rows.mean:,.0f} tokens in the mean into about {packs.number:,} of at most "
        f"{seq_len:,}, which are {packs.mean / seq_len:.1%} full; a step's batch counts these"
    )


def _fate(read: RowsRead, split: int, *, documents: bool) -> str:
    """What becomes of them: as one clause, or each number with its own."""
    why = "nothing to learn is left of " + ("it" if read.left_out == 1 else "them")
    if read.too_long:
        why = "long_rows: drop says so"
    where = f" ({read.lines_words})" if read.left_out_lines else ""
    fates = [
        (number, words)
        for number, words in (
            (split, "split" if documents else "split between turns"),
            (read.cut, "cut"),
            (read.left_out, f"left out, for {why}{where}"),
        )
        if number
    ]
    if len(fates) == 1:
        return f" and will be {fates[0][1]}"
    (first, words), *others = fates
    return f": {first:,} will be {words} and " + " and ".join(f"{number:,} {words}" for number, words in others)


def held_out_words(data: DataAsked) -> str:
    """How many rows are kept back to be judged on, and why fewer than was said."""
    words = f"{data.held_out_rows:,} rows held out"
    if data.held_out_wanted is None:
        return words
    return f"{words}, not {data.held_out_wanted:,}: at most {MAX_HELD_OUT_SHARE:.0%} of the rows are"


def short_words(data: DataAsked) -> str | None:
    """That fewer rows are there than were asked for, as a sentence; None where as many are, or none were named."""
    there = data.num_examples + (data.held_out_rows if data.held_out_path is None else 0)
    if data.reading.max_rows is None or there >= data.reading.max_rows:
        return None
    return f"{data.reading.max_rows:,} rows were asked for and the data has {there:,}: all of them count, and no more"


def text_words(file: str, files: Sequence[str], rows: int) -> Iterator[str]:
    """What of text files is a document. `file`: the name of what was read; `files`: those in it, where they are several."""
    if sum(map(_is_text, files)) > 1:
        yield f"each text file is one document, {rows:,} in all; in a lone one each line is a document"
    elif _is_text(file) and rows > 1:
        yield f"each of {rows:,} lines of {file} is one document; a text that goes on over lines is one row of a JSONL file"


def _is_text(file: str) -> bool:
    return PurePath(file.lower().removesuffix(".gz").removesuffix(".zst")).suffix == ".txt"


def label_words(classes: Classes, balance: Balance = "none") -> tuple[str, ...]:
    """What is strange in the labels, as sentences: some that differ in case or blanks only, and some with a single row, or with
    few beside many. `balance`: what the job does about that.
    """
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for name, rows, _ in classes:
        alike[" ".join(name.split()).casefold()].append(f"{name!r} ({rows:,} {'row' if rows == 1 else 'rows'})")
    twice = [" beside ".join(names) for names in alike.values() if len(names) > 1]
    single = [repr(name) for name, rows, _ in classes if rows < ROWS_TO_HOLD_OUT]
    told = []
    if twice:
        told.append(f"labels that differ in case or blanks only are classes of their own: {_some(twice)}")
    if single:
        number = "1 class has" if len(single) == 1 else f"{len(single):,} classes have"
        told.append(f"{number} a single row, so that nothing judges what is learned of it: {_some(single)}")
    told += _few_words(classes, balance)
    return tuple(told)


def _few_words(classes: Classes, balance: Balance) -> list[str]:
    few = [f"{name!r} ({rows})" for name, rows, _ in classes if ROWS_TO_HOLD_OUT <= rows < FEW_ROWS]
    if not few or max(rows for _, rows, _ in classes) < ROWS_BESIDE_FEW:
        return []
    number = "1 class has" if len(few) == 1 else f"{len(few):,} classes have"
    remedy = "; balance: class_weights under data: in a job file lets them weigh more" if balance == "none" else ""
    return [f"{number} fewer than {FEW_ROWS} rows: {_some(few)}{remedy}"]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
    return f"{', '.join(names[:NAMES_SHOWN])}{more}"


def unread_labels(task: str, num_rows: int) -> tuple[str, ...]:
    """That labels stand in the rows, and are learned by no task but another."""
    if task == "classification" or not num_rows:
        return ()
    rows = "1 row has" if num_rows == 1 else f"{num_rows:,} rows have"
    return (f"{rows} a label beside the text, which task {task} does not learn; --task classification does",)
