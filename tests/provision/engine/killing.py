"""A controller in a process of its own that a test may kill, the engine that it started, and when to strike."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import psutil

from provision.clouds.engine.runner import living_engines
from provision.clouds.programs import load_cloud
from provision.home.places import RunFolder
from tests.doubles.bench import ROOT, Bench

PATIENCE_S: Final = 120.0
Start = Callable[[str], subprocess.Popen[bytes]]  # a deed of tests/doubles/bench.py → the controller that does it


def wait_until(there: Callable[[], object]) -> None:
    ends_at_s = time.monotonic() + PATIENCE_S
    while not there():
        assert time.monotonic() < ends_at_s, "it never came"
        time.sleep(0.05)


def called(bench: Bench, call: str) -> bool:
    return any(line.startswith(call) for line in bench.faults.calls())


def kill_everything(bench: Bench, deed: str, call: str) -> None:
    """Controller and engine at once, as soon as the plugin has been called so."""
    with controllers(bench) as start:
        process = start(deed)
        wait_until(lambda: called(bench, call))
        engine = the_engine(bench)
        process.kill()
        engine.kill()
        process.wait()
        wait_until(lambda: not engine.is_running())


def machine_of(bench: Bench) -> str:
    """What the cloud's plugin calls the resource that bills."""
    return load_cloud(bench.cloud).ADDRESS[0].rpartition(":")[2]


@contextmanager
def controllers(bench: Bench) -> Iterator[Start]:
    """Each in a session of its own; whatever is left of them is killed in the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(deed: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-W", "ignore", "-m", "tests.doubles.bench", msgspec.json.encode(bench).decode(), deed]
        with bench.errors.open("wb") as errors:
            started.append(subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=errors))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
    for left in living_engines(log_folder(bench)):
        left.kill()


def log_folder(bench: Bench) -> Path:
    return RunFolder(bench.launch.folder).engine / "log"


def the_engine(bench: Bench) -> psutil.Process:
    [found] = living_engines(log_folder(bench))
    return found
