"""The data of a run: what is learned, and what is held out to judge it by."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from remote.contract import LINES_TOLD, MAX_HELD_OUT_SHARE, DataSource, RowsRead
from remote.data.rows import Row, UnreadableData, read_rows
from remote.data.tokens import Encoded, Example, UntokenizableRow, encode_rows
from remote.ends import bad_job

Warn = Callable[..., None]  # emits a "warning" event
Line = TypeVar("Line")
Numbered = tuple[int, Row]  # a row and its line in the file


@dataclass(frozen=True, kw_only=True)
class Data:
    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    held_out_rows: tuple[Row, ...]  # as they were written: samples are drawn from these
    train_read: RowsRead
    held_out_read: RowsRead


def load_data(source: DataSource, tokenizer: Any, *, seq_len: int, seed: int, warn: Warn) -> Data:
    """Read, split and tokenize. Raises `Ended` (bad job) with the line of the first broken row."""
    train = _rows(source, Path(source.train), source.max_rows)
    if source.held_out is not None:
        rows, held_out = train, _rows(source, Path(source.held_out), None)
    else:
        rows, held_out = split_rows(train, source.held_out_rows, seed)
        if len(held_out) < source.held_out_rows:
            warn(message=f"only {len(held_out)} of {len(train)} rows are held out; {source.held_out_rows} were asked for")
    encoded, train_read = _encoded(rows, tokenizer, seq_len, Path(source.train).name, warn)
    if not encoded.examples:
        raise bad_job(f"{Path(source.train).name}: no row leaves anything to learn within {seq_len} tokens")
    judged, held_out_read = _encoded(held_out, tokenizer, seq_len, "held-out rows", warn)
    return Data(
        train=encoded.examples,
        held_out=judged.examples,
        held_out_rows=tuple(row for _, row in held_out),
        train_read=train_read,
        held_out_read=held_out_read,
    )


def split_rows(rows: Sequence[Line], num_held_out: int, seed: int) -> tuple[list[Line], list[Line]]:
    """(train, held out): drawn by `seed`, at most a fifth of the rows, both in the file's order."""
    num_held_out = min(num_held_out, int(len(rows) * MAX_HELD_OUT_SHARE))
    chosen = set(random.Random(f"held-out/{seed}").sample(range(len(rows)), num_held_out))  # noqa: S311 - no secret
    return (
        [row for index, row in enumerate(rows) if index not in chosen],
        [row for index, row in enumerate(rows) if index in chosen],
    )


def _rows(source: DataSource, path: Path, max_rows: int | None) -> list[Numbered]:
    try:
        rows = read_rows(path, kind=source.format, max_rows=max_rows)
    except UnreadableData as error:
        raise bad_job(str(error)) from error
    if rows.broken:
        more = f" (and {len(rows.broken) - 1} more broken row{'s' * (len(rows.broken) > 2)})" if len(rows.broken) > 1 else ""
        raise bad_job(f"{rows.broken[0]}{more}")
    return list(zip(rows.lines, rows.rows, strict=True))


def _encoded(numbered: Sequence[Numbered], tokenizer: Any, seq_len: int, name: str, warn: Warn) -> tuple[Encoded, RowsRead]:
    try:
        encoded = encode_rows([row for _, row in numbered], tokenizer, seq_len)
    except UntokenizableRow as error:
        raise bad_job(f"{name}, {error}") from error
    num_left_out = len(encoded.dropped)
    read = RowsRead(
        used=len(numbered) - num_left_out,
        cut=encoded.truncated,
        left_out=num_left_out,
        left_out_lines=tuple(numbered[place][0] for place in encoded.dropped[:LINES_TOLD]),
    )
    if read.cut or read.left_out:
        warn(
            message=f"{name}: {'; '.join(_fates(read, seq_len))}; the longest has {encoded.longest_tokens} tokens",
            truncated=read.cut,
            dropped=read.left_out,
            longest_tokens=encoded.longest_tokens,
        )
    return encoded, read


def _fates(read: RowsRead, seq_len: int) -> Iterator[str]:
    if read.cut:
        yield f"{_several(read.cut)} cut at {seq_len} tokens"
    if read.left_out:
        yield f"{_several(read.left_out)} left out, for nothing to learn was left within {seq_len} tokens ({read.lines_words})"


def _several(number: int) -> str:
    return "1 row" if number == 1 else f"{number:,} rows"
