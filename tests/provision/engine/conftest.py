"""A workbench per test, and an emulated cloud that has no machines: most of these tests ask only what it lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles import emulator
from tests.doubles.bench import Bench, set_up
from tests.doubles.clouds import CLOUDS


@pytest.fixture(scope="session")
def moto() -> Iterator[emulator.Emulator]:
    with emulator.started() as running:
        yield running


@pytest.fixture(scope="session", params=[name for name, row in CLOUDS.items() if row.double and name != "aws"])
def world(request: pytest.FixtureRequest) -> Iterator[emulator.Emulator]:
    """Our own fake cloud, in the words of each vendor that a plugin stands for."""
    with emulator.started(request.param) as running:
        yield running


@pytest.fixture
def world_bench(tmp_path: Path, engine: Path, world: emulator.Emulator) -> Bench:
    """The same over our own fake cloud."""
    world.reset()
    return set_up(tmp_path / "bench", engine, world)


@pytest.fixture
def bench(tmp_path: Path, engine: Path, moto: emulator.Emulator) -> Bench:
    """Everything of the test's own; the emulated cloud starts empty."""
    moto.reset()
    return set_up(tmp_path / "bench", engine, moto)
