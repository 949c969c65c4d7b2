"""SMOTE: new rows between a row and one of its five nearest of the same class, by a seed."""

from __future__ import annotations

import pytest
import torch

from remote.data.smote import drawn_between

pytestmark = pytest.mark.torch


def rows(common: int, rare: int) -> tuple[torch.Tensor, list[int]]:
    """Class 0 about the origin, class 1 far away."""
    chance = torch.Generator().manual_seed(0)
    drawn = torch.randn((common + rare, 3), generator=chance)
    drawn[common:] += 100
    return drawn, [0] * common + [1] * rare


def test_every_class_becomes_as_common_as_the_commonest() -> None:
    drawn, classes = drawn_between(*rows(40, 9), seed=1)
    assert classes == [1] * 31
    assert drawn.shape == (31, 3)


def test_each_lies_on_the_way_from_a_row_to_one_of_its_five_nearest() -> None:
    own, classes = rows(40, 9)
    rare = own[40:].double()
    apart = torch.cdist(rare, rare).fill_diagonal_(torch.inf)
    pairs = [(row, other) for row in range(9) for other in apart[row].topk(5, largest=False).indices.tolist()]
    for each in drawn_between(own, classes, seed=1)[0].double():
        off = [(each - rare[a]).norm() + (each - rare[b]).norm() - (rare[a] - rare[b]).norm() for a, b in pairs]
        assert min(off) < 1e-3


def test_the_same_seed_draws_the_same_and_another_others() -> None:
    first, again, other = (drawn_between(*rows(40, 9), seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_row_of_a_class_has_its_turn() -> None:
    """Of two rows each is begun at equally often, so that what is drawn lies about their middle."""
    own, classes = torch.tensor([[0.0], [1.0], *[[9.0]] * 402]), [1, 1, *[0] * 402]
    assert drawn_between(own, classes, seed=3)[0].mean().item() == pytest.approx(0.5, abs=0.05)


def test_a_class_of_one_row_repeats_it() -> None:
    own, classes = rows(4, 1)
    drawn, _ = drawn_between(own, classes, seed=1)
    assert torch.equal(drawn, own[4:].expand(3, 3))


def test_classes_that_are_alike_in_number_need_none() -> None:
    drawn, classes = drawn_between(*rows(4, 4), seed=1)
    assert (len(drawn), classes) == (0, [])
