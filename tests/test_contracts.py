"""What crosses a border keeps its form: schemas as committed, and values written by an earlier day still read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from tests.contracts import CONTRACTS, SCHEMAS, render_schema

GOLDEN = Path(__file__).parent / "golden"
LINES = [(path.stem, line) for path in sorted(GOLDEN.glob("*.json")) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("name", CONTRACTS)
def test_the_committed_schema_is_the_types_own(name: str) -> None:
    """A change of a contract shows as a change of its schema; `make docs` writes it."""
    assert (SCHEMAS / f"{name}.schema.json").read_text() == render_schema(name)


@pytest.mark.parametrize(("name", "line"), LINES)
def test_a_golden_value_is_read_and_written_unchanged(name: str, line: str) -> None:
    """Everything that was said comes back; only defaults are added."""
    value = msgspec.json.decode(line, type=CONTRACTS[name])
    assert includes(msgspec.json.decode(msgspec.json.encode(value)), msgspec.json.decode(line))
    assert msgspec.json.decode(msgspec.json.encode(value), type=CONTRACTS[name]) == value


@pytest.mark.parametrize(("name", "line"), LINES)
def test_a_golden_value_fits_its_schema(name: str, line: str) -> None:
    """The schema that other programs read accepts what we write."""
    jsonschema.validate(msgspec.json.decode(line), msgspec.json.decode(render_schema(name)))


@pytest.mark.parametrize(("name", "line"), LINES)
def test_a_field_of_a_later_version_is_passed_over(name: str, line: str) -> None:
    """An older program reads what a newer one wrote."""
    later = {**msgspec.json.decode(line), "invented_next_year": {"deep": [1]}}
    assert msgspec.json.decode(msgspec.json.encode(later), type=CONTRACTS[name]) == msgspec.json.decode(
        line, type=CONTRACTS[name]
    )


def test_a_frozen_value_cannot_be_changed() -> None:
    """Nobody fills another stage's blanks."""
    strategy = msgspec.json.decode((GOLDEN / "strategy.json").read_bytes(), type=CONTRACTS["strategy"])
    with pytest.raises(AttributeError):
        strategy.rank = 8


def includes(whole: Any, part: Any) -> bool:
    """Whether all that `part` says stands in `whole` as well."""
    if isinstance(part, dict):
        return all(key in whole and includes(whole[key], value) for key, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(includes, whole, part))
    return bool(whole == part)
