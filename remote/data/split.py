"""The data of a run: what is learned, and what is held out to judge it by."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from remote.contract import LINES_TOLD, MAX_HELD_OUT_SHARE, DataSource, FileBefore, LongRows, RowsRead, Task, place_words
from remote.data.classes import encode_classes, oversampled, row_shares, stratified
from remote.data.kept import CLASSES, SIDES, WRITTEN, Making, Pair, pairs_of
from remote.data.labelled import Class, Labelled, NoClasses, classes_of, require_classes
from remote.data.pairs import encode_pairs
from remote.data.rows import Format, Row, UnreadableData, read_rows
from remote.data.tokens import Encoded, Example, UntokenizableRow, encode_rows
from remote.data.twins import shared_lines
from remote.ends import bad_job

Warn = Callable[..., None]  # emits a "warning" event
Line = TypeVar("Line")
Numbered = tuple[int, Row]  # a row and its line in the file


class _Part(NamedTuple):
    """Rows of one part of the data, what it is called, and the files that they are from, where there are several."""

    rows: list[Numbered]
    name: str
    files: tuple[FileBefore, ...]
    format: Format
    pairs: Sequence[Pair] = ()  # the tokens of each row, uncut


@dataclass(frozen=True, kw_only=True)
class Data:
    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    held_out_rows: tuple[Row, ...]  # as they were written: samples are drawn from these
    train_read: RowsRead
    held_out_read: RowsRead
    chats: bool = False  # whether they are conversations as such, and no questions with an answer each
    classes: tuple[Class, ...] = ()  # of a classification, with the rows of each that are learned from
    held_out_classes: tuple[int, ...] = ()  # likewise, the held-out rows of each
    row_shares: tuple[float, ...] = ()  # how likely each row is drawn; () = each comes once an epoch


def load_data(
    source: DataSource,
    tokenizer: Any,
    *,
    seq_len: int,
    seed: int,
    warn: Warn,
    task: Task = "causal_lm",
    cache: Path | None = None,
) -> Data:
    """Read, split and tokenize; the tokens lie in `cache` and are read from there, where one is named. Raises `Ended` (bad job)
    with the line of the first broken row.
    """
    if task == "classification":
        source = msgspec.structs.replace(source, format="classification")
    in_tokens = partial(_in_tokens, tokenizer=tokenizer, task=task, cache=cache)
    train = in_tokens(_rows(source, Path(source.train), source.max_rows))
    if source.held_out is not None:
        held_out = in_tokens(_rows(source, Path(source.held_out), None))
    else:
        labels = [row.label for _, row in train.rows if isinstance(row, Labelled)]
        learned, kept_back = split_rows(range(len(train.rows)), source.held_out_rows, seed, labels=labels)
        if len(kept_back) < source.held_out_rows:
            warn(message=f"only {len(kept_back)} of {len(train.rows)} rows are held out; {source.held_out_rows} were asked for")
        train, held_out = _those(train, learned), _those(train, kept_back)._replace(name="held-out rows")
    classes = _classes(train, held_out) if task == "classification" else ()
    pairs = _Pairs(source.target_tokens) if task == "seq2seq" else None
    within = _Within(seq_len=seq_len, long_rows=source.long_rows, classes=classes, pairs=pairs)
    encoded, train_read = _encoded(train, tokenizer, within, warn)
    if not encoded.examples:
        raise bad_job(f"{train.name}: no row leaves anything to learn within {seq_len} tokens")
    judged, held_out_read = _encoded(held_out, tokenizer, within, warn)
    examples = encoded.examples
    if source.balance == "oversampling":
        examples = oversampled(examples, seed)
        warn(message=f"oversampling: {len(encoded.examples):,} rows are shown as {len(examples):,} in each epoch")
    judged_labels = Counter(row.label for _, row in held_out.rows if isinstance(row, Labelled))
    if again := shared_lines(train.rows, held_out.rows).rows:
        of = f"{again:,} of {len(held_out.rows):,} held-out rows"
        said = f"{of} say word for word what is learned, so that what they are judged by looks better than it is"
        warn(message=said, held_out_twins=again)
        held_out_read = msgspec.structs.replace(held_out_read, twins=again)
    return Data(
        train=examples,
        held_out=judged.examples,
        held_out_rows=tuple(row for _, row in held_out.rows),
        train_read=train_read,
        held_out_read=held_out_read,
        chats=train.format == "chat",
        classes=classes,
        held_out_classes=tuple(judged_labels[each.name] for each in classes),
        row_shares=row_shares(examples) if source.balance == "weighted_sampling" else (),
    )


def _classes(train: _Part, held_out: _Part) -> tuple[Class, ...]:
    """What there is to tell apart. Raises `Ended` (bad job) for no classes, and for one that is judged and never learned."""
    classes = classes_of(row for _, row in train.rows if isinstance(row, Labelled))
    try:
        require_classes(classes)
    except NoClasses as error:
        raise bad_job(f"{train.name}: {error}") from error
    names = {each.name for each in classes}
    for line, row in held_out.rows:
        if isinstance(row, Labelled) and row.label not in names:
            where = f"{held_out.name}, line {place_words(line, held_out.files)}"
            raise bad_job(f'{where}: the label "{row.label}" stands in no row to learn from; add some, or leave this row out')
    return classes


def split_rows(
    rows: Sequence[Line], num_held_out: int, seed: int, *, labels: Sequence[str] = ()
) -> tuple[list[Line], list[Line]]:
    """(train, held out): drawn by `seed`, at most a fifth of the rows, both in the file's order; of each class its share."""
    num_held_out = min(num_held_out, int(len(rows) * MAX_HELD_OUT_SHARE))
    if labels:
        chosen = stratified(labels, num_held_out, seed)
    else:
        chosen = set(random.Random(f"held-out/{seed}").sample(range(len(rows)), num_held_out))  # noqa: S311 - no secret
    return (
        [row for index, row in enumerate(rows) if index not in chosen],
        [row for index, row in enumerate(rows) if index in chosen],
    )


def _rows(source: DataSource, path: Path, max_rows: int | None) -> _Part:
    try:
        rows = read_rows(path, kind=source.format, columns=source.columns, max_rows=max_rows)
    except UnreadableData as error:
        raise bad_job(str(error)) from error
    if rows.broken:
        more = f" (and {len(rows.broken) - 1} more broken row{'s' * (len(rows.broken) > 2)})" if len(rows.broken) > 1 else ""
        raise bad_job(f"{rows.broken[0]}{more}")
    return _Part(rows=list(zip(rows.lines, rows.rows, strict=True)), name=path.name, files=rows.files, format=rows.format)


class _Pairs(NamedTuple):
    """That an answer is a text apart from its question, and how long it may be; None = as long as that."""

    target_tokens: int | None


class _Within(NamedTuple):
    """How long a sequence may be, and what becomes of a longer row."""

    seq_len: int
    long_rows: LongRows | None
    classes: tuple[Class, ...]
    pairs: _Pairs | None = None


def _in_tokens(part: _Part, *, tokenizer: Any, task: Task, cache: Path | None) -> _Part:
    """The same with the tokens of each row. Raises `Ended` (bad job)."""
    try:
        pairs = pairs_of([row for _, row in part.rows], _MAKING[task], tokenizer, cache)
    except UntokenizableRow as error:
        line = place_words(part.rows[error.place][0], part.files)
        raise bad_job(f"{part.name}, line {line}: {error}") from error
    return part._replace(pairs=pairs)


_MAKING: Final[Mapping[Task, Making]] = {"causal_lm": WRITTEN, "classification": CLASSES, "seq2seq": SIDES}


def _those(part: _Part, places: Sequence[int]) -> _Part:
    return part._replace(rows=[part.rows[place] for place in places], pairs=[part.pairs[place] for place in places])


def _encoded(part: _Part, tokenizer: Any, within: _Within, warn: Warn) -> tuple[Encoded, RowsRead]:
    encoded = _by_task([row for _, row in part.rows], part.pairs, tokenizer, within)
    num_left_out = len(encoded.dropped)
    read = RowsRead(
        used=len(part.rows) - num_left_out,
        cut=encoded.truncated,
        left_out=num_left_out,
        left_out_lines=tuple(part.rows[place][0] for place in encoded.dropped[:LINES_TOLD]),
        split=encoded.split,
        too_long=encoded.too_long,
        files=part.files,
    )
    if read.cut or read.left_out or (read.split and within.long_rows is not None):
        warn(
            message=f"{part.name}: {'; '.join(_fates(read, within))}; the longest has {encoded.longest_tokens} tokens",
            truncated=read.cut,
            split=read.split,
            dropped=read.left_out,
            longest_tokens=encoded.longest_tokens,
        )
    return encoded, read


def _by_task(rows: Sequence[Row], pairs: Any, tokenizer: Any, within: _Within) -> Encoded:
    """`pairs`: as the task's own `Making` makes them."""
    seq_len, long_rows = within.seq_len, within.long_rows
    if within.pairs is not None:
        most = within.pairs.target_tokens
        return encode_pairs(rows, tokenizer, seq_len, target_tokens=most, long_rows=long_rows, pairs=pairs)
    if not within.classes:
        written = [row for row in rows if not isinstance(row, Labelled)]
        return encode_rows(written, tokenizer, seq_len, long_rows=long_rows, pairs=pairs)
    of_classes = [row for row in rows if isinstance(row, Labelled)]
    return encode_classes(of_classes, tokenizer, seq_len, classes=within.classes, long_rows=long_rows, pairs=pairs)


def _fates(read: RowsRead, within: _Within) -> Iterator[str]:
    seq_len = within.seq_len
    if read.cut:
        most = within.pairs.target_tokens if within.pairs is not None else None
        yield f"{_several(read.cut)} cut at {seq_len} tokens{'' if most is None else f' of text or {most} of answer'}"
    if read.split:
        yield f"{_several(read.split)} split into pieces of at most {seq_len} tokens"
    if read.left_out:
        yield f"{_several(read.left_out)} left out, {read.why_left_out(seq_len)} ({read.lines_words})"


def _several(number: int) -> str:
    return "1 row" if number == 1 else f"{number:,} rows"
