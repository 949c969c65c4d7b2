"""The fault list and the tests that show it agree: docs/faults.md, row by row."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/faults.md"
ROWS = [f"F{number}" for number in range(1, 27)]
# Where the list itself says that a row needs the engine or a box.
MUST_BE = {
    **dict.fromkeys(("F3", "F4", "F5", "F6", "F7", "F8", "F21", "F22", "F25"), "engine"),
    **dict.fromkeys(("F10", "F11", "F12", "F13", "F18", "F19", "F20"), "box"),
}
CARRIES = {"engine": {"engine"}, "box": {"box", "root"}, "code": set()}  # tier → a marker that a test of it has


class Row(NamedTuple):
    fault: str
    must_hold: str
    tier: str
    open: str


class Shown(NamedTuple):
    """A mark at a test: the row, the tier, and the test's other markers."""

    fault: str
    tier: str
    test: str
    markers: frozenset[str]


def rows() -> dict[str, Row]:
    found = re.findall(r"^\| (F\d+) \| (.+?) \| (.+?) \| (\w+) \|(.*?)\|$", PAGE.read_text(), re.MULTILINE)
    return {row: Row(fault, must_hold, tier, open.strip()) for row, fault, must_hold, tier, open in found}


def shown() -> Iterator[Shown]:
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        module = ast.parse(file.read_text())
        everywhere = frozenset(_names(_assigned(module, "pytestmark")))
        for test in (each for each in module.body if isinstance(each, ast.FunctionDef)):
            markers = everywhere.union(*(_names(decorator) for decorator in test.decorator_list))
            for mark in filter(_is_fault, test.decorator_list):
                assert isinstance(mark, ast.Call)
                [row], [tier] = mark.args, mark.keywords
                yield Shown(ast.literal_eval(row), ast.literal_eval(tier.value), f"{file.name}::{test.name}", markers)


def _assigned(module: ast.Module, name: str) -> ast.AST:
    values = [each.value for each in module.body if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == name]
    return values[0] if values else ast.Module(body=[], type_ignores=[])


def _names(node: ast.AST) -> set[str]:
    """Every X of a `pytest.mark.X` in it."""
    return set(re.findall(r"pytest\.mark\.(\w+)", ast.unparse(node)))


def _is_fault(decorator: ast.expr) -> bool:
    return "fault" in _names(decorator)


SHOWN = tuple(shown())


def test_the_list_has_its_rows_once_and_in_order() -> None:
    """F1 to F26, each with a fault and what must hold."""
    assert re.findall(r"^\| (F\d+) \|", PAGE.read_text(), re.MULTILINE) == ROWS
    assert list(rows()) == ROWS
    assert {row: rows()[row].tier for row in MUST_BE} == MUST_BE


def test_rows_named_by_tests_are_the_rows_of_the_list() -> None:
    """None is missing on either side: an open part excuses no row from having a test."""
    assert {each.fault for each in SHOWN} == set(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_shown_in_its_tier(row: str) -> None:
    """At least one of its tests is of the tier that the table names."""
    tiers = defaultdict(list)
    for each in SHOWN:
        tiers[each.fault, each.tier].append(each.test)
    assert tiers[row, rows()[row].tier], f"no test of the tier {rows()[row].tier} shows {row}"


def test_a_test_of_a_tier_carries_its_marker() -> None:
    """Else it would be left out with the wrong ones, or prove less than it says."""
    assert [each for each in SHOWN if CARRIES.get(each.tier) != set() and not each.markers & CARRIES[each.tier]] == []
