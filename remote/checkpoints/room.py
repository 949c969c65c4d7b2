"""Room for the next checkpoint: looked at before it is written, and made by letting go of the oldest."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from remote.checkpoints.files import steps_in
from remote.contract import EndReason, checkpoint_name
from remote.ends import Ended
from remote.units import MIB

SPARE_BYTES: Final = 64 << 20  # assumed: for events, log and the last words


def make_room(folder: Path, checkpoint_bytes: int, *, keep: Collection[int | None], tell: Callable[[str], object]) -> None:
    """Let go of the oldest checkpoints, those of `keep` apart, until the next one fits beside the newest and the spare room.

    Raises `Ended` (disk full) where even that is not enough: then
    nothing is written, and what is there stays whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    steps = steps_in(folder)
    needed = checkpoint_bytes + SPARE_BYTES
    for step in steps[:-1]:
        free = shutil.disk_usage(folder).free
        if free >= needed:
            return
        if step in keep:
            continue
        shutil.rmtree(folder / checkpoint_name(step))
        tell(f"{free / MIB:,.0f} MiB of disk were free, the next checkpoint needs {needed / MIB:,.0f}, so step {step} went")
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Ended(
            EndReason.DISK_FULL,
            f"{free / MIB:,.0f} MiB of disk are free and a checkpoint needs {needed / MIB:,.0f}; make room, or take a larger "
            f"disk, and go on from {f'step {steps[-1]}' if steps else 'the beginning'}",
        )
