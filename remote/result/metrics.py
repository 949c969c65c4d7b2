"""How good the answers of a classification are: accuracy, macro F1, AUC."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np
import numpy.typing as npt

from remote.contract import Confusion, confusion_of

Floats = npt.NDArray[np.float64]


def metrics_of(chances: Floats, labels: Sequence[int]) -> dict[str, float]:
    """`chances` [rows, classes]: of each row how likely each class is. No AUC where a class has no row, or has them all."""
    said, true = chances.argmax(axis=1), np.asarray(labels)
    found = {"accuracy": float((said == true).mean()), "macro_f1": macro_f1(said, true)}
    numbers = range(chances.shape[1])
    if all(0 < int((true == number).sum()) < len(true) for number in numbers):
        judged = numbers if chances.shape[1] > 2 else (1,)
        found["auc"] = fmean(auc(chances[:, number], true == number) for number in judged)
    return found


def taken_for(chances: Floats, labels: Sequence[int]) -> Confusion:
    """Which classes were taken for which, each row for the likeliest."""
    return confusion_of(zip(labels, (int(said) for said in chances.argmax(axis=1)), strict=True))


def macro_f1(said: npt.NDArray[np.int64], true: npt.NDArray[np.int64]) -> float:
    """The mean F1 of all classes that are said or true; the rarest counts as much as the commonest."""
    return fmean(_f1(said == number, true == number) for number in np.union1d(said, true))


def _f1(said: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> float:
    return 2 * int((said & true).sum()) / (int(said.sum()) + int(true.sum()))


def auc(scores: Floats, true: npt.NDArray[np.bool_]) -> float:
    """The chance that a row of the class has a higher score than another row; even scores count a half (Mann, Whitney 1947)."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ends = np.r_[starts[1:], len(ordered)]
    ranks = np.empty(len(scores))
    ranks[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    positive = int(true.sum())
    return float((ranks[true].sum() - positive * (positive + 1) / 2) / (positive * (len(true) - positive)))
