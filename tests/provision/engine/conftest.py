"""The real Pulumi engine, never replaced: a test that finds none fails and says how to build it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.clouds.engine.build import find_engine
from provision.places import read_places
from tests.doubles import emulator
from tests.doubles.bench import Bench, set_up


@pytest.fixture(scope="session")
def engine() -> Path:
    found = find_engine(read_places(os.environ))
    if found is None:
        pytest.fail("the Pulumi engine is not built; build it with: make pulumi")
    return found


@pytest.fixture(scope="session")
def moto() -> Iterator[emulator.Emulator]:
    with emulator.started() as running:
        yield running


@pytest.fixture
def bench(tmp_path: Path, engine: Path, moto: emulator.Emulator) -> Bench:
    """Everything of the test's own; the emulated cloud starts empty."""
    moto.reset()
    return set_up(tmp_path / "bench", engine, moto.environment)
