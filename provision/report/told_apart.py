"""How well each class of held-out rows was told from the others, as rows of words."""

from __future__ import annotations

from typing import Final

from catalogs.user_file import printable
from provision.account.receipt.value import Learning
from provision.report.words import NOTHING
from remote.contract import DRAWN_CLASSES, ClassFigures, figures_of, table_of

SHOWN_CLASSES: Final = 20  # assumed: as many lines as a person reads; of more those that were told worst

Words = tuple[str, ...]


def class_rows(learning: Learning) -> tuple[Words, ...]:
    """Class, held-out rows, precision, recall, F1; where there are many, of the ones with the least F1."""
    figures = figures_of(learning.confusion, len(learning.classes))
    told = sorted(zip(learning.classes, figures, strict=True), key=lambda each: _told(each[1]))[:SHOWN_CLASSES]
    shown = {name for name, _ in told}
    return tuple(
        (_named(name), f"{each.rows:,}", _share(each.precision), _share(each.recall), _share(each.f1))
        for name, each in zip(learning.classes, figures, strict=True)
        if name in shown
    )


def confusion_rows(learning: Learning) -> tuple[Words, ...]:
    """Header, then for each class its rows by what they were taken for; nothing where more classes are than a page bears."""
    names, number = learning.classes, len(learning.classes)
    if not learning.confusion or number > DRAWN_CLASSES:
        return ()
    header = ("is, taken for", *map(_named, names))
    counted = zip(names, table_of(learning.confusion, number), strict=True)
    return (header, *((_named(name), *(f"{rows:,}" for rows in row)) for name, row in counted))


def _told(figures: ClassFigures) -> float:
    return 1.0 if figures.f1 is None else figures.f1  # one without rows that none was taken for lacks nothing


def _named(name: str) -> str:
    return printable(name)


def _share(share: float | None) -> str:
    return NOTHING if share is None else f"{share:.3f}"
