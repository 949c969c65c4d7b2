"""An opened run, a local box per test module; the real engine and the emulated cloud for those that need them."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from planner.plan import Plan
from provision.account.ledger import Ledger
from provision.clouds.engine.build import find_engine
from provision.home.places import Places, read_places
from provision.prepare.inputs import find_base
from provision.prepare.opening import open_run
from provision.seam import Box
from provision.ssh import Shell
from tests.doubles import emulator
from tests.doubles.bench import Bench, set_up
from tests.doubles.hosting.machines import lacks
from tests.provision.plans import tiny_files, tiny_plan
from tests.provision.rigs import Rig, rig_of

AWAY: Final = "AWAY-05:45"  # three quarters of an hour too: what is rounded to hours does not look right by luck


@pytest.fixture(scope="module", autouse=True)
def elsewhere() -> Iterator[None]:
    """The machine's own time of day is no cloud's: an instant that is read or written without its zone is hours off here."""
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("TZ", AWAY)
        time.tzset()
        yield
    time.tzset()


@pytest.fixture(scope="session")
def engine() -> Path:
    """The real Pulumi engine, never replaced: a test that finds none fails and says how to build it."""
    found = find_engine(read_places(os.environ))
    if found is None:
        pytest.fail("the Pulumi engine is not built; build it with: make pulumi")
    return found


@pytest.fixture(scope="session")
def with_machines() -> Iterator[Callable[[str], emulator.Emulator]]:
    """An emulated cloud whose instances are machines that boot; where it can't be had, the test fails and says why."""
    with ExitStack() as held:

        @functools.cache
        def at(cloud: str) -> emulator.Emulator:
            if lack := lacks():
                pytest.fail(lack)
            return held.enter_context(emulator.started(cloud, machines=True))

        yield at


@pytest.fixture
def bench_at(
    tmp_path: Path, engine: Path, with_machines: Callable[[str], emulator.Emulator]
) -> Iterator[Callable[[str], Bench]]:
    """Everything of the test's own; the emulated cloud starts and ends empty."""
    with ExitStack() as held:

        def at(cloud: str) -> Bench:
            running = with_machines(cloud)
            held.callback(running.reset)
            return set_up(tmp_path / "bench", engine, running)

        yield at


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A rig for local boxes, shared by a module's tests."""
    with rig_of("local box in a PID namespace", tmp_path_factory.mktemp("rig")) as rig:
        yield rig


@pytest.fixture(scope="module")
def box(rig: Rig) -> Box:
    """A local box that runs."""
    return rig.up()


@pytest.fixture(scope="module")
def shared_shell(rig: Rig, box: Box) -> Iterator[Shell]:
    with rig.connect(box) as shell:
        yield shell


@pytest.fixture
def shell(shared_shell: Shell) -> Shell:
    """A connection to the box; tests that break one open their own."""
    return shared_shell


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A job for this machine that is small enough to be trained by a test."""
    return tiny_plan(*tiny_files(tmp_path))


@pytest.fixture
def ledger(places: Places) -> Ledger:
    return Ledger(places.ledger)


@pytest.fixture
def run_id(plan: Plan, places: Places, ledger: Ledger) -> str:
    """An opened run, for which nothing was rented yet."""
    return open_run(plan, find_base(plan.request.model), places=places, ledger=ledger, clock=time.time)


@pytest.fixture
def place(box: Box, tmp_path: Path) -> str:
    """A folder on the box that no other test uses."""
    folder = Path(box.folder) / tmp_path.name
    folder.mkdir()
    return str(folder)
