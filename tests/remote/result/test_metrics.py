"""Accuracy, macro F1 and AUC, by their definitions."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.contract import confusion_of, figures_of, table_of
from remote.result.metrics import auc, macro_f1, metrics_of


def test_macro_f1_is_the_mean_of_the_classes_however_rare() -> None:
    """Nine of ten right, and yet a class of its own that is never found."""
    said, true = np.zeros(10, dtype=np.int64), np.asarray([0] * 9 + [1])
    assert macro_f1(said, true) == pytest.approx((2 * 9 / (10 + 9) + 0) / 2)


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.2, 0.5, 0.9]), st.booleans()), min_size=2, max_size=30))
def test_auc_is_the_share_of_pairs_in_the_right_order(rows: list[tuple[float, bool]]) -> None:
    scores, true = np.asarray([score for score, _ in rows]), np.asarray([label for _, label in rows])
    pairs = list(product(scores[true], scores[~true]))
    if pairs:
        right = sum(1.0 if one > other else 0.5 if one == other else 0.0 for one, other in pairs)
        assert auc(scores, true) == pytest.approx(right / len(pairs))


def test_without_rows_of_a_class_there_is_no_auc() -> None:
    chances = np.asarray([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]])
    assert metrics_of(chances, [0, 1]) == {"accuracy": 1.0, "macro_f1": 1.0}
    assert metrics_of(chances[:, :2], [0, 1])["auc"] == 1.0


def test_of_each_class_precision_recall_and_f1_follow_from_which_was_taken_for_which() -> None:
    """Three of `a` and one of `b`: two of `a` are taken for it, one for `b`; of `c` there is nothing to tell."""
    confusion = confusion_of([(0, 0), (0, 0), (0, 1), (1, 1)])
    assert confusion == ((0, 0, 2), (0, 1, 1), (1, 1, 1))
    assert table_of(confusion, 3) == ((2, 1, 0), (0, 1, 0), (0, 0, 0))
    assert figures_of(confusion, 3) == ((3, 1.0, 2 / 3, 0.8), (1, 0.5, 1.0, 2 / 3), (0, None, None, None))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30))
def test_the_mean_f1_is_that_of_the_classes_one_by_one(pairs: list[tuple[int, int]]) -> None:
    each = [figures.f1 for figures in figures_of(confusion_of(pairs), 5) if figures.f1 is not None]
    true, said = (np.asarray(side) for side in zip(*pairs, strict=True))
    assert macro_f1(said, true) == pytest.approx(sum(each) / len(each))
