"""What is raised for a file that can't be read."""

from __future__ import annotations

from collections.abc import Sequence


class UnreadableData(Exception):
    """The file as a whole can't be read; the message says why and what to do."""


def require_once(names: Sequence[str], where: str) -> None:
    """Raises `UnreadableData` where two columns have one name, since a row as a mapping would keep either of them."""
    if twice := next((name for name in names if name and names.count(name) > 1), None):
        raise UnreadableData(f"{where}: the header names {twice!r} twice; give each column a name of its own")
