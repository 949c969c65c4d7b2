"""What a model sees of a row: its text in pieces, each learned or only read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from remote.contract import Value
from remote.data.byte_tokenizer import EOS, num_byte_tokens
from remote.data.labelled import Labelled
from remote.data.rows import Document, Row

if TYPE_CHECKING:
    from remote.data.tokens import Ids

SHOWN_ROWS: Final = 2  # assumed: one to understand the template by, one to see that it was no accident
MOST_CHARACTERS: Final = 600  # of a piece, assumed: a screen is full of four such
GAP: Final = " […] "
NEW_LINE: Final = "\n"  # what ends a turn that is only read


class Piece(Value, frozen=True, kw_only=True):
    text: str  # at most `MOST_CHARACTERS` of it, its middle left out
    learned: bool


class Seen(Value, frozen=True, kw_only=True):
    """A row as the model sees it."""

    line: int
    tokens: int
    learned_tokens: int
    pieces: tuple[Piece, ...]


def seen_by(rows: Sequence[Row], lines: Sequence[int], tokenizer: Any) -> tuple[Seen, ...]:
    """The rows with every mark that template and tokenizer put there. Raises `UntokenizableRow`."""
    from remote.data.classes import marked
    from remote.data.tokens import IGNORED, tokenized

    if labelled := [row for row in rows if isinstance(row, Labelled)]:
        return tuple(
            _classed(line, len(ids), tokenizer.decode(ids.tolist(), skip_special_tokens=False), row)
            for line, row, (ids, _) in zip(lines, labelled, marked(labelled, tokenizer), strict=True)
        )
    written = [row for row in rows if not isinstance(row, Labelled)]
    return tuple(
        Seen(
            line=line,
            tokens=len(ids),
            learned_tokens=int((labels != IGNORED).sum()),
            pieces=tuple(
                Piece(text=shortened(tokenizer.decode(run, skip_special_tokens=False)), learned=learned)
                for learned, run in _runs(ids, labels != IGNORED)
            ),
        )
        for line, (ids, labels) in zip(lines, tokenized(written, tokenizer), strict=True)
    )


def _runs(ids: Ids, learned: Any) -> Iterator[tuple[bool, list[int]]]:
    """Ids between two changes of `learned` ([tokens], bool)."""
    for each, run in groupby(zip(learned.tolist(), ids.tolist(), strict=True), key=lambda pair: pair[0]):
        yield each, [number for _, number in run]


def seen_in_bytes(rows: Sequence[Row], lines: Sequence[int]) -> tuple[Seen, ...]:
    """What is seen of rows by the byte tokenizer and the plain template, without a library."""
    return tuple(_in_bytes(row, line) for row, line in zip(rows, lines, strict=True))


def _classed(line: int, tokens: int, text: str, row: Labelled) -> Seen:
    """Of a labelled row nothing is learned token by token, but its class."""
    pieces = (Piece(text=shortened(text), learned=False), Piece(text=row.label, learned=True))
    return Seen(line=line, tokens=tokens, learned_tokens=0, pieces=pieces)


def _in_bytes(row: Row, line: int) -> Seen:
    if isinstance(row, Labelled):
        texts = (row.text, *filter(None, (row.pair,)))
        return _classed(line, sum(map(num_byte_tokens, texts)), NEW_LINE.join(texts), row)
    turns = [(True, row.text)] if isinstance(row, Document) else [(m.role == "assistant", m.content) for m in row.messages]
    sizes = [(learned, num_byte_tokens(text) + 1) for learned, text in turns]  # a mark ends each
    runs = groupby(turns, key=lambda turn: turn[0])
    return Seen(
        line=line,
        tokens=sum(size for _, size in sizes),
        learned_tokens=sum(size for learned, size in sizes if learned),
        pieces=tuple(
            Piece(text=shortened("".join(f"{text}{EOS if learned else NEW_LINE}" for _, text in run)), learned=learned)
            for learned, run in runs
        ),
    )


def shortened(text: str) -> str:
    """The text, or its two ends."""
    half = (MOST_CHARACTERS - len(GAP)) // 2
    return text if len(text) <= MOST_CHARACTERS else f"{text[:half]}{GAP}{text[-half:]}"
