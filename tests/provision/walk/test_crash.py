"""Where tests make a controller die."""

from __future__ import annotations

import pytest

from provision.errors import BadInput
from provision.walk.crash import POINTS, read_crash_point


def test_crash_points_are_the_phases() -> None:
    """Before and after each; a misspelt one is refused rather than passed over."""
    assert read_crash_point({}) is None
    assert read_crash_point({"RENTUNE_CRASH_AT": "train"}) == "train:before"
    assert read_crash_point({"RENTUNE_CRASH_AT": "fetch:after"}) == "fetch:after"
    assert len(POINTS) == 28
    with pytest.raises(BadInput, match="names no crash point"):
        read_crash_point({"RENTUNE_CRASH_AT": "lunch"})
