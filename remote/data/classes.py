"""Labelled rows → token ids with one class each, and what is done about classes that are not alike in number."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from remote.contract import LongRows
from remote.data.labelled import Class, Labelled
from remote.data.tokens import ROWS_PER_CALL, Encoded, Example, Ids


def encode_classes(
    rows: Sequence[Labelled],
    tokenizer: Any,
    seq_len: int,
    *,
    classes: Sequence[Class],
    long_rows: LongRows | None = None,
    pairs: Sequence[tuple[Ids, Ids | None]] | None = None,
) -> Encoded:
    """Tokenize rows with the marks that the tokenizer itself puts around a text or a pair, or take the `pairs` that `marked`
    has made of them. Every label is one of `classes`.

    What is longer than `seq_len` is cut, the longer text of a pair first, or dropped: a part of a text has no label of its own.
    """
    numbers = {each.name: number for number, each in enumerate(classes)}
    whole = tuple(marked(rows, tokenizer)) if pairs is None else pairs
    sizes = [len(ids) for ids, _ in whole]
    long = [place for place, size in enumerate(sizes) if size > seq_len]
    dropped = tuple(long) if long_rows == "drop" else ()
    gone = frozenset(dropped)
    cut = dict(zip(long, marked([rows[place] for place in long], tokenizer, seq_len), strict=True)) if not dropped else {}
    return Encoded(
        examples=tuple(
            Example(ids=ids, labels=np.asarray([numbers[row.label]], dtype=np.int32), num_targets=1, types=types)
            for place, (row, uncut) in enumerate(zip(rows, whole, strict=True))
            for ids, types in (() if place in gone else (cut.get(place, uncut),))
        ),
        truncated=sum(size > seq_len for size in sizes) - len(dropped),
        split=0,
        dropped=dropped,
        too_long=len(dropped),
        longest_tokens=max(sizes, default=0),
    )


def marked(rows: Sequence[Labelled], tokenizer: Any, seq_len: int | None = None) -> Iterator[tuple[Ids, Ids | None]]:
    """(ids, which text each is of, where the tokenizer tells) of each row; cut at `seq_len`."""
    cut: dict[str, Any] = {} if seq_len is None else {"truncation": "longest_first", "max_length": seq_len}
    for start in range(0, len(rows), ROWS_PER_CALL):
        chunk = rows[start : start + ROWS_PER_CALL]
        texts = [row.text if row.pair is None else (row.text, row.pair) for row in chunk]
        for run in _alike(texts):
            pairs = isinstance(run[0], tuple)
            first, second = (list(each) for each in zip(*run, strict=True)) if pairs else (run, None)
            encoding = tokenizer(first, second, add_special_tokens=True, **cut)
            types = encoding.get("token_type_ids") or [None] * len(run)
            for ids, of in zip(encoding["input_ids"], types, strict=True):
                yield np.asarray(ids, dtype=np.int32), None if of is None else np.asarray(of, dtype=np.int32)


def _alike(texts: Sequence[Any]) -> Iterator[list[Any]]:
    """Runs of texts or of pairs: a tokenizer takes the one or the other."""
    run: list[Any] = []
    for text in texts:
        if run and isinstance(text, tuple) != isinstance(run[0], tuple):
            yield run
            run = []
        run.append(text)
    if run:
        yield run


# ── classes that are not alike in number ───────────────────────────────────────────────────────────────────────────


def oversampled(examples: Sequence[Example], seed: int) -> tuple[Example, ...]:
    """As many of each class as of the commonest: all rows of a rarer class equally often, and of the rest some, drawn once."""
    by_class: defaultdict[int, list[Example]] = defaultdict(list)
    for example in examples:
        by_class[int(example.labels[0])].append(example)
    most = max(map(len, by_class.values()))
    chance = random.Random(f"oversampling/{seed}")  # noqa: S311 - an order, not a secret
    found: list[Example] = []
    for number in sorted(by_class):
        rows = by_class[number]
        found += rows * (most // len(rows)) + chance.sample(rows, most % len(rows))
    return tuple(found)


def row_shares(examples: Sequence[Example]) -> tuple[float, ...]:
    """How likely each row is drawn, so that every class is as likely as any other."""
    counts: defaultdict[int, int] = defaultdict(int)
    for example in examples:
        counts[int(example.labels[0])] += 1
    return tuple(1 / (len(counts) * counts[int(example.labels[0])]) for example in examples)


def stratified(labels: Sequence[str], num_held_out: int, seed: int) -> set[int]:
    """Which of the rows to keep back: of each class its share, and never all of one."""
    by_class: defaultdict[str, list[int]] = defaultdict(list)
    for place, label in enumerate(labels):
        by_class[label].append(place)
    chance = random.Random(f"held-out/{seed}")  # noqa: S311 - no secret
    turns: list[
        tuple[float, int]
    ] = []  # the rows of each class spread evenly between 0 and 1, so that any beginning has its shares
    for name in sorted(by_class):
        rows = by_class[name]
        chance.shuffle(rows)
        turns += [((number + 0.5) / len(rows), place) for number, place in enumerate(rows[:-1])]
    return {place for _, place in sorted(turns)[:num_held_out]}
