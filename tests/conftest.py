"""What every test stands on: a state folder of its own, no network but loopback, and no test that quietly does not run."""

from __future__ import annotations

import gc
import ipaddress
import os
import re
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis.internal.conjecture.providers import HypothesisProvider
from hypothesis.internal.constants_ast import Constants

from provision.home.places import Places, read_places
from tests.doubles.hosting.machines import NETWORK
from tests.doubles.services.bucket import Storage, storage

# The same examples on every machine, and no verdict on speed: a busy machine is not a failure.
hypothesis.settings.register_profile("steady", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.load_profile("steady")
# It draws one value in forty from the numbers and words in those modules of a checkout which are loaded at the time: so a test
# met other examples beside others than by itself, and others in a checkout than against a wheel. No setting turns it off.
HypothesisProvider._local_constants = Constants()  # type: ignore[assignment]

# What is collected stays to the end: nobody need search it for garbage (measured 2026-11-27: 22 s of a core instead of 33).
gc.disable()

# For us and for every process that a test starts.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell lets its background jobs ignore Ctrl-C, and nohup the closed terminal; whatever a test starts would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

RUN_BY = {"gpu": "Nothing of them was run here: `make test-gpu` runs them on a machine with one"}  # by marker

BASE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"


class NetworkUsed(BaseException):
    """A test reached for an address that is not on this machine. No `except Exception` may hide it."""


def _is_here(target: object) -> bool:
    host = target[0] if isinstance(target, tuple) else None
    if not isinstance(host, str):
        return True  # a Unix socket's path, a netlink address
    if host in ("localhost", ""):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address in NETWORK  # namespaces of this machine; nobody's addresses out there


def _refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto") and not _is_here(arguments[1]):
        raise NetworkUsed(f"{event} to {arguments[1]}: tests may use loopback and the machines of tests/doubles only")


sys.addaudithook(_refuse_network)


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """A state folder of the test's own, also for the processes that it starts. The caches stay the user's."""
    monkeypatch.setenv("RENTUNE_HOME", str(tmp_path / "rentune-home"))
    return read_places(os.environ)


@pytest.fixture(scope="session")
def storage_server() -> Iterator[Storage]:
    with storage() as made:
        yield made


@pytest.fixture
def stored(storage_server: Storage, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """Object storage on loopback that this process, and those that it starts, are led to."""
    storage_server.be_well()
    for name, value in storage_server.variables.items():
        monkeypatch.setenv(name, value)
    return storage_server


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """The real pretrained base, SmolLM2-135M-Instruct as GGUF."""
    path = read_places(os.environ).cache / "bases" / BASE_NAME
    if not path.exists():
        pytest.fail(f"{path} is not there; fetch it with: make base")
    return path


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones begin first: one that began last would end with the other processes idle. The rest keeps its order."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test proves nothing and looks green: here it fails. What cannot run is left out by name (`make test-quick`)."""
    report = yield
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which counts as failed here: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say in the last lines what this run left out, and what each of those tests needs."""
    needs = dict(line.split(": ", 1) for line in config.getini("markers") if ": " in line)
    for marker in re.findall(r"not (\w+)", config.getoption("markexpr")):
        runs = RUN_BY.get(marker, "`make test` runs them")
        terminalreporter.write_line(f"Left out: tests marked {marker} ({needs[marker]}). {runs}.")
