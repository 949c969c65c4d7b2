"""One case of the estimate contract in, one answer out. Nothing is printed and nothing is read here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from catalogs.catalog import Catalog


def answer(line: Mapping[str, Any], catalog: Catalog, base: Path | None) -> dict[str, Any]:
    """The contract's answer to one case: figures, or {"id", "error": {"message", "key", "hint"}}."""
    raise NotImplementedError


def answers(lines: Iterable[str], catalog: Catalog, base: Path | None) -> Iterator[dict[str, Any]]:
    """One answer per JSON line; blank lines are skipped. `base`: where relative paths of models start."""
    raise NotImplementedError
