"""Set-up tells a person without root what to install, in one sentence; what it installs is pinned and reused."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from provision.aboard.ship import BUILD, REQUIREMENTS

ROOT = Path(__file__).parents[1]


def run_system(folder: Path, tier: str, *, user: int) -> subprocess.CompletedProcess[str]:
    """.ci/system.sh for a user on a machine whose PATH holds a Python and hardly anything else."""
    folder.joinpath("id").write_text(f"#!/bin/sh\necho {user}\n")
    folder.joinpath("id").chmod(0o755)
    environment = {"PATH": str(folder), "PYTHON": sys.executable}
    command = ["/bin/bash", str(ROOT / ".ci" / "system.sh"), tier]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_without_root_one_sentence_says_what_to_install(tmp_path: Path) -> None:
    """No traceback of apt, no half-done set-up."""
    done = run_system(tmp_path, "test", user=1000)
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("Please install ")
    assert "bubblewrap" in sentence
    assert "chromium" in sentence
    assert "sudo apt-get install" in sentence


def test_root_without_apt_gets_the_same_sentence(tmp_path: Path) -> None:
    """Other distributions have the same programs under names of their own."""
    assert run_system(tmp_path, "demo", user=0).stderr.startswith("Please install ")


def test_what_the_next_step_does_not_need_is_not_asked_for(tmp_path: Path) -> None:
    """A plan needs a virtual environment and nothing else."""
    done = run_system(tmp_path, "venv", user=1000)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_environment_carries_the_hash_of_its_lock() -> None:
    """The local box reuses an environment only if it holds exactly the pins that a rented box would get."""
    import remote

    lock = Path(str(remote.__file__)).parent / "requirements.txt"
    assert Path(sys.prefix, "rentune-stack.sha256").read_text().strip() == hashlib.sha256(lock.read_bytes()).hexdigest()


@pytest.mark.parametrize("package", ["peft", "torch", "transformers"])
def test_no_trainer_has_to_compile_what_it_is_made_of(package: str) -> None:
    """Beside every file lies bytecode that Python takes for it: where none may be written, each start would compile it anew."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    stale = [path for path in Path(spec.origin).parent.rglob("*.py") if path.read_bytes() and not has_bytecode(path)]
    assert [path for path in stale if can_be_compiled(path)] == []


def has_bytecode(path: Path) -> bool:
    """Whether Python would take what lies in its cache for this file: same time, same size."""
    cached = Path(importlib.util.cache_from_source(str(path)))
    now = path.stat()
    head = struct.pack("<4sLLL", importlib.util.MAGIC_NUMBER, 0, int(now.st_mtime) & 0xFFFFFFFF, now.st_size & 0xFFFFFFFF)
    return cached.exists() and cached.read_bytes()[:16] == head


def can_be_compiled(path: Path) -> bool:
    """Some packages carry templates of Python files."""
    try:
        compile(path.read_bytes(), path, "exec")
    except SyntaxError:
        return False
    return True


@pytest.mark.parametrize("script", [".ci/run", ".ci/system.sh", ".ci/demo.sh", ".ci/wheel.sh"])
def test_scripts_stop_at_the_first_failure(script: str) -> None:
    """A step that fails is not walked over, and bash can read the file."""
    path = ROOT / script
    assert "set -euo pipefail" in path.read_text()
    assert os.access(path, os.X_OK)
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0


def test_the_stack_without_triton_is_the_same_here_and_on_a_box() -> None:
    """A box has no checkout, so what it runs says it once more."""
    script = (ROOT / ".ci" / "without-triton.sh").read_text()
    (leaves_out,) = re.findall(r"^sed .*$", script, re.MULTILINE)
    assert f'  {leaves_out} "$requirements"' in BUILD
    lock = REQUIREMENTS.read_text()
    left = subprocess.run([ROOT / ".ci" / "without-triton.sh"], input=lock, capture_output=True, text=True, check=True).stdout
    taken = [line for line in lock.splitlines() if line not in set(left.splitlines())]
    assert taken[0].startswith("triton==")
    assert all(line.lstrip().startswith("--hash=") for line in taken[1:])
