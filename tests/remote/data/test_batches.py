"""Which rows make which step, and how they lie in a tensor."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote.data.batches import (
    Drawn,
    Shape,
    batch_of_step,
    collated,
    epoch_order,
    filled,
    longest_batch,
    rows_of_step,
    total_steps,
)
from remote.data.tokens import IGNORED, Example

SHAPE = Shape(micro_batch_size=2, gradient_accumulation_steps=2, seq_len=32, padded=False, pad_token_id=9, device="cpu")


def example(num_tokens: int) -> Example:
    ids = np.arange(num_tokens, dtype=np.int32)
    return Example(ids=ids, labels=ids, num_targets=num_tokens - 1)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 99))
def test_an_epoch_shows_every_row_once(num_examples: int, sequences_per_step: int, seed: int) -> None:
    steps = math.lcm(num_examples, sequences_per_step) // sequences_per_step
    seen = Counter(row for step in range(steps) for row in rows_of_step(step, num_examples, sequences_per_step, seed))
    assert set(seen) == set(range(num_examples))
    assert len(set(seen.values())) == 1


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 99))
def test_by_length_too_an_epoch_shows_every_row_once(num_examples: int, sequences_per_step: int, seed: int) -> None:
    """And a step that was asked for alone, after a restart, has the rows that it would have had."""
    drawn = Drawn(lengths=tuple(1 + row * row % 37 for row in range(num_examples)))
    steps = math.lcm(num_examples, sequences_per_step) // sequences_per_step
    made = [rows_of_step(step, num_examples, sequences_per_step, seed, drawn) for step in range(steps)]
    seen = Counter(row for rows in made for row in rows)
    assert set(seen) == set(range(num_examples))
    assert len(set(seen.values())) == 1
    epoch_order.cache_clear()
    assert rows_of_step(steps - 1, num_examples, sequences_per_step, seed, drawn) == made[-1]


def test_by_length_a_step_has_rows_of_like_length_and_the_steps_come_in_no_order() -> None:
    """In later epochs, too, whose steps do not begin where the epoch does."""
    drawn = Drawn(lengths=tuple(range(1, 403)))
    for epoch in (0, 1):
        steps = [rows_of_step(step, 402, 4, 1, drawn) for step in range(1 + 100 * epoch, 100 + 100 * epoch)]
        spreads = [max(rows) - min(rows) for rows in steps]
        assert sorted(spreads)[len(spreads) // 2] <= 30
        longest = [max(rows) for rows in steps]
        assert sum(one < other for one, other in pairwise(longest)) in range(30, 70)


def test_an_epoch_is_put_in_order_once_and_its_lengths_are_read_no_more() -> None:
    """To hash those of a million rows took 9 ms of each step."""

    class Counted(tuple[int, ...]):
        __slots__ = ()
        hashed = 0

        def __hash__(self) -> int:
            Counted.hashed += 1
            return super().__hash__()

    drawn = Drawn(lengths=Counted(range(1, 101)))
    epoch_order.cache_clear()
    for step in range(25):
        rows_of_step(step, 100, 4, 1, drawn)
    assert (Counted.hashed, epoch_order.cache_info().misses) == (0, 1)


def test_another_seed_and_another_epoch_are_other_orders() -> None:
    orders = {tuple(rows_of_step(step, 20, 20, seed)) for step in (0, 1) for seed in (1, 2)}
    assert len(orders) == 4


@pytest.mark.parametrize(
    ("num_examples", "epochs", "max_steps", "steps"),
    [(100, 3.0, None, 75), (100, 0.5, None, 13), (3, 1.0, None, 1), (100, 3.0, 10, 10), (1, 0.01, None, 1)],
)
def test_steps_cover_the_epochs_asked_for(num_examples: int, epochs: float, max_steps: int | None, steps: int) -> None:
    assert total_steps(num_examples, epochs, max_steps, 4) == steps


@pytest.mark.torch
def test_rows_of_like_length_share_a_micro_batch() -> None:
    batch = batch_of_step(0, [example(n) for n in (3, 9, 4, 8)], SHAPE, 1)
    assert [tuple(micro.input_ids.shape) for micro in batch] == [(2, 9), (2, 4)]
    assert [micro.num_targets for micro in batch] == [8 + 7, 3 + 2]


@pytest.mark.torch
def test_the_longest_batch_is_as_heavy_as_any_step_can_be() -> None:
    batch = longest_batch([example(n) for n in (3, 9, 4, 8, 5)], SHAPE)
    assert [tuple(micro.input_ids.shape) for micro in batch] == [(2, 9), (2, 5)]
    assert len(longest_batch([example(3)], SHAPE)) == 2


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(1, 100))
def test_evaluation_sees_every_row_once_in_batches_that_are_full_and_never_heavier_than_asked(
    lengths: list[int], tokens: int
) -> None:
    batches = filled([example(length) for length in lengths], tokens)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= tokens for batch in batches)
    for batch, following in pairwise(batches):
        assert (len(batch) + 1) * lengths[following[0]] > tokens


@pytest.mark.torch
@pytest.mark.parametrize("padded", [True, False])
def test_padding_lies_on_the_right_and_is_not_learned(padded: bool) -> None:
    shape = Shape(micro_batch_size=2, gradient_accumulation_steps=1, seq_len=32, padded=padded, pad_token_id=9, device="cpu")
    micro = collated([example(2), example(3)], shape)
    assert micro.input_ids.tolist() == [[0, 1, 9], [0, 1, 2]]
    assert micro.labels.tolist() == [[0, 1, IGNORED], [0, 1, 2]]
    assert (None if micro.attention_mask is None else micro.attention_mask.tolist()) == (
        [[1, 1, 0], [1, 1, 1]] if padded else None
    )
