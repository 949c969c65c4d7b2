"""What is said of rows that stand twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from remote.contract import FileBefore, place_words

if TYPE_CHECKING:
    from remote.data.twins import Twins


def twins_words(
    twins: Twins, what: str, learned: Sequence[FileBefore], judged: Sequence[FileBefore] | None = None
) -> Iterator[str]:
    """How many rows stand twice, with the first pairs of lines: of the files of `judged`, where
    they are others, and of `learned`.
    """
    again = learned if judged is None else judged
    if twins.rows:
        pairs = ", ".join(f"{place_words(line, again)} as {place_words(first, learned)}" for line, first in twins.first)
        rows = "1 row is" if twins.rows == 1 else f"{twins.rows:,} rows are"
        yield f"{rows} {what} (line {pairs}{', …' * (twins.rows > len(twins.first))})"
