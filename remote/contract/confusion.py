"""Which classes of held-out rows were taken for which, and what follows of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from remote.contract.value import Count

Confusion = tuple[tuple[Count, Count, Count], ...]  # (class of a row, class that it was taken for, rows), without empty pairs

DRAWN_CLASSES: Final = 12  # assumed: more columns than that no page bears


class ClassFigures(NamedTuple):
    """How well one class was told from the others. A share of nothing is None."""

    rows: int  # held out
    precision: float | None  # of the rows taken for it, the share that is
    recall: float | None  # of its rows, the share that was taken for it
    f1: float | None  # 2 · right / (its rows + those taken for it), which is their harmonic mean


def confusion_of(pairs: Iterable[tuple[int, int]]) -> Confusion:
    """Of (class, class that it was taken for) of each row."""
    return tuple((true, said, rows) for (true, said), rows in sorted(Counter(pairs).items()))


def figures_of(confusion: Confusion, num_classes: int) -> tuple[ClassFigures, ...]:
    """Of each class, in their order."""
    rows, taken, right = Counter[int](), Counter[int](), Counter[int]()
    for true, said, number in confusion:
        rows[true] += number
        taken[said] += number
        right[true] += number * (true == said)
    return tuple(
        ClassFigures(
            rows=rows[each],
            precision=_share(right[each], taken[each]),
            recall=_share(right[each], rows[each]),
            f1=_share(2 * right[each], rows[each] + taken[each]),
        )
        for each in range(num_classes)
    )


def table_of(confusion: Confusion, num_classes: int) -> tuple[tuple[int, ...], ...]:
    """Rows by class, and in each the rows by what they were taken for."""
    counted = {(true, said): rows for true, said, rows in confusion}
    return tuple(tuple(counted.get((true, said), 0) for said in range(num_classes)) for true in range(num_classes))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
