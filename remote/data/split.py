"""The data of a run: what is learned, and what is held out to judge it by."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remote.contract import MAX_HELD_OUT_SHARE, DataSource
from remote.data.rows import Row, Rows, UnreadableData, read_rows
from remote.data.tokens import Encoded, Example, UntokenizableRow, encode_rows
from remote.ends import bad_job

Warn = Callable[..., None]  # emits a "warning" event


@dataclass(frozen=True, kw_only=True)
class Data:
    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    held_out_rows: tuple[Row, ...]  # as they were written: samples are drawn from these


def load_data(source: DataSource, tokenizer: Any, *, seq_len: int, seed: int, warn: Warn) -> Data:
    """Read, split and tokenize. Raises `Ended` (bad job) with the line of the first broken row."""
    train = _rows(source, Path(source.train), source.max_rows)
    if source.held_out is not None:
        held_out: Sequence[Row] = _rows(source, Path(source.held_out), None).rows
        rows: Sequence[Row] = train.rows
    else:
        rows, held_out = split_rows(train.rows, source.held_out_rows, seed)
        if len(held_out) < source.held_out_rows:
            warn(message=f"only {len(held_out)} of {len(train.rows)} rows are held out; {source.held_out_rows} were asked for")
    encoded = _encoded(rows, tokenizer, seq_len, Path(source.train).name, warn)
    if not encoded.examples:
        raise bad_job(f"{Path(source.train).name}: no row leaves anything to learn within {seq_len} tokens")
    judged = _encoded(held_out, tokenizer, seq_len, "held-out rows", warn)
    return Data(train=encoded.examples, held_out=judged.examples, held_out_rows=tuple(held_out))


def split_rows(rows: Sequence[Row], num_held_out: int, seed: int) -> tuple[list[Row], list[Row]]:
    """(train, held out): drawn by `seed`, at most a fifth of the rows, both in the file's order."""
    num_held_out = min(num_held_out, int(len(rows) * MAX_HELD_OUT_SHARE))
    chosen = set(random.Random(f"held-out/{seed}").sample(range(len(rows)), num_held_out))  # noqa: S311 - no secret
    return (
        [row for index, row in enumerate(rows) if index not in chosen],
        [row for index, row in enumerate(rows) if index in chosen],
    )


def _rows(source: DataSource, path: Path, max_rows: int | None) -> Rows:
    try:
        rows = read_rows(path, kind=source.format, max_rows=max_rows)
    except UnreadableData as error:
        raise bad_job(str(error)) from error
    if rows.broken:
        more = f" (and {len(rows.broken) - 1} more broken row{'s' * (len(rows.broken) > 2)})" if len(rows.broken) > 1 else ""
        raise bad_job(f"{path.name}, {rows.broken[0]}{more}")
    return rows


def _encoded(rows: Sequence[Row], tokenizer: Any, seq_len: int, name: str, warn: Warn) -> Encoded:
    try:
        encoded = encode_rows(rows, tokenizer, seq_len)
    except UntokenizableRow as error:
        raise bad_job(f"{name}, {error}") from error
    if encoded.truncated or encoded.dropped:
        warn(
            message=f"{name}: {encoded.truncated} rows cut at {seq_len} tokens, {encoded.dropped} rows left out "
            f"(nothing to learn was left); the longest has {encoded.longest_tokens} tokens",
            truncated=encoded.truncated,
            dropped=encoded.dropped,
            longest_tokens=encoded.longest_tokens,
        )
    return encoded
