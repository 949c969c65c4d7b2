"""Rows of known lengths -> the sequences that the trainer makes of them, and how wide its batches are. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final

import msgspec

from planner.asking.request import DataAsked, Profile
from remote.contract import LINES_TOLD, Beginnings, RowsRead

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
def laid_out(num_rows: int, profile: Profile, *, seq_len: int, documents: bool) -> Sequences:
    """The sequences of `num_rows` rows within `seq_len` tokens: conversations are cut at it, documents split into pieces.

    The trainer's rule (remote/data/tokens.py).
    """
    pieces: defaultdict[float, float] = defaultdict(float)  # length -> so many of them per row
    for tokens, share in profile:
        whole, rest = divmod(tokens, seq_len) if documents and tokens > seq_len else (0, min(tokens, seq_len))
        pieces[float(seq_len)] += whole * share
        pieces[rest] += share * (rest > 0)
    per_row = sum(pieces.values())
    shares = tuple((tokens, number / per_row) for tokens, number in sorted(pieces.items()) if number)
    return Sequences(number=round(num_rows * per_row), lengths=shares)


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
    num_longer = len(longer) if _all_known(longer, known.longest, num_rows) else _share_over(seq_len, profile, num_rows)
    return RowsRead(
        used=num_rows - num_late,
        cut=0 if data.documents else max(0, num_longer - num_late),
        left_out=num_late,
        left_out_lines=tuple(sorted(late)[:LINES_TOLD]),
    )


def share_used(data: DataAsked, seq_len: int) -> float:
    """The share of the file's rows that leave something to learn within `seq_len` tokens."""
    if data.beginnings is None or not _over(seq_len, data.beginnings.latest[:1]):
        return 1.0
    read = rows_read(data, seq_len)
    num_rows = read.used + read.left_out
    return read.used / num_rows if num_rows else 0.0


def _over(seq_len: int, rows: Sequence[tuple[int, int | None]]) -> list[int]:
    """The lines of those that need more."""
    return [line for line, tokens in rows if tokens is None or tokens > seq_len]


def _all_known(found: list[int], known: Sequence[tuple[int, int | None]], num_rows: int) -> bool:
    """Whether no row beyond the known ones can be among those found."""
    return len(found) < len(known) or len(known) == num_rows


def _share_over(seq_len: int, profile: Profile, num_rows: int) -> int:
    return round(num_rows * sum(share for tokens, share in profile if tokens > seq_len))


@lru_cache
def padded_mean(lengths: Profile, *, num_drawn: int, per_batch: int, multiple: int) -> float:
    """Tokens that are computed on per sequence, padding included.

    The trainer draws `num_drawn` sequences for a step, sorts them by length and cuts them into batches of `per_batch`; each is
    as wide as its longest sequence, at the next multiple of `multiple`. What is returned is the mean over all draws.
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
