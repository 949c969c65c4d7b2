"""Where tests make a controller die. What each death leaves is in tests/faults."""

from __future__ import annotations

import pytest

from provision.errors import BadInput
from provision.walk.crash import MOMENTS, PHASES, POINTS, VARIABLE, read_crash_point, without_crash_point


def test_crash_points_are_the_phases_and_the_moments_around_the_ledgers_lines() -> None:
    """Before and after each phase; a misspelt one is refused rather than passed over."""
    assert read_crash_point({}) is None
    assert read_crash_point({VARIABLE: "train"}) == "train:before"
    assert read_crash_point({VARIABLE: "fetch:after"}) == "fetch:after"
    assert read_crash_point({VARIABLE: "after-intent"}) == "after-intent"
    assert (len(PHASES), len(POINTS)) == (28, 28 + len(MOMENTS))


@pytest.mark.parametrize("asked", ["lunch", "after-lunch", "train:", "after-intent:before"])
def test_one_that_does_not_exist_is_refused_with_those_that_do(asked: str) -> None:
    with pytest.raises(BadInput, match=f"{VARIABLE}={asked} names no crash point") as refused:
        read_crash_point({VARIABLE: asked})
    assert all(point in str(refused.value.hint) for point in POINTS)


def test_who_is_there_for_the_time_after_a_death_does_not_die_of_the_same() -> None:
    """The process that ends a run at its deadline inherits what its starter was told, but for that."""
    assert without_crash_point({VARIABLE: "after-destroy", "HOME": "/home/ada"}) == {"HOME": "/home/ada"}
