"""`python -m remote check FILE [--model MODEL]`: what a data file holds, before anybody pays for it.

Loads no tokenizer and no numpy until a model is named, so that the planning side may call `check_data` in its own process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Final, Literal

from remote.contract import Value
from remote.data.rows import Document, Row, UnreadableData, read_rows

CHARACTERS_PER_TOKEN: Final = 3.6  # assumed: English text under vocabularies of 32k to 150k; code and other scripts have fewer
TOKENS_PER_MESSAGE: Final = 5  # assumed: role and turn marks of ChatML and its kin
TOKENS_PER_DOCUMENT: Final = 1  # derived: the end-of-sequence token (remote/data/tokens.py)
BUCKETS: Final = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)  # upper ends, in tokens
MAX_SHOWN: Final = 20
# Shares of the rows at which a profile is cut: evenly, and ever finer to the top, where a batch's longest row comes from.
# assumed enough: widths of batches follow from it within 3 % (tests/planner/test_sequences.py)
EVEN_PARTS: Final = 24
HALVINGS: Final = 8
BORDERS: Final = (
    *(part / EVEN_PARTS for part in range(EVEN_PARTS)),
    *(1 - 0.5**halved / EVEN_PARTS for halved in range(1, HALVINGS + 1)),
    1.0,
)
DECIMALS: Final = 3  # of a mean length; without rounding 512 tokens would be a little more, and then 520 in a batch


class DataReport(Value, frozen=True, kw_only=True):
    """The answer, as JSON on standard output. Lengths are those of whole rows, before anything is cut."""

    file: str
    format: str
    rows: int
    broken: tuple[str, ...]  # the first twenty, each with its line
    num_broken: int
    tokens: int
    mean_tokens: float
    max_tokens: int
    histogram: dict[str, int]  # "<= 128": rows with at most so many tokens, and more than the bucket before
    profile: tuple[tuple[float, float], ...]  # see `profile_of`
    basis: Literal["estimated from characters", "counted by the model's tokenizer"]


def check_data(path: Path, tokenizer: Any | None, *, kind: str = "auto", max_rows: int | None = None) -> DataReport:
    """Count rows, broken rows and tokens; with a tokenizer exactly, else by characters. Raises `UnreadableData`."""
    rows = read_rows(path, kind=kind, max_rows=max_rows)
    lengths = [_guessed(row) for row in rows.rows] if tokenizer is None else _counted(rows.rows, tokenizer, path.name)
    buckets = Counter(next((f"<= {top}" for top in BUCKETS if length <= top), f"> {BUCKETS[-1]}") for length in lengths)
    labels = [*(f"<= {top}" for top in BUCKETS), f"> {BUCKETS[-1]}"]
    return DataReport(
        file=path.name,
        format=rows.format,
        rows=len(rows.rows),
        broken=tuple(str(broken) for broken in rows.broken[:MAX_SHOWN]),
        num_broken=len(rows.broken),
        tokens=sum(lengths),
        mean_tokens=sum(lengths) / max(1, len(lengths)),
        max_tokens=max(lengths, default=0),
        histogram={label: buckets[label] for label in labels if buckets[label]},
        profile=profile_of(lengths),
        basis="estimated from characters" if tokenizer is None else "counted by the model's tokenizer",
    )


def profile_of(lengths: Sequence[int]) -> tuple[tuple[float, float], ...]:
    """The lengths in a few parts, shortest first: (mean length, share of the rows). Of few rows each is a part of its own.

    The mean of the parts is that of all rows: a row on a border counts on both sides, by its shares.
    """
    ordered = sorted(lengths)
    if len(ordered) < len(BORDERS):
        return tuple((float(length), 1 / len(ordered)) for length in ordered)
    sums = [0, *accumulate(ordered), sum(ordered)]

    def tokens_up_to(border: float) -> float:
        """Tokens of the shortest rows that make such a share of them."""
        whole = int(border * len(ordered))
        return sums[whole] + (border * len(ordered) - whole) * (sums[whole + 1] - sums[whole])

    tokens = [tokens_up_to(border) for border in BORDERS]
    parts = zip(pairwise(tokens), pairwise(BORDERS), strict=True)
    return tuple(
        (round((more - some) / (upper - lower) / len(ordered), DECIMALS), upper - lower)
        for (some, more), (lower, upper) in parts
    )


def _counted(rows: Sequence[Row], tokenizer: Any, name: str) -> list[int]:
    from remote.data.tokens import UntokenizableRow, ready, tokenized

    ready(tokenizer)
    try:
        return [len(ids) for ids, _ in tokenized(rows, tokenizer)]
    except UntokenizableRow as error:
        raise UnreadableData(f"{name}, {error}") from error


def _guessed(row: Row) -> int:
    if isinstance(row, Document):
        return round(len(row.text) / CHARACTERS_PER_TOKEN) + TOKENS_PER_DOCUMENT
    characters = sum(len(message.content) for message in row.messages)
    return round(characters / CHARACTERS_PER_TOKEN) + TOKENS_PER_MESSAGE * len(row.messages)
