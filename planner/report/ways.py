"""In which ways the rows of the plan table train, where the table has no column for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

from planner.plan import Plan, SearchResult
from planner.report import words
from planner.report.groups import in_order
from planner.report.tables import STRATEGY_WIDTH

BATCH: Final = "batch is sequences a pass x passes a step"


def strategy_lines(result: SearchResult, *, width: int) -> Iterator[str]:
    """The recommended plan's way first, each with the numbers of its rows; nothing where a column has them."""
    if width >= STRATEGY_WIDTH:
        return
    rows: dict[str, list[int]] = {}
    for number, plan in enumerate(plans := in_order(result.rows), start=1):
        rows.setdefault(words.strategy(plan), []).append(number)
    first = result.recommended or plans[0]
    ways = sorted(rows, key=lambda way: way != words.strategy(first))
    first_of_all = ", the recommended first" if len(ways) > 1 and result.recommended is not None else ""
    yield f"How they train{first_of_all} ({BATCH}): {'; '.join(_way(way, rows[way], plans) for way in ways)}."


def _way(way: str, numbers: list[int], plans: list[Plan]) -> str:
    return way if len(numbers) == len(plans) else f"{way} (row{'s' * (len(numbers) > 1)} {', '.join(_spans(numbers))})"


def _spans(numbers: Iterable[int]) -> Iterator[str]:
    """1, 3–5, 8 of 1, 3, 4, 5, 8."""
    numbers = list(numbers)
    starts = [numbers[0], *(after for before, after in pairwise(numbers) if after > before + 1)]
    ends = [*(before for before, after in pairwise(numbers) if after > before + 1), numbers[-1]]
    return (str(start) if start == end else f"{start}–{end}" for start, end in zip(starts, ends, strict=True))
