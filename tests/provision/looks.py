"""What `ls` and `down` find where they ask the clouds, stood in for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from provision.charge.ownerless.orphans import Orphans


def let_every_look_find(monkeypatch: pytest.MonkeyPatch, find: Callable[[], Orphans]) -> None:
    """The importer first: imported afterwards it would hold the stand-in for good, and later tests with it."""
    for module in ("commands.ending", "charge.ownerless.looking"):
        monkeypatch.setattr(f"provision.{module}.look_for_orphans", lambda *_, **_edges: find())
