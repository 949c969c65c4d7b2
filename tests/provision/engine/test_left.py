"""The engine alone dies by kill -9: what it has started is ended, and what is told of the order stays true."""

from __future__ import annotations

import re
from pathlib import Path

import psutil
import pytest

from provision.clouds.engine.left import HOME_MARK, end_left
from provision.clouds.engine.runner import living_engines
from provision.home.places import RunFolder
from tests.doubles.bench import Bench
from tests.provision.engine.killing import PATIENCE_S, controllers, log_folder, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.fault("F8", tier="engine")]
CLOUD = "runpod"  # of the bench
DYNAMIC = "pulumi.dynamic"  # the module that runs a dynamic provider


def home_of(bench: Bench) -> Path:
    return RunFolder(bench.launch.folder).engine / "home"


def of_run(bench: Bench) -> list[psutil.Process]:
    """Every process that carries the run's mark, and lives."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(HOME_MARK) == str(home_of(bench)) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def hosts(bench: Bench) -> list[psutil.Process]:
    """Those that run its dynamic provider."""
    return [process for process in of_run(bench) if DYNAMIC in process.cmdline()]


def engine_killed(bench: Bench, deed: str) -> None:
    """Alone, once its provider is up; its controller goes on to the end of the deed."""
    with controllers(bench) as start:
        controller = start(deed)
        wait_until(lambda: living_engines(log_folder(bench)) and hosts(bench))
        [engine] = living_engines(log_folder(bench))
        engine.kill()
        controller.wait(PATIENCE_S)


def test_of_an_engine_that_was_killed_nothing_runs_on_once_its_order_has_failed(bench: Bench) -> None:
    """A provider that lives on could still order, after everybody has looked. What was there is told as what was seen then."""
    bench.control.set(boot_s=30.0)
    engine_killed(bench, "up")
    assert re.search(
        r"By then runpod listed (nothing|instance pod\d+, for the teardown to end)\.$", bench.errors.read_text().strip()
    )
    assert of_run(bench) == []
    assert bench.provisioner().destroy(bench.launch).verdict == "destroyed"
    assert bench.control.standing() == []


def test_of_an_engine_that_was_killed_in_a_destroy_nothing_runs_on(bench: Bench) -> None:
    """The teardown goes on by the cloud's own list."""
    bench.provisioner().up(bench.row.offer, bench.launch)
    bench.control.set(delete_s=8.0)
    engine_killed(bench, "destroy")
    assert bench.errors.read_text() == ""
    assert bench.listed().nothing
    assert of_run(bench) == []


def test_what_died_with_its_controller_is_ended_by_the_next_call_and_no_other_runs(bench: Bench) -> None:
    """Everything at once, by kill -9; another run's provider lives beside it."""
    bench.control.set(boot_s=60.0)
    other = psutil.Popen(["sleep", "60"], env={HOME_MARK: str(home_of(bench)) + "-of-another"})
    with controllers(bench) as start:
        controller = start("up")
        wait_until(lambda: living_engines(log_folder(bench)) and hosts(bench))
        [engine] = living_engines(log_folder(bench))
        end_left(home_of(bench))
        assert hosts(bench), "what is below an engine that lives is that engine's"
        controller.kill()
        engine.kill()
        controller.wait()
    left = hosts(bench)
    assert left, "it outlives its engine: the very thing that this is about"
    try:
        assert bench.provisioner().destroy(bench.launch).verdict == "destroyed"
        assert of_run(bench) == []
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
