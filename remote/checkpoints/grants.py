"""What the controller grants the box in object storage: so many places for checkpoints, each file of each by a signed address.

An address takes a PUT of its one name until the deadline, and nothing else: the box can read nothing there, list nothing and
write nothing beside. It is a secret.
"""

from __future__ import annotations

from typing import Final

from remote.contract import MAX_CHECKPOINTS, AdapterFile, Value

GRANTS_VARIABLE: Final = "RENTUNE_GRANTS"  # a JSON file of `Grants` for the trainer alone, which removes it
NUM_PLACES: Final = (
    MAX_CHECKPOINTS  # derived: the newest and its best stay whole while the next best and the next newest are written
)
WHOLE: Final = "whole.json"  # written last; emptied before its place is written over


class Grants(Value, frozen=True, kw_only=True):
    """One dict per place: file name → address."""

    places: tuple[dict[str, str], ...]


class Whole(Value, frozen=True, kw_only=True):
    """Which checkpoint lies whole in a place."""

    step: int
    best_step: int | None  # the checkpoint that it needs beside it
    files: tuple[AdapterFile, ...]
