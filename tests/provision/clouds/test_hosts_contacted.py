"""Whom a run speaks to: every host is on docs/security.md, and a run on this machine, engine included, calls nobody at all."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from provision.clouds.engine.build import PLUGIN_HOSTS
from tests.provision.plans import tiny_files, tiny_texts
from tests.rendered import ROOMS, ROOT, room_folder

PAGE = ROOT / "docs" / "security.md"
RUN = "import sys; from provision.cli import main; sys.exit(main())"
# Names in the code that nobody calls: those of a schema, of a drawing and of a scope, and the forms that the redactor knows.
NOT_CALLED = {"json-schema.org", "www.w3.org", "www.googleapis.com", "hooks.slack.com", "discord"}


def hosts_in_code() -> dict[str, set[str]]:
    """Hosts by the files whose text, comments and docstrings apart, holds an address of theirs."""
    found: dict[str, set[str]] = {}
    for room in ROOMS:
        for path in room_folder(room).rglob("*.py"):
            tree = ast.parse(path.read_text())
            documents = {
                node.body[0].value
                for node in ast.walk(tree)
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
                and node.body
                and isinstance(node.body[0], ast.Expr)
            }
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documents:
                    for host in re.findall(r"https?://([a-z0-9][a-z0-9.-]*)", node.value.replace("\\", "")):
                        found.setdefault(host, set()).add(path.name)
    return found


def hosts_on_page() -> set[str]:
    """The first column of the table of hosts, and whom the box itself asks."""
    section = PAGE.read_text().partition("## What leaves this machine")[2].partition("\n## ")[0]
    table, _, box = section.partition("**The box itself**")
    rows = re.findall(r"^\| ((?:`[a-z0-9.<>*-]+`(?:, )?)+)", table, re.MULTILINE)
    return {*(host for row in rows for host in re.findall(r"`([^`]+)`", row)), *re.findall(r"`([a-z0-9.-]+)`", box)}


def test_every_host_that_the_code_names_is_on_the_page() -> None:
    by_name = set(re.findall(r"[a-z0-9.-]+\.[a-z]+", PLUGIN_HOSTS))  # the engine calls these, by addresses of its own
    assert (set(hosts_in_code()) | by_name) - NOT_CALLED - hosts_on_page() == set()


def tapped(tmp_path: Path, *command: str) -> list[str]:
    """Whom the command tried to reach, in a network of its own where only loopback is real."""
    out = tmp_path / "reached.json"
    tap = ["unshare", "--net", sys.executable, "-W", "ignore", "-m", "tests.doubles.tap", str(out)]
    done = subprocess.run([*tap, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    reached: list[str] = json.loads(out.read_text())
    return reached


@pytest.mark.root
def test_the_tap_hears_an_address_and_a_name(tmp_path: Path) -> None:
    """Else the tests below would prove nothing."""
    code = """
import contextlib, socket
with contextlib.suppress(OSError), socket.socket() as line:
    line.settimeout(0.1)
    line.connect(("192.0.2.7", 443))
with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
    line.sendto(bytes(12) + bytes([3]) + b"abc" + bytes([7]) + b"example" + bytes(5), ("127.0.0.1", 53))
"""
    assert tapped(tmp_path, sys.executable, "-c", code) == ["192.0.2.7:443", "abc.example"]


@pytest.mark.root
@pytest.mark.box
@pytest.mark.torch
def test_a_run_on_this_machine_calls_nobody(tmp_path: Path) -> None:
    """Plan, SSH server, trainer, report: no address and no name, and no telemetry of any library."""
    model, data = tiny_files(tmp_path)
    tiny_texts(data)
    words = ["run", "--model", str(model), "--data", str(data), "--provider", "local", "--seq-len", "64", "--epochs", "1"]
    assert tapped(tmp_path, sys.executable, "-c", RUN, *words, "--optimizer", "adamw_torch", "--yes") == []


@pytest.mark.root
@pytest.mark.engine
def test_the_engine_calls_the_cloud_alone(tmp_path: Path, engine: Path) -> None:
    """A box is made and ended at an emulated AWS on loopback: nothing is looked up or fetched elsewhere."""
    code = """
import sys
from pathlib import Path
from tests.doubles import emulator
from tests.doubles.bench import set_up
with emulator.started() as moto:
    bench = set_up(Path(sys.argv[1]), Path(sys.argv[2]), moto)
    provisioner = bench.provisioner()
    provisioner.up(bench.row.offer, bench.launch)
    assert provisioner.destroy(bench.launch).verdict == "destroyed"
"""
    assert tapped(tmp_path, sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "bench"), str(engine)) == []
