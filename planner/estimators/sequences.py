"""Rows of known lengths -> the sequences that the trainer makes of them, and how wide its batches are. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, repeat
from typing import Final

import msgspec

from planner.asking.request import DataAsked, Profile
from remote.contract import LINES_TOLD, SMOTE, Beginnings, LongRows, RowsRead, packs

MOST_PACKED: Final = 4_096  # assumed: that so many sequences fill rows as all of them do
PARTS_OF_PACKS: Final = 32  # assumed: nearly all are full, so that few figures tell how full
NO_ROW: Final = 1e-9  # derived: a smaller share than any row's, which is what rounding leaves of none
MOST_DRAWN: Final = 512  # assumed: a larger step looks, once sorted, like so many of its sequences


UNCOUNTED: Final = Beginnings(longest=(), latest=(), profile=())


class Sequences(msgspec.Struct, frozen=True):
    """What the model is trained on or judged by: how many sequences, and which share of them has which length."""

    number: int
    lengths: Profile

    @property
    def mean(self) -> float:
        """Tokens of a sequence in the mean."""
        return sum(tokens * share for tokens, share in self.lengths)


@lru_cache  # a search asks for the same rows on every machine
def laid_out(
    num_rows: int,
    profile: Profile,
    *,
    seq_len: int,
    long_rows: LongRows,
    exchanges: tuple[float, ...] = (),
    share_left_out: float = 0.0,
) -> Sequences:
    """The sequences of `num_rows` rows that are used, within `seq_len` tokens: longer ones are cut, split or dropped.

    The trainer's rule (remote/data/tokens.py). `exchanges`: of conversations, how many the rows of each part of the profile
    have, for they are split between them; a document is split anywhere. `share_left_out`: of all rows those that are not
    among the `num_rows`; they are told as longer ones, which is wrong of a short row without an answer.
    """
    longer = sum(share for tokens, share in profile if tokens > seq_len)
    stays = 1 - min(1.0, share_left_out / longer) if longer else 1.0
    pieces: defaultdict[float, float] = defaultdict(float)  # length -> so many of them per row
    used = 0.0
    for (tokens, of_all), most in zip(profile, exchanges or repeat(math.inf), strict=False):
        parts = [(tokens, 1.0)] if tokens <= seq_len else [*_LONG[long_rows](tokens, seq_len, most)]
        share = of_all * (stays if tokens > seq_len else 1.0)
        used += share * bool(parts)
        for length, number in parts:
            pieces[length] += number * share
    per_row = sum(pieces.values())
    shares = tuple((tokens, number / per_row) for tokens, number in sorted(pieces.items()) if number > NO_ROW * per_row)
    return Sequences(number=round(num_rows * per_row / used) if used else 0, lengths=shares or ((float(seq_len), 1.0),))


@lru_cache
def in_packs(rows: Sequences, seq_len: int) -> Sequences:
    """The same sequences as the trainer packs them: several in a row of at most `seq_len` tokens, by the same function.

    Of more than a few thousand so many stand for all, see `_spread`. Known error: within 4 %.
    """
    if not rows.number:
        return rows
    drawn = min(rows.number, MOST_PACKED)
    found = packs(Counter(_spread(rows.lengths, drawn, seq_len)), seq_len)
    fills = sorted(sum(row) for row, number in found.items() for _ in range(number))
    parts = [fills[at : at + -(-len(fills) // PARTS_OF_PACKS)] for at in range(0, len(fills), -(-len(fills) // PARTS_OF_PACKS))]
    return Sequences(
        number=math.ceil(len(fills) * rows.number / drawn),
        lengths=tuple((sum(part) / len(part), len(part) / len(fills)) for part in parts),
    )


def _spread(lengths: Profile, number: int, seq_len: int) -> Iterator[int]:
    """So many lengths, drawn evenly. The sequences of a part are as long as those in the parts beside it, so many as these
    and so many as those that its mean stays: where two lengths meet in one part, no sequence has that mean.
    """
    means = [tokens for tokens, _ in lengths]
    borders = list(accumulate(share for _, share in lengths))
    for drawn in range(number):
        at = (drawn + 0.5) / number * borders[-1]
        part = min(bisect_left(borders, at), len(means) - 1)
        mean, share = lengths[part]
        beside = means[max(0, part - 1) : part + 2]
        if len(beside) == 3 and share * number >= 2 and mean < seq_len and beside[2] > beside[0]:
            longer = (mean - beside[0]) / (beside[2] - beside[0])
            mean = beside[2] if borders[part] - at < longer * share else beside[0]
        yield min(seq_len, max(1, round(mean)))


def _cut(_tokens: float, seq_len: int, _exchanges: float) -> Iterator[tuple[float, float]]:
    yield float(seq_len), 1.0


def _split(tokens: float, seq_len: int, exchanges: float) -> Iterator[tuple[float, float]]:
    """A document into full pieces and a rest. A conversation into pieces alike, as many as it needs, or has exchanges for."""
    if math.isinf(exchanges):
        whole, rest = divmod(tokens, seq_len)
        yield float(seq_len), whole
        if rest:
            yield rest, 1.0
    else:
        number = max(1.0, min(math.ceil(tokens / seq_len), exchanges))
        yield min(float(seq_len), tokens / number), number


def _drop(_tokens: float, _seq_len: int, _exchanges: float) -> Iterator[tuple[float, float]]:
    return iter(())


_LONG: Final[Mapping[LongRows, Callable[[float, int, float], Iterator[tuple[float, float]]]]] = {
    "cut": _cut,
    "split": _split,
    "drop": _drop,
}


def rows_read(data: DataAsked, seq_len: int) -> RowsRead:
    """What becomes of the file's rows, held-out ones of it included, within `seq_len` tokens. The trainer's rule.

    Exact where few rows are cut; where they are more than are known one by one, by the shares of the rows' lengths.
    """
    num_rows = data.num_examples + (data.held_out_rows if data.held_out_path is None else 0)
    known = data.beginnings or UNCOUNTED
    late = _over(seq_len, known.latest)
    num_late = len(late) if _all_known(late, known.latest, num_rows) else _share_over(seq_len, known.profile, num_rows)
    longer = _over(seq_len, known.longest)
    profile = data.profile or ((float(data.max_tokens), 1.0),)
    if _all_known(longer, known.longest, num_rows):
        num_longer = len(longer)
    else:
        counted = _counted_over(seq_len, known.longer)
        num_longer = _share_over(seq_len, profile, num_rows) if counted is None else min(num_rows, counted)
    fate = data.fate_of_long
    if fate == "drop":
        lost = sorted({*late, *longer})
        num_lost = min(num_rows, max(num_longer, num_late, len(lost)))
        return RowsRead(
            used=num_rows - num_lost,
            cut=0,
            left_out=num_lost,
            left_out_lines=tuple(lost[:LINES_TOLD]),
            too_long=min(num_longer, num_lost),
            files=data.files,
        )
    num_long = max(0, num_longer - num_late)
    num_split = round(num_long * _share_split(data, seq_len)) if fate == "split" else 0
    return RowsRead(
        used=num_rows - num_late,
        cut=num_long - num_split,
        left_out=num_late,
        left_out_lines=tuple(sorted(late)[:LINES_TOLD]),
        split=num_split,
        files=data.files,
    )


def _share_split(data: DataAsked, seq_len: int) -> float:
    """Of the rows that are longer: those that have a place to be split at. A document has, a single exchange has none."""
    longer = [
        (share, exchanges)
        for (tokens, share), exchanges in zip(data.profile, data.exchanges or repeat(math.inf), strict=False)
        if tokens > seq_len
    ]
    shares = sum(share for share, _ in longer)
    return sum(share * min(1.0, exchanges - 1) for share, exchanges in longer) / shares if shares else 1.0


def packed_rows(data: DataAsked, seq_len: int) -> tuple[Sequences, Sequences]:
    """What is trained on, before it is packed and then."""
    fate = data.fate_of_long
    share = share_used(data, seq_len)
    profile, used = data.profile or ((data.mean_tokens, 1.0),), round(data.num_examples * share)
    left_out = share_left_out(data, seq_len)
    rows = laid_out(used, profile, seq_len=seq_len, long_rows=fate, exchanges=data.exchanges, share_left_out=left_out)
    return rows, in_packs(rows, seq_len)


def share_used(data: DataAsked, seq_len: int) -> float:
    """The share of the file's rows that leave something to learn within `seq_len` tokens."""
    fate = data.fate_of_long
    if data.beginnings is None and fate == "drop" and data.profile:
        return sum(share for tokens, share in data.profile if tokens <= seq_len)
    if data.beginnings is None or not (
        _over(seq_len, data.beginnings.latest[:1]) or (fate == "drop" and _over(seq_len, data.beginnings.longest[:1]))
    ):
        return 1.0
    read = rows_read(data, seq_len)
    num_rows = read.used + read.left_out
    return read.used / num_rows if num_rows else 0.0


def share_left_out(data: DataAsked, seq_len: int) -> float:
    """The share of the file's rows of which a cut leaves nothing to learn; where longer rows are dropped none is looked for."""
    return 0.0 if data.fate_of_long == "drop" else 1 - share_used(data, seq_len)


def times_shown(data: DataAsked) -> float:
    """How often a row is shown in an epoch, in the mean: rows of rarer classes several times, where they are oversampled
    or others are drawn between them.
    """
    if data.reading.balance not in ("oversampling", SMOTE) or not data.classes:
        return 1.0
    counts = [rows for _, rows, _ in data.classes]
    return max(counts) * len(counts) / sum(counts)


def share_judged(data: DataAsked, seq_len: int) -> float:
    """Likewise of the held-out rows: those that are too long, and to be dropped, judge nothing."""
    profile = data.held_out_profile or data.profile
    if data.fate_of_long != "drop" or not profile:
        return 1.0
    return sum(share for tokens, share in profile if tokens <= seq_len)


def _over(seq_len: int, rows: Sequence[tuple[int, int | None]]) -> list[int]:
    """The lines of those that need more."""
    return [line for line, tokens in rows if tokens is None or tokens > seq_len]


def _all_known(found: list[int], known: Sequence[tuple[int, int | None]], num_rows: int) -> bool:
    """Whether no row beyond the known ones can be among those found."""
    return len(found) < len(known) or len(known) == num_rows


def counts_exactly(data: DataAsked, seq_len: int) -> bool:
    """Whether it is known of each row if it is longer: all of those are kept by their lines, or were counted at that length."""
    known = data.beginnings or UNCOUNTED
    longer, late = _over(seq_len, known.longest), _over(seq_len, known.latest)
    is_counted = len(longer) < len(known.longest) or any(tokens == seq_len for tokens, _ in known.longer)
    return is_counted and len(late) < len(known.latest)


def _counted_over(seq_len: int, counts: Sequence[tuple[int, int]]) -> int | None:
    """How many rows are longer, as counted at that length or between the round ones beside it; None where none was counted."""
    after = bisect_left(counts, seq_len, key=lambda pair: pair[0])
    if after < len(counts) and counts[after][0] == seq_len:
        return counts[after][1]
    if not 0 < after < len(counts):
        return None
    (low, more), (high, fewer) = counts[after - 1], counts[after]
    return round(more - (more - fewer) * (seq_len - low) / (high - low))


def _share_over(seq_len: int, profile: Profile, num_rows: int) -> int:
    return round(num_rows * sum(share for tokens, share in profile if tokens > seq_len))


@lru_cache
def padded_mean(lengths: Profile, *, num_drawn: int, per_batch: int, multiple: int) -> float:
    """Tokens that are computed on per sequence, padding included.

    The trainer draws `num_drawn` sequences for a step, or for several, sorts them by length and cuts them into batches of
    `per_batch`; each is as wide as its longest sequence, at the next multiple of `multiple`. What is returned is the mean over
    all draws.
    """
    shrink = max(1.0, num_drawn / MOST_DRAWN)
    drawn, together = max(1, round(num_drawn / shrink)), max(1, round(per_batch / shrink))
    widths = [math.ceil(tokens / multiple) * multiple for tokens, _ in lengths]
    within = list(accumulate(share for _, share in lengths))[:-1]  # the share of sequences up to each length but the last
    below = [_fewer_than(drawn, share) for share in within]
    total = 0.0
    for rank in range(drawn, 0, -together):  # of each batch's longest sequence, counted from the shortest of the step
        rises = (chance[rank] * (wider - width) for chance, width, wider in zip(below, widths, widths[1:], strict=False))
        total += min(together, rank) * (widths[0] + sum(rises))
    return total / drawn


def _fewer_than(number: int, share: float) -> list[float]:
    """The chances that of `number` draws fewer than 0, 1, … `number` fall into a part with this share."""
    log_all, log_in, log_out = math.lgamma(number + 1), math.log(share), math.log1p(-share)
    exactly = (
        math.exp(log_all - math.lgamma(k + 1) - math.lgamma(number - k + 1) + k * log_in + (number - k) * log_out)
        for k in range(number)
    )
    return [0.0, *accumulate(exactly)]
