"""Every constant says whether it is measured, derived or assumed, and where from."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import planner
from planner.stack import PINNED_VERSIONS

PLANNER = Path(planner.__path__[0])  # the installed package, which need not stand beside the tests
ROOMS = ["calibration.py", "phases.py", "host.py", "precision.py", "memory/sharding.py", "memory/weights.py", "memory/head.py"]
BASIS = re.compile(r"measured|derived|assumed|fitted|arXiv")


def constants_of(path: Path) -> dict[str, str]:
    """Module-level figures: name -> its own lines and what stands above it without an empty line between."""
    lines = path.read_text().splitlines()
    found = {}
    for node in ast.parse(path.read_text()).body:
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id.isupper()):
            continue
        if not any(isinstance(part, ast.Constant) and isinstance(part.value, int | float) for part in ast.walk(node)):
            continue
        first = node.lineno - 1
        while first > 0 and lines[first - 1].strip():
            first -= 1
        found[node.target.id] = "\n".join(lines[first : node.end_lineno])
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_figure_names_its_basis(room: str) -> None:
    plain = {"ZERO", "FP32", "ONE"}  # names for numbers, not figures
    unsaid = [name for name, text in constants_of(PLANNER / room).items() if not BASIS.search(text) and name not in plain]
    assert unsaid == []


def test_the_pinned_stack_is_the_box_s_lock() -> None:
    """Estimates are made for the releases that the box installs."""
    lock = (PLANNER.parent / "remote/requirements.txt").read_text()
    pinned = dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\\n]+)", lock, re.MULTILINE))
    assert {name: pinned[name] for name in PINNED_VERSIONS} == PINNED_VERSIONS
