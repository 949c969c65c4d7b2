"""What the host of a small model does in a step: far less of it beside graphs that are played."""

from __future__ import annotations

import pytest

from benchmarks.training.host_floor import ARMS, floors, table

pytestmark = pytest.mark.torch


def test_beside_what_is_played_the_host_is_asked_for_less_than_half_of_an_eager_step() -> None:
    """By operations, which are the same on any machine; clipping and optimizer are in them."""
    found = floors(ARMS, steps=1, depth=2)
    asked = {name: floor.operations for name, floor in found.items()}
    assert 0 < asked["played"] < asked["eager"] / 2 < asked["eager"] < asked["eager, blocks computed again"]
    assert asked["played, blocks computed again"] == asked["played"]
    assert [row.split(" | ")[0] for row in table(found)][2:] == [f"| {name}" for name in ARMS]
