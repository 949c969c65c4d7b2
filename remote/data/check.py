"""`python -m remote check FILE [--model FOLDER]`: what a data file holds, before anybody pays for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from remote.contract import Value
from remote.data.rows import Document, Row, UnreadableData, read_rows
from remote.data.tokens import UntokenizableRow, ready, tokenized

CHARACTERS_PER_TOKEN: Final = 3.6  # English text under 32k-150k vocabularies; assumed, replaced by counting with --model
BUCKETS: Final = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)  # upper ends, in tokens
MAX_SHOWN: Final = 20


class DataReport(Value, frozen=True, kw_only=True):
    """The answer, as JSON on standard output."""

    file: str
    format: str
    rows: int
    broken: tuple[str, ...]  # the first twenty, each with its line
    num_broken: int
    tokens: int
    mean_tokens: float
    max_tokens: int
    histogram: dict[str, int]  # "<= 128": rows with at most so many tokens, and more than the bucket before
    basis: str


def check_data(path: Path, tokenizer: Any | None) -> DataReport:
    """Count rows, broken rows and tokens; with a tokenizer exactly, else by characters. Raises `UnreadableData`."""
    rows = read_rows(path)
    try:
        lengths = _counted(rows.rows, tokenizer) if tokenizer is not None else [_guessed(row) for row in rows.rows]
    except UntokenizableRow as error:
        raise UnreadableData(f"{path.name}, {error}") from error
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
        basis="estimated from characters" if tokenizer is None else "counted by the model's tokenizer",
    )


def _counted(rows: Sequence[Row], tokenizer: Any) -> list[int]:
    ready(tokenizer)
    return [len(ids) for ids, _ in tokenized(rows, tokenizer)]


def _guessed(row: Row) -> int:
    texts = [row.text] if isinstance(row, Document) else [message.content for message in row.messages]
    return round(sum(map(len, texts)) / CHARACTERS_PER_TOKEN)
