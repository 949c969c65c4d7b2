"""Letters for the sizes of a batch: a block is played once, with letters, and every batch then puts its numbers in.

A letter is an integer beyond any count of bytes (Kronecker's substitution). So plain sums and products keep apart what belongs
to each: 3 * LETTERS.tokens + 5 is three bytes a token and five more. Of two such sizes either may be the larger, by the batch:
`highest` keeps those that can be. Played with numbers instead, the same code gives numbers; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from operator import mul
from typing import Final

import msgspec

DIGIT_BITS: Final = 80  # derived: no job holds 2^79 bytes, of anything
KEPT: Final = 16_384  # assumed: a form has some forty sizes, and a search some dozen forms
_BASE: Final = 1 << DIGIT_BITS  # derived
_HALF: Final = _BASE >> 1  # derived: a digit from here on stands for a negative number


class Sizes(msgspec.Struct, frozen=True):
    """What a batch can have more or less of, as numbers or as letters."""

    tokens: int  # that one GPU computes on at once
    seq_len: int
    learned: int  # positions of learned keys in front of all sequences
    sequences: int  # where each has something of its own, such as a position bias
    chunk: int  # tokens whose logits are made at a time
    scattered: int  # rows of partial sums of an embedding's gradient
    scanned: int  # tokens, with what fills each sequence up to whole chunks of a scan
    workspaces: int = 0  # bytes of cuBLAS's: of the card, not of the batch, so one form does for all cards
    # Of how blocks are streamed, not of the batch either, so one form does for all ways to use the room of a card
    resident: int = 0  # bytes of matrices there, more than where no block resides
    visited: int = 0  # bytes there since a visit serves several micro-batches, or blocks are not computed again


def _letter(place: int) -> int:
    return 1 << (DIGIT_BITS * place)


# derived: a product stands where the sum of its letters' places is: tokens × seq_len at 3, seq_len² at 4, sequences × seq_len²
# at 10
LETTERS: Final = Sizes(
    tokens=_letter(1),
    seq_len=_letter(2),
    learned=_letter(5),
    sequences=_letter(6),
    chunk=_letter(7),
    scattered=_letter(8),
    scanned=_letter(9),
    workspaces=_letter(11),
    resident=_letter(12),
    visited=_letter(13),
)
PLACES: Final = 14  # derived: sequences × seq_len² at 10, and what is not of the batch
_REST: Final = _letter(PLACES)  # what `cut` leaves of each stands so many places further up
_SIGNS: Final = _HALF * sum(_letter(place) for place in range(2 * PLACES))  # derived: set where a digit is negative

Values = tuple[float, ...]  # by place


def values_of(sizes: Sizes, *, cut_into: int = 1) -> Values:
    """What stands for each letter and product of letters in a batch of these sizes, and for what cuts have left of them."""
    tokens, length = sizes.tokens, sizes.seq_len
    squares = length * length
    others = (sizes.learned, sizes.sequences, sizes.chunk, sizes.scattered, sizes.scanned, sizes.sequences * squares)
    whole = (1, tokens, length, tokens * length, squares, *others, sizes.workspaces, sizes.resident, sizes.visited)
    return whole if cut_into == 1 else (*whole, *(value / cut_into for value in whole))


def in_numbers(size: int, values: Values) -> int:
    """A size, with numbers put in for its letters."""
    total: float = sum(map(mul, _digits(size), values))
    return round(total)


def cut(size: int, share: int, of: int) -> int:
    """`share` parts of a size that is cut into `of` equal ones. All cuts of a form are into equally many."""
    if share % of == 0:
        return size * (share // of)
    pairs = (divmod(digit * share, of) for digit in _digits(size))
    return sum((whole + rest * _REST) * _letter(place) for place, (whole, rest) in enumerate(pairs))


@lru_cache(maxsize=KEPT)
def _digits(size: int) -> tuple[int, ...]:
    """How often each letter or product is in a size, by place."""
    digits = []
    while size:
        digit = size % _BASE
        size >>= DIGIT_BITS
        if digit >= _HALF:
            digit -= _BASE
            size += 1
        digits.append(digit)
    return tuple(digits)


def highest(sizes: Iterable[int]) -> tuple[int, ...]:
    """Those that may be the largest in some batch, in their order: of no other all letters count at least as much.

    Such another is the larger integer, too, so it is met before in falling order.
    """
    distinct = dict.fromkeys(sizes)
    kept: list[int] = []
    for size in sorted(distinct, reverse=True):
        for other in kept:
            if not (other - size) & _SIGNS:  # no digit of the difference is negative
                break
        else:
            kept.append(size)
    return tuple(filter(kept.__contains__, distinct))
