"""How many streamed blocks stay on a card: as many as it has room for, found with few questions."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from planner.search.ways.streamed import most_with_room


@given(st.integers(0, 500), st.lists(st.sampled_from([0, 1, 7, 7, 7, 40]), max_size=60), st.integers(0, 70))
def test_as_many_reside_as_leave_a_margin(first: int, taken: list[int], near: int) -> None:
    """Whatever each takes, nothing included: blocks are not all of one size, and another instant may decide at first."""
    margins = list(accumulate(taken, lambda margin, size: margin - size, initial=first))
    assert most_with_room(range(len(margins)), margins.__getitem__, near=near) == sum(margin >= 0 for margin in margins) - 1


def test_what_is_taken_for_the_largest_takes_two_questions_where_it_is() -> None:
    asked: list[int] = []

    def margin_of(number: int) -> int:
        asked.append(number)
        return 1000 - 27 * number

    assert most_with_room(range(62), margin_of, near=37) == 37
    assert len(asked) == 2
