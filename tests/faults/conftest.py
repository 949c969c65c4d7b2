"""Faults are injected into real runs: an SSH server on loopback, the trainer as it ships."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.home.places import Places
from tests.faults.rehearsal import Rehearsal


@pytest.fixture
def rehearsal(places: Places, tmp_path: Path) -> Iterator[Rehearsal]:
    """Runs of this test's own; whatever is left of them is ended."""
    made = Rehearsal(places, tmp_path)
    yield made
    made.end_all()
