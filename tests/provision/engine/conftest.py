"""A workbench per test, and an emulated cloud that has no machines: most of these tests ask only what it lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles import emulator
from tests.doubles.bench import Bench, set_up


@pytest.fixture(scope="session")
def moto() -> Iterator[emulator.Emulator]:
    with emulator.started() as running:
        yield running


@pytest.fixture
def bench(tmp_path: Path, engine: Path, moto: emulator.Emulator) -> Bench:
    """Everything of the test's own; the emulated cloud starts empty."""
    moto.reset()
    return set_up(tmp_path / "bench", engine, moto.environment)
