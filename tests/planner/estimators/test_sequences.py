"""Rows of known lengths, as the trainer lays them out: cut, split, sorted, padded."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.asking.request import DataAsked
from planner.estimators.sequences import MOST_DRAWN, Sequences, counts_exactly, in_packs, laid_out, padded_mean, rows_read
from planner.notices.rows import cut_words
from remote.contract import packed, steps_sorted
from remote.data.batches import EVENLY, Drawn, rows_of_step
from remote.data.check import Size, _beginnings, profile_of

DRAWN = random.Random(7)
LENGTHS = {
    "alike": [512] * 400,
    "short answers": [DRAWN.randint(44, 121) for _ in range(1_600)],
    "a heavy tail": [max(2, int(DRAWN.lognormvariate(5, 1))) for _ in range(4_000)],
    "two kinds": [50] * 900 + [2_000] * 100,
}


def computed_by_trainer(lengths: list[int], *, per_step: int, per_batch: int, multiple: int, order: Drawn = EVENLY) -> float:
    """Tokens per sequence in the trainer's own order: its draws, sorted, each batch as wide as its longest row."""
    num_steps = 4_000 // per_step
    total = 0
    for step in range(num_steps):
        rows = rows_of_step(step, len(lengths), per_step, 1, order)
        drawn = sorted((lengths[row] for row in rows), reverse=True)
        total += sum(math.ceil(drawn[at] / multiple) * multiple * per_batch for at in range(0, per_step, per_batch))
    return total / num_steps / per_step


@pytest.mark.parametrize("kind", LENGTHS)
@pytest.mark.parametrize(("per_step", "per_batch", "multiple"), [(8, 8, 1), (16, 4, 8), (64, 16, 8), (16, 1, 8), (5, 5, 1)])
def test_padding_is_foreseen_as_the_trainer_makes_it(kind: str, per_step: int, per_batch: int, multiple: int) -> None:
    """From a few dozen figures, whatever the lengths look like."""
    lengths = LENGTHS[kind]
    rows = laid_out(len(lengths), profile_of(lengths), seq_len=100_000, long_rows="cut")
    foreseen = padded_mean(rows.lengths, num_drawn=per_step, per_batch=per_batch, multiple=multiple)
    metered = computed_by_trainer(lengths, per_step=per_step, per_batch=per_batch, multiple=multiple)
    assert foreseen == pytest.approx(metered, rel=0.04)


@pytest.mark.parametrize("kind", LENGTHS)
@pytest.mark.parametrize(("per_step", "per_batch"), [(8, 8), (16, 4), (2, 2)])
def test_what_rows_of_like_length_save_is_foreseen(kind: str, per_step: int, per_batch: int) -> None:
    lengths = LENGTHS[kind]
    rows = laid_out(len(lengths), profile_of(lengths), seq_len=100_000, long_rows="cut")
    num_drawn = per_step * steps_sorted(len(lengths), per_step)
    foreseen = padded_mean(rows.lengths, num_drawn=num_drawn, per_batch=per_batch, multiple=1)
    by_length = computed_by_trainer(
        lengths, per_step=per_step, per_batch=per_batch, multiple=1, order=Drawn(lengths=tuple(lengths))
    )
    assert foreseen == pytest.approx(by_length, rel=0.04)
    assert by_length <= computed_by_trainer(lengths, per_step=per_step, per_batch=per_batch, multiple=1)


@pytest.mark.parametrize("kind", LENGTHS)
@pytest.mark.parametrize("room", [256, 512, 2_048])
def test_packs_are_foreseen_as_the_trainer_fills_them(kind: str, room: int) -> None:
    """How many, and how full."""
    lengths = [min(room, length) for length in LENGTHS[kind]]
    foreseen = in_packs(laid_out(len(lengths), profile_of(lengths), seq_len=room, long_rows="cut"), room)
    rows = packed(lengths, room)
    assert foreseen.number == pytest.approx(len(rows), rel=0.04, abs=1)
    assert foreseen.mean == pytest.approx(sum(lengths) / len(rows), rel=0.04)


def test_a_few_rows_are_packed_one_by_one() -> None:
    lengths = [100, 90, 60, 40, 30, 10]
    rows = laid_out(len(lengths), profile_of(lengths), seq_len=100, long_rows="cut")
    assert in_packs(rows, 100).number == len(packed(lengths, 100)) == 4


def test_rows_alike_are_not_padded() -> None:
    """Not by a token."""
    rows = laid_out(400, profile_of([512] * 400), seq_len=512, long_rows="cut")
    assert padded_mean(rows.lengths, num_drawn=16, per_batch=4, multiple=8) == pytest.approx(512)


def test_rows_one_by_one_are_widened_to_the_multiple_alone() -> None:
    rows = laid_out(3, profile_of([9, 16, 17]), seq_len=512, long_rows="cut")
    assert padded_mean(rows.lengths, num_drawn=3, per_batch=1, multiple=8) == pytest.approx((16 + 16 + 24) / 3)


def test_conversations_are_cut_and_documents_split() -> None:
    """A document of 250 tokens makes two sequences of 100 and one of 50; a conversation of 250 makes one of 100."""
    profile = profile_of([250, 40])
    cut = laid_out(2, profile, seq_len=100, long_rows="cut")
    assert cut == Sequences(number=2, lengths=((40, 0.5), (100, 0.5)))
    split = laid_out(2, profile, seq_len=100, long_rows="split")
    assert split == Sequences(number=4, lengths=((40, 0.25), (50, 0.25), (100, 0.5)))
    assert split.number * split.mean == 290


@given(st.lists(st.integers(1, 3_000), min_size=1, max_size=300), st.integers(1, 64), st.integers(1, 64))
def test_padding_only_adds_and_never_beyond_the_longest(lengths: list[int], per_batch: int, num_batches: int) -> None:
    rows = laid_out(len(lengths), profile_of(lengths), seq_len=100_000, long_rows="cut")
    found = padded_mean(rows.lengths, num_drawn=per_batch * num_batches, per_batch=per_batch, multiple=1)
    assert rows.mean == pytest.approx(sum(lengths) / len(lengths), abs=0.01)
    assert rows.mean - 0.01 <= found <= max(lengths) + 0.01


def test_a_step_of_any_size_is_answered() -> None:
    """A larger one than is drawn looks, sorted, like a part of itself."""
    rows = laid_out(4_000, profile_of(LENGTHS["a heavy tail"]), seq_len=100_000, long_rows="cut")
    at_limit, beyond = (
        padded_mean(rows.lengths, num_drawn=number, per_batch=number // 32, multiple=8)
        for number in (MOST_DRAWN, 1_000 * MOST_DRAWN)
    )
    assert beyond == pytest.approx(at_limit)


def test_rows_that_are_cut_are_counted_and_not_shared_out_of_a_profile() -> None:
    """At round lengths exactly, between two of them near it, above them by the longest rows' lines."""
    lengths = [40 * number for number in range(1, 301)]  # up to 12,000 tokens
    sizes = [Size(tokens=tokens, to_first_target=1) for tokens in lengths]
    data = DataAsked(
        num_examples=300,
        mean_tokens=6_020.0,
        max_tokens=12_000,
        profile=profile_of(lengths),
        basis="counted by the model's tokenizer",
        beginnings=_beginnings(range(1, 301), sizes),
    )
    for seq_len in (512, 2_048, 3_008, 4_096, 8_192, 11_264, 11_970):
        assert counts_exactly(data, seq_len)
        assert rows_read(data, seq_len).cut == sum(tokens > seq_len for tokens in lengths), seq_len
        assert str(cut_words(data, seq_len)).startswith(f"{sum(tokens > seq_len for tokens in lengths)} of 300 rows")
    assert not counts_exactly(data, 3_000)
    assert rows_read(data, 3_000).cut == pytest.approx(sum(tokens > 3_000 for tokens in lengths), abs=1)
    assert str(cut_words(data, 3_000)).startswith("about ")
