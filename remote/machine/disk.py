"""How fast the disk writes, by a small file that is forced onto it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

PIECE_BYTES: Final = 4 << 20
MOST_BYTES: Final = 32 << 20  # assumed: past what a small disk takes into its own memory, and written in a fraction of a second
MOST_S: Final = 1.0  # assumed: a slow disk has shown itself by then
PROBE_FILE: Final = ".write-probe"


def write_bytes_per_s(folder: Path, *, clock: Callable[[], float] = time.perf_counter) -> float | None:
    """Bytes a second that reach the disk of `folder`, each piece forced there; None where it takes none: its first real write
    says why.
    """
    file, piece = folder / PROBE_FILE, os.urandom(PIECE_BYTES)  # nothing that a file system could leave out or make small
    written, started_s = 0, clock()
    try:
        with file.open("wb", buffering=0) as out:
            while written < MOST_BYTES and clock() - started_s < MOST_S:
                written += out.write(piece)
                os.fsync(out.fileno())
    except OSError:
        return None
    finally:
        with suppress(OSError):
            file.unlink(missing_ok=True)
    return written / max(clock() - started_s, 1e-9)


def slow_words(bytes_per_s: float, *, checkpoint_bytes: int, every_s: float, share: float) -> str | None:
    """A sentence where a checkpoint takes more than `share` of the time between two; None where it does not."""
    seconds = checkpoint_bytes / bytes_per_s
    if seconds <= share * every_s:
        return None
    return (
        f"the disk takes {bytes_per_s / 1e6:,.0f} MB/s, so a checkpoint of {checkpoint_bytes / 1e6:,.0f} MB takes about "
        f"{seconds:,.0f} s, one every {every_s:,.0f} s; fewer checkpoints, or a faster disk, leave more time for training"
    )
