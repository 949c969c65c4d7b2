"""The ground under the tests holds: no skips, no network, nobody's real state folder."""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provision.home.places import Places
from tests.conftest import NetworkUsed

CONFTEST = Path(__file__).with_name("conftest.py")


def test_a_socket_to_anywhere_else_raises() -> None:
    """An address that is not this machine is refused before a packet leaves (198.51.100.0/24 is reserved for documents)."""
    with socket.socket() as stranger, pytest.raises(NetworkUsed):
        stranger.connect(("198.51.100.1", 443))


def test_a_socket_to_loopback_is_let_through() -> None:
    """Two ends on this machine may talk."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5) as client:
        client.sendall(b"x")
        end, _ = server.accept()
        with end:
            assert end.recv(1) == b"x"


def test_each_test_has_a_state_folder_of_its_own(places: Places, tmp_path: Path) -> None:
    """Neither this process nor its children write to the user's ledger."""
    assert places.home.is_relative_to(tmp_path)
    assert os.environ["RENTUNE_HOME"] == str(places.home)


def test_what_is_drawn_does_not_depend_on_the_modules_that_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of ours with a number that nobody would draw by chance changes no example of a test."""
    drawn: list[int] = []

    @settings(max_examples=500, database=None)
    @given(st.integers())
    def draws(number: int) -> None:
        drawn.append(number)

    draws()
    before = drawn.copy()
    (tmp_path / "of_ours.py").write_text(f"NUMBERS = {list(range(987_654_000, 987_654_090))}\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("of_ours")
    drawn.clear()
    draws()
    assert drawn == before


def test_a_skipped_test_fails_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    """A tier that cannot run turns the run red; a tier that is left out by name is named in the last lines."""
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    engine: needs the engine\n    gpu: needs a GPU\n")
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "def test_passes(): pass\n"
        "def test_skips(): pytest.skip('not today')\n"
        "@pytest.mark.engine\n"
        "def test_dear(): raise SystemError\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n0",
        "-m",
        "not engine and not gpu",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd()), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert "1 failed, 1 passed, 1 deselected" in done.stdout
    assert "skipped, which counts as failed here" in done.stdout
    assert "Left out: tests marked engine (needs the engine). `make test` runs them." in done.stdout
    assert "Left out: tests marked gpu (needs a GPU). Nothing of them was run here: `make test-gpu` runs them" in done.stdout


def test_what_is_long_begins_first_and_the_rest_keeps_its_order(tmp_path: Path) -> None:
    """A long test that was begun last would be waited for by idle processes."""
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    long: takes a minute\n")
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "def test_second(): pass\n"
        "def test_third(): pass\n"
        "@pytest.mark.long\n"
        "def test_first(): pass\n"
        "def test_fourth(): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:randomly", "--collect-only", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd()), "PYTEST_ADDOPTS": ""}
    done = subprocess.run([*command, "--rootdir", str(tmp_path)], capture_output=True, text=True, check=True, env=environment)
    named = [line.partition("::")[2] for line in done.stdout.splitlines() if "::" in line]
    assert named == ["test_first", "test_second", "test_third", "test_fourth"]
