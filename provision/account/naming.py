"""Which run a person means who types a part of its id."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

LEAST_LETTERS: Final = 4  # assumed: of an id's random end; fewer fit a run that was not meant


def fitting(name: str, run_ids: Collection[str], *, least_letters: int = 1) -> list[str]:
    """The very run, else all whose id begins or ends so; none for a part that is shorter than `least_letters`."""
    if name in run_ids:
        return [name]
    if len(name) < least_letters:
        return []
    return [run_id for run_id in run_ids if run_id.startswith(name) or run_id.endswith(name)]
