"""A text and what is to be answered to it, each on a side of its own: what an encoder reads, and what its decoder is taught."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from remote.contract import LongRows
from remote.data.rows import Conversation, Row
from remote.data.tokens import ROWS_PER_CALL, Encoded, Example, Ids, UntokenizableRow

BETWEEN = "\n\n"  # a system prompt and the question


def sides_of(row: Row, place: int = 0) -> tuple[str, str]:
    """What is read and what is answered. Raises `UntokenizableRow` for a row that is no question with one answer."""
    if isinstance(row, Conversation) and [message.role == "assistant" for message in row.messages].index(True) == (
        len(row.messages) - 1
    ):
        return BETWEEN.join(message.content for message in row.messages[:-1]), row.messages[-1].content
    raise UntokenizableRow('task seq2seq learns one answer to one text: "prompt" and "completion"', place=place)


def encode_pairs(
    rows: Sequence[Row],
    tokenizer: Any,
    seq_len: int,
    *,
    target_tokens: int | None,
    long_rows: LongRows | None,
    pairs: Sequence[tuple[Ids, Ids]] | None = None,
) -> Encoded:
    """Tokenize both sides, or take the `pairs` that `tokenized_sides` has made of them; each ends with the end-of-sequence
    token, and is cut before it where it is longer than its length, or its row dropped where that is asked for.
    """
    most = target_tokens or seq_len
    whole = tuple(tokenized_sides(rows, tokenizer)) if pairs is None else pairs
    long = [len(source) > seq_len or len(target) > most for source, target in whole]
    dropped = tuple(place for place, over in enumerate(long) if over and long_rows == "drop")
    gone = frozenset(dropped)
    return Encoded(
        examples=tuple(
            _example(_cut(source, seq_len), _cut(target, most))
            for place, (source, target) in enumerate(whole)
            if place not in gone
        ),
        truncated=sum(long) - len(dropped),
        split=0,
        dropped=dropped,
        too_long=len(dropped),
        longest_tokens=max((len(side) for sides in whole for side in sides), default=0),
    )


def tokenized_sides(rows: Sequence[Row], tokenizer: Any) -> Iterator[tuple[Ids, Ids]]:
    """What is read and what is answered of each row, uncut. Raises `UntokenizableRow`."""
    for start in range(0, len(rows), ROWS_PER_CALL):
        sides = [sides_of(row, place) for place, row in enumerate(rows[start : start + ROWS_PER_CALL], start=start)]
        read, answered = (_tokens(tokenizer, texts) for texts in zip(*sides, strict=True))
        yield from zip(read, answered, strict=True)


def _tokens(tokenizer: Any, texts: Sequence[str]) -> list[Ids]:
    ids = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return [np.asarray([*row, tokenizer.eos_token_id], dtype=np.int32) for row in ids]


def _cut(side: Ids, most: int) -> Ids:
    return side if len(side) <= most else np.append(side[: most - 1], side[-1:])


def _example(source: Ids, target: Ids) -> Example:
    return Example(ids=source, labels=target, num_targets=len(target), apart=True)
