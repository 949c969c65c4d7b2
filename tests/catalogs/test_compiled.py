"""A parsed catalog that is kept is the catalog, or is passed over."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

import pytest

from catalogs import compiled
from catalogs.catalog import DATA, Catalog, CatalogError, read_catalog
from catalogs.compiled import read_compiled


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """A copy of the shipped tables."""
    return shutil.copytree(DATA, tmp_path / "data")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "catalog"


def forbid_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(_folder: Path) -> Catalog:
        raise AssertionError("the tables were parsed again")

    monkeypatch.setattr(compiled, "read_catalog", parse)


def test_what_comes_back_is_the_catalog(tables: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = read_catalog(tables)
    assert read_compiled(kept, tables) == parsed
    forbid_parsing(monkeypatch)
    assert read_compiled(kept, tables) == parsed


def test_a_disk_that_takes_only_half_of_it_is_left_as_it_was(tables: Path, kept: Path) -> None:
    """The catalog is there all the same, nothing half lies about, and what was kept before stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        assert read_compiled(kept, tables) == read_catalog(tables)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(kept.parent.iterdir()) == []


def test_a_table_that_has_changed_is_read_again(tables: Path, kept: Path) -> None:
    before = read_compiled(kept, tables)
    prices = tables / "prices.csv"
    lines = prices.read_text().splitlines(keepends=True)
    prices.write_text("".join(lines[:-1]))
    after = read_compiled(kept, tables)
    assert len(after.offers) < len(before.offers)
    assert after == read_catalog(tables)


def test_a_table_that_has_broken_is_told(tables: Path, kept: Path) -> None:
    read_compiled(kept, tables)
    (tables / "gpus.csv").unlink()
    with pytest.raises(CatalogError):
        read_compiled(kept, tables)


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda _data: b"", lambda data: data.replace(b"gpus", b"GPUS")])
def test_a_damaged_file_is_passed_over(tables: Path, kept: Path, damage: object) -> None:
    parsed = read_compiled(kept, tables)
    kept.write_bytes(damage(kept.read_bytes()))  # type: ignore[operator]
    assert read_compiled(kept, tables) == parsed


def test_a_place_that_takes_no_file_is_passed_over(tables: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert read_compiled(tmp_path / "file" / "catalog", tables) == read_catalog(tables)


def test_nothing_else_is_left_beside_it(tables: Path, kept: Path) -> None:
    read_compiled(kept, tables)
    assert [each.name for each in kept.parent.iterdir()] == [kept.name]
