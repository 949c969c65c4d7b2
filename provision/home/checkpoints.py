"""A run's checkpoints that are at home, wherever they came from: one has its name there only once it is whole."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from remote.contract import checkpoint_step

COMING: Final = ".coming"  # beside them: what is still on its way


def steps_at_home(home: Path) -> list[int]:
    """Steps whose checkpoint is at home whole, oldest first."""
    return sorted(step for place in home.glob("*") if (step := checkpoint_step(place.name)) is not None)


def adopt(coming: Path, home: Path, wanted: Sequence[str]) -> None:
    """Let what has come take its place, in this order; what is not wanted goes."""
    for name in wanted:
        if not (home / name).exists():
            (coming / name).rename(home / name)
    for place in home.glob("step-*"):
        if place.name not in wanted:
            shutil.rmtree(place)
    shutil.rmtree(coming, ignore_errors=True)


def drop_others(coming: Path, wanted: set[str]) -> None:
    """Remove what an earlier fetch had begun with, and is not wanted any more."""
    for place in coming.glob("*"):
        if place.name not in wanted:
            shutil.rmtree(place) if place.is_dir() else place.unlink()
