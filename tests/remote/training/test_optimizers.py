"""Optimizers by name."""

from __future__ import annotations

from remote.contract import CAPABILITIES
from remote.training.optimizers import OPTIMIZERS


def test_the_table_is_what_the_trainer_says_it_can_do() -> None:
    assert tuple(OPTIMIZERS) == CAPABILITIES.optimizers
