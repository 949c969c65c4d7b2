"""The tape: lifetimes of tensors give saved bytes and peaks, without any constant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.estimators.memory.step.tape import Tape, replay


def test_a_product_of_two_factors_by_hand() -> None:
    """From x come a = f(x), kept; b = g(x); y = a·b keeps both. Sizes 10, 20, 20, 20."""
    tape = Tape()
    x = tape.tensor(10)
    a = tape.op((x,), 20, saves=(x,))
    b = tape.op((x,), 20)
    tape.op((a, b), 20, saves=(a, b))
    profile = replay(tape, x, output_lives=False)
    assert profile.saved == 40  # a and b; x belongs to the caller
    assert profile.saves_input
    assert profile.forward_peak == (60,)
    # backward of the product: both factors, the output's gradient, and a gradient for each factor
    assert profile.backward_peak == (40 + 20 + 20 + 20,)


def test_what_no_backward_needs_dies_after_its_last_reader() -> None:
    tape = Tape()
    x = tape.tensor(8)
    first = tape.op((x,), 100)
    second = tape.op((first,), 100)
    tape.op((second,), 8)
    profile = replay(tape, x, output_lives=False)
    assert profile.saved == 0
    assert profile.plain_peak == profile.forward_peak == (200,)  # never all three


def test_a_residual_hands_its_gradient_on_and_adds_up_in_place() -> None:
    """In y = x + f(x) one gradient is shared by both branches. Once f has used it up, x alone holds it: torch adds to it."""
    tape = Tape()
    x = tape.tensor(10)
    branch = tape.op((x,), 10)
    tape.op((x, branch), 10, passes=True)
    profile = replay(tape, x, output_lives=False)
    assert profile.backward_peak == (10 + 10,)


def test_a_second_gradient_beside_one_that_is_a_view_is_added_up_in_a_third_tensor() -> None:
    """Of two linears that read the same tokens: a linear's gradient is a view of a product, whose storage is not its own."""

    def peak_of(*, views: bool) -> int:
        tape = Tape()
        source = tape.tensor(0)
        x = tape.op((source,), 10)
        left, right = (tape.op((x,), 1, views=views) for _ in ("left", "right"))
        tape.op((left, right), 0, passes=True)
        return max(replay(tape, source, output_lives=False).backward_peak)

    assert peak_of(views=True) == 10 + 10 + 10
    assert peak_of(views=False) == 10 + 10


@pytest.mark.torch
@pytest.mark.parametrize(("product", "in_place"), [("linear", False), ("gelu", True)])
def test_torch_itself_adds_gradients_so(product: str, in_place: bool) -> None:
    """Three uses of one tensor: what autograd calls to sum the first two of their gradients. The third goes into the sum."""
    import torch
    from torch.profiler import profile

    functions = {"linear": lambda x: torch.nn.functional.linear(x, torch.ones(4, 4)), "gelu": torch.nn.functional.gelu}
    x = torch.nn.functional.gelu(torch.ones(2, 3, 4, requires_grad=True))
    loss = sum(functions[product](x).square().sum() for _ in range(3))
    with profile() as seen:
        loss.backward()
    called = {event.key: event.count for event in seen.key_averages()}
    assert (called.get("aten::add", 0), called["aten::add_"]) == ((0, 2) if in_place else (1, 1))


def test_views_keep_their_base_and_join_their_gradients_once() -> None:
    tape = Tape()
    x = tape.tensor(4)
    together = tape.op((x,), 30)
    left, right = tape.split(together, (10, 20))
    tape.op((left, right), 5, saves=(right,))
    profile = replay(tape, x, output_lives=False)
    assert profile.saved == 30  # a view of 20 bytes holds all 30
    assert profile.backward_peak == (30 + 5 + (10 + 20),)  # what is saved, the output's gradient, the parts' gradients


def test_parts_gradients_stand_beside_the_joined_one() -> None:
    tape = Tape()
    x = tape.tensor(4)
    together = tape.op((x,), 30)
    left, right = tape.split(together, (10, 20))
    tape.op((left, right), 5)
    assert replay(tape, x, output_lives=False).backward_peak == ((10 + 20) + 30,)


def test_an_overwritten_gradient_takes_no_room_of_its_own() -> None:
    tape = Tape()
    x = tape.tensor(0)
    logits = tape.op((x,), 100)
    tape.op((logits,), 0, saves=(logits,), backward_scratch=-100)
    assert replay(tape, x, output_lives=False, output_gradient=False).backward_peak == (100,)


def test_weight_gradients_stay() -> None:
    tape = Tape()
    x = tape.tensor(10)
    y = tape.op((x,), 10, saves=(x,), weight_gradient=7)
    tape.op((y,), 10, saves=(y,), weight_gradient=5)
    profile = replay(tape, x, output_lives=False)
    assert profile.weight_gradients == 12
    assert profile.backward_peak == (10 + 5 + 2 * 10,)  # y, the first weight gradient, those of the output and of y


def test_weight_gradients_that_are_added_up_never_stand_together() -> None:
    """Each goes at once into one that stands from the pass before."""
    tape = Tape()
    x = tape.tensor(10)
    y = tape.op((x,), 10, saves=(x,), weight_gradient=7)
    tape.op((y,), 10, saves=(y,), weight_gradient=5)
    profile = replay(tape, x, output_lives=False, adds_up=True)
    assert profile.weight_gradients == 0
    assert profile.backward_peak == (10 + 5 + 2 * 10,)
    assert min(profile.backward_peak) < 10 + 5 + 7 + 2 * 10


@st.composite
def chains(draw: st.DrawFn) -> list[tuple[int, bool]]:
    return draw(st.lists(st.tuples(st.integers(0, 1000), st.booleans()), min_size=1, max_size=12))


@given(chain=chains())
def test_peaks_hold_for_every_chain(chain: list[tuple[int, bool]]) -> None:
    """Saving never lowers a peak, what is saved fits under it, and a living output only adds."""
    tape = Tape()
    x = last = tape.tensor(100)
    for size, saved in chain:
        last = tape.op((last,), size, saves=(last,) if saved else ())
    profile = replay(tape, x, output_lives=False)
    assert profile.plain_peak <= profile.forward_peak
    assert profile.saved <= max(profile.forward_peak)
    assert profile.saved <= max(profile.backward_peak)
    assert replay(tape, x, output_lives=True).backward_peak >= profile.backward_peak
