"""`python -m remote check FILE [--model MODEL]`: what a data file holds, before anybody pays for it.

Loads no tokenizer and no numpy until a model is named, so that the planning side may call `check_data` in its own process.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter as Histogram
from collections.abc import Callable, Iterator, Sequence
from heapq import nlargest
from itertools import accumulate, pairwise, takewhile
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from remote.contract import LINES_TOLD, PACK_TOKENS, Beginnings, Value, packs, place_words
from remote.data.byte_tokenizer import num_byte_tokens
from remote.data.labelled import Labelled, NoClasses, classes_of, require_classes
from remote.data.named import NAMED_SO, Columns
from remote.data.rows import (
    Broken,
    Conversation,
    Document,
    Message,
    Row,
    Rows,
    UnreadableData,
    exchanges_of,
    read_rows,
)
from remote.data.seen import SHOWN_ROWS, Seen, seen_by, seen_in_bytes
from remote.data.twins import NO_TWINS, Twins, repeated

# assumed: English text under vocabularies of 32k to 150k. Bytes, since a letter of another script is more of a token:
# of Cyrillic two bytes and about 0.4 tokens a letter, of Chinese three and about 0.7 (Qwen2.5's vocabulary).
BYTES_PER_TOKEN: Final = 3.6
TOKENS_PER_MESSAGE: Final = 5  # assumed: role and turn marks of ChatML and its kin
# Of the system prompt that a template writes where a conversation brings none. measured: 21 under SmolLM2-135M-Instruct in
# the median of 1,600 rows, 2026-11; assumed of Qwen2.5's and Llama 3's, whose templates have 20 to 30.
TOKENS_OF_DEFAULT_SYSTEM: Final = 25
TOKENS_PER_DOCUMENT: Final = 1  # derived: the end-of-sequence token (remote/data/tokens.py)
BUCKETS: Final = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)  # upper ends, in tokens
PACKS_SHOWN: Final = 3
MAX_SHOWN: Final = 20
# Shares of the rows at which a profile is cut: evenly, and ever finer to the top, where a batch's longest row comes from.
# assumed enough: widths of batches follow from it within 3 % (tests/planner/estimators/test_sequences.py)
EVEN_PARTS: Final = 24
HALVINGS: Final = 8
BORDERS: Final = (
    *(part / EVEN_PARTS for part in range(EVEN_PARTS)),
    *(1 - 0.5**halved / EVEN_PARTS for halved in range(1, HALVINGS + 1)),
    1.0,
)
WHOLE_TEACHES: Final = 1  # derived: a label is learned from whatever is left of its text
MARKS_OF_CLASSES: Final = 2  # derived: [CLS] and [SEP] of BERT and its kin; a pair has a [SEP] more
FIRST_THAT_TEACHES: Final = 2  # derived: the first token of a sequence is predicted from nothing
DECIMALS: Final = 3  # of a mean length; without rounding 512 tokens would be a little more, and then 520 in a batch


Basis = Literal[
    "estimated from characters", "counted by the model's tokenizer", "counted as bytes, for the model has no tokenizer"
]
ESTIMATED: Final[Basis] = "estimated from characters"


class Size(NamedTuple):
    """The tokens of a row, and of its beginning up to and with the first token that teaches; None = none does."""

    tokens: int
    to_first_target: int | None
    begins_twice: bool = False  # two beginning-of-sequence tokens: the model has never seen that
    unended: bool = False  # an answer without a token that ends it: the model learns to talk on


class Uncountable(Exception):
    """The tokens of the row at `place` of those that were given can't be counted; the message says why."""

    def __init__(self, why: str, place: int) -> None:
        super().__init__(why)
        self.place = place


class Counter(NamedTuple):
    """A way to tell the tokens of rows: how many each has, what that rests on, and what the model sees of them."""

    sizes: Callable[[Sequence[Row]], list[Size]]
    basis: Basis
    seen: Callable[[Sequence[Row], Sequence[int]], tuple[Seen, ...]] | None = None  # None = nobody knows the template
    templated: bool = True  # whether somebody chose how conversations are written


class Lines(Value, frozen=True, kw_only=True):
    """Some rows of a file."""

    rows: int
    first: tuple[int, ...]  # lines, at most `LINES_TOLD`


NO_LINES: Final = Lines(rows=0, first=())


class DataReport(Value, frozen=True, kw_only=True):
    """The answer, as JSON on standard output. Lengths are those of whole rows, before anything is cut."""

    file: str
    format: str
    rows: int
    broken: tuple[str, ...]  # in the first twenty ways, each with the line of its first, and how many are like it
    more_broken: int = 0  # in other ways
    num_broken: int
    tokens: int
    mean_tokens: float
    max_tokens: int
    histogram: dict[str, int]  # "<= 128": rows with at most so many tokens, and more than the bucket before
    profile: tuple[tuple[float, float], ...]  # see `profile_of`
    exchanges: tuple[float, ...] = ()  # of the rows in each part of it the mean number; none of documents, and of older reports
    basis: Basis
    least_seq_len: int | None = None  # cut any shorter, no row leaves anything to learn; None = not counted
    beginnings: Beginnings | None = None
    repeats: Twins = NO_TWINS  # rows that stand in the file before
    untaught: Lines = NO_LINES  # rows with no token that carries loss
    begin_twice: Lines = NO_LINES  # see `Size`
    unended: Lines = NO_LINES  # see `Size`
    files: tuple[tuple[str, int], ...] = ()  # of several, by which lines are told: see `place_words`
    classes: tuple[tuple[str, int, int], ...] = ()  # of a classification: each label, its rows, and the line of the first
    no_classes: str | None = None  # why nothing can be learned of them
    unread_labels: int = 0  # see `Rows`
    no_template: bool = False  # conversations, and a base without a chat template
    packed: tuple[tuple[int, int, float], ...] = ()  # of some lengths of a row: into how many packing lays all, how full
    seen: tuple[Seen, ...] = ()  # the first rows; empty where the tokens are estimated


def check_data(
    path: Path,
    counter: Counter,
    *,
    more: Sequence[Path] = (),
    kind: str = "auto",
    columns: Columns = NAMED_SO,
    max_rows: int | None = None,
) -> DataReport:
    """Count rows, broken rows and tokens of a file, a folder or a pattern, and of `more` such. Raises `UnreadableData`."""
    rows = read_rows(path, more=more, kind=kind, columns=columns, max_rows=max_rows)
    try:
        sizes = counter.sizes(rows.rows)
        seen = () if counter.seen is None else counter.seen(rows.rows[:SHOWN_ROWS], rows.lines[:SHOWN_ROWS])
    except Uncountable as error:
        line = place_words(rows.lines[error.place], rows.files)
        raise UnreadableData(f"{path.name}, line {line}: {error}") from error
    lengths = [size.tokens for size in sizes]
    buckets = Histogram(next((f"<= {top}" for top in BUCKETS if length <= top), f"> {BUCKETS[-1]}") for length in lengths)
    broken = _alike(rows)
    labels = [*(f"<= {top}" for top in BUCKETS), f"> {BUCKETS[-1]}"]
    return DataReport(
        file=path.name,
        format=rows.format,
        rows=len(rows.rows),
        broken=tuple(map(_told, broken[:MAX_SHOWN])),
        more_broken=sum(map(len, broken[MAX_SHOWN:])),
        num_broken=len(rows.broken),
        tokens=sum(lengths),
        mean_tokens=sum(lengths) / max(1, len(lengths)),
        max_tokens=max(lengths, default=0),
        histogram={label: buckets[label] for label in labels if buckets[label]},
        profile=profile_of(lengths),
        exchanges=_exchanges(rows.rows, lengths),
        basis=counter.basis,
        least_seq_len=None if counter.basis == ESTIMATED else _least(sizes),
        beginnings=_beginnings(rows.lines, sizes),
        repeats=repeated(rows),
        untaught=_those(rows, [size.to_first_target is None for size in sizes]),
        begin_twice=_those(rows, [size.begins_twice for size in sizes]),
        unended=_those(rows, [size.unended for size in sizes]),
        files=rows.files,
        classes=_classes(rows),
        no_classes=_no_classes(rows),
        unread_labels=rows.unread_labels,
        no_template=rows.format == "chat" and not counter.templated,
        packed=() if rows.format == "classification" else tuple(_packed(lengths)),
        seen=seen,
    )


def _alike(rows: Rows) -> list[list[Broken]]:
    """A table with a column of another name is broken in each of its rows, and in one way."""
    ways: dict[tuple[str, str], list[Broken]] = {}
    for each in rows.broken:
        ways.setdefault((each.file, each.why), []).append(each)
    return list(ways.values())


def _told(alike: Sequence[Broken]) -> str:
    return f"{alike[0]}{f' (and {len(alike) - 1:,} like it)' if len(alike) > 1 else ''}"


def _packed(lengths: Sequence[int]) -> Iterator[tuple[int, int, float]]:
    """In rows of the first lengths that hold the longest."""
    least = max(PACK_TOKENS, max(lengths, default=0))
    for room in [top for top in BUCKETS if top >= least][:PACKS_SHOWN] if len(lengths) > 1 else ():
        number = sum(packs(Histogram(lengths), room).values())
        yield room, number, round(sum(lengths) / number / room, DECIMALS)


def _classes(rows: Rows) -> tuple[tuple[str, int, int], ...]:
    first: dict[str, int] = {}
    for line, row in zip(rows.lines, rows.rows, strict=True):
        if isinstance(row, Labelled):
            first.setdefault(row.label, line)
    return tuple((each.name, each.rows, first[each.name]) for each in classes_of(_labelled(rows.rows)))


def _no_classes(rows: Rows) -> str | None:
    labelled = _labelled(rows.rows)
    try:
        require_classes(classes_of(labelled)) if labelled else None
    except NoClasses as error:
        return str(error)
    return None


def _labelled(rows: Sequence[Row]) -> list[Labelled]:
    return [row for row in rows if isinstance(row, Labelled)]


def _those(rows: Rows, which: Sequence[bool]) -> Lines:
    lines = [line for line, marked in zip(rows.lines, which, strict=True) if marked]
    return Lines(rows=len(lines), first=tuple(lines[:LINES_TOLD]))


def _least(sizes: Sequence[Size]) -> int | None:
    return min((size.to_first_target for size in sizes if size.to_first_target is not None), default=None)


def _beginnings(lines: Sequence[int], sizes: Sequence[Size]) -> Beginnings:
    numbered = list(zip(lines, sizes, strict=True))
    longest = nlargest(MAX_SHOWN, numbered, key=lambda row: row[1].tokens)
    latest = nlargest(
        MAX_SHOWN, numbered, key=lambda row: math.inf if row[1].to_first_target is None else row[1].to_first_target
    )
    return Beginnings(
        longest=tuple((line, size.tokens) for line, size in longest),
        latest=tuple((line, size.to_first_target) for line, size in latest),
        profile=profile_of([size.to_first_target for size in sizes if size.to_first_target is not None]),
        longer=tuple(_longer([size.tokens for size in sizes])),
    )


ROUND: Final = (*range(64, 8_192, 64), *range(8_192, 131_073, 1_024))  # assumed: at such lengths rows are cut, by who says one


def _longer(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """How many rows are longer than each round length; fewer than are kept by their lines are counted from those."""
    ordered = sorted(lengths)
    counts = ((tokens, len(ordered) - bisect_right(ordered, tokens)) for tokens in ROUND)
    yield from takewhile(lambda pair: pair[1] >= MAX_SHOWN, counts)


def _exchanges(rows: Sequence[Row], lengths: Sequence[int]) -> tuple[float, ...]:
    """How many exchanges the conversations of each part of the profile have in the mean: into so many one may be split."""
    conversations = [(length, row) for length, row in zip(lengths, rows, strict=True) if isinstance(row, Conversation)]
    numbers = [len(exchanges_of(row)[1]) for _, row in sorted(conversations, key=lambda pair: pair[0])]
    return tuple(mean for mean, _ in parts_of(numbers))


def profile_of(lengths: Sequence[int]) -> tuple[tuple[float, float], ...]:
    """The lengths in a few parts, shortest first: (mean length, share of the rows). Of few rows each is a part of its own."""
    return parts_of(sorted(lengths))


def parts_of(ordered: Sequence[int]) -> tuple[tuple[float, float], ...]:
    """Figures of rows, of the shortest row first, as (mean, share of the rows) of each part of the profile.

    The mean of the parts is that of all rows: a row on a border counts on both sides, by its shares.
    """
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


# ── the ways to count ──────────────────────────────────────────────────────────────────────────────────────────────


def counter_of(tokenizer: Any, template: str | None = None, *, cache: Path | None = None) -> Counter:
    """Exactly, by the tokenizer that will be trained with; `template` as in `DataSource`. The tokens lie in `cache`, where one
    is named: a run that has the same finds them there. Raises `Ended` (bad job) for a template that is none.
    """
    from remote.data.tokens import ready

    templated = ready(tokenizer, template=template)

    def sizes(rows: Sequence[Row]) -> list[Size]:
        from remote.data.kept import CLASSES, WRITTEN, passing_pairs
        from remote.data.tokens import UntokenizableRow, begins_twice, first_target, unended

        if labelled := _labelled(rows):
            return [Size(len(ids), WHOLE_TEACHES) for ids, _ in passing_pairs(labelled, CLASSES, tokenizer, cache)]
        try:
            return [
                Size(len(ids), first_target(labels), begins_twice(ids, tokenizer), unended(ids, labels, tokenizer))
                for ids, labels in passing_pairs(rows, WRITTEN, tokenizer, cache)
            ]
        except UntokenizableRow as error:
            raise Uncountable(str(error), error.place) from error

    def seen(rows: Sequence[Row], lines: Sequence[int]) -> tuple[Seen, ...]:
        return seen_by(rows, lines, tokenizer)

    return Counter(sizes, "counted by the model's tokenizer", seen, templated)


def _in_bytes(row: Row) -> Size:
    """As the byte tokenizer and the plain template make it: a mark ends every turn, and every document."""
    if isinstance(row, Labelled):
        return Size(sum(map(num_byte_tokens, (row.text, *filter(None, (row.pair,))))), WHOLE_TEACHES)
    if isinstance(row, Document):
        return Size(num_byte_tokens(row.text) + 1, FIRST_THAT_TEACHES)
    turns = [num_byte_tokens(message.content) + 1 for message in row.messages]
    answer = next((place for place, message in enumerate(row.messages) if message.role == "assistant"), None)
    return Size(sum(turns), None if answer is None else max(FIRST_THAT_TEACHES, sum(turns[:answer]) + 1))


def _guessed(row: Row) -> Size:
    if isinstance(row, Labelled):
        texts = (row.text, *filter(None, (row.pair,)))
        return Size(sum(map(_tokens_of, texts)) + MARKS_OF_CLASSES + len(texts) - 1, WHOLE_TEACHES)
    if isinstance(row, Document):
        return Size(_tokens_of(row.text) + TOKENS_PER_DOCUMENT, FIRST_THAT_TEACHES)
    answer = next(place for place, message in enumerate(row.messages) if message.role == "assistant")
    return Size(
        _guessed_turns(row.messages), max(FIRST_THAT_TEACHES, _guessed_turns(row.messages[:answer]) + TOKENS_PER_MESSAGE)
    )


def _guessed_turns(messages: Sequence[Message]) -> int:
    system = 0 if any(message.role == "system" for message in messages) else TOKENS_OF_DEFAULT_SYSTEM
    text = "".join(message.content for message in messages)
    return _tokens_of(text) + TOKENS_PER_MESSAGE * len(messages) + system


def _tokens_of(text: str) -> int:
    return round(len(text.encode(errors="replace")) / BYTES_PER_TOKEN)


GUESSED: Final = Counter(lambda rows: [_guessed(row) for row in rows], ESTIMATED)
# Exactly, and without any library: for models of random weights, which are trained over bytes.
BYTES: Final = Counter(
    lambda rows: [_in_bytes(row) for row in rows], "counted as bytes, for the model has no tokenizer", seen_in_bytes
)
