"""A workbench per test, and an emulated cloud that has no machines: most of these tests ask only what it lists."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.doubles import emulator
from tests.doubles.bench import Bench, set_up
from tests.doubles.clouds import CLOUDS

BY_PLUGIN = [name for name, row in CLOUDS.items() if row.double]


@pytest.fixture(scope="session")
def emulated() -> Iterator[Callable[[str], emulator.Emulator]]:
    """Each emulated cloud, started when it is first asked for."""
    with ExitStack() as held:
        yield functools.cache(lambda cloud: held.enter_context(emulator.started(cloud)))


@pytest.fixture
def bench_without_machines(
    tmp_path: Path, engine: Path, emulated: Callable[[str], emulator.Emulator]
) -> Callable[[str], Bench]:
    """Everything of the test's own; the emulated cloud starts empty."""

    def at(cloud: str) -> Bench:
        running = emulated(cloud)
        running.reset()
        return set_up(tmp_path / "bench", engine, running)

    return at


@pytest.fixture
def bench(request: pytest.FixtureRequest, bench_without_machines: Callable[[str], Bench]) -> Bench:
    """At the cloud that the module names, else AWS."""
    return bench_without_machines(getattr(request.module, "CLOUD", "aws"))


@pytest.fixture(params=BY_PLUGIN)
def bench_by_plugin(request: pytest.FixtureRequest, bench_without_machines: Callable[[str], Bench]) -> Bench:
    """At each cloud that a plugin stands for, whose calls a test can stop."""
    return bench_without_machines(request.param)


@pytest.fixture(params=[name for name in BY_PLUGIN if name != "aws"])
def world(request: pytest.FixtureRequest) -> str:
    """Those of them behind which stands our own fake cloud, in the words of each vendor."""
    return str(request.param)


@pytest.fixture
def world_bench(world: str, bench_without_machines: Callable[[str], Bench]) -> Bench:
    return bench_without_machines(world)


@pytest.fixture(params=CLOUDS)
def bench_at_each(request: pytest.FixtureRequest, bench_without_machines: Callable[[str], Bench]) -> Bench:
    """At every cloud."""
    return bench_without_machines(request.param)
