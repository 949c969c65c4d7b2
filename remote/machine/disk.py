"""How fast the disk writes, by a small file that is forced onto it, and how fast it reads where blocks wait there."""

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
LONG_READ_S: Final = 120.0  # assumed: minutes that are paid before the first step, and worth a word
READ_BYTES: Final = 128 << 20  # assumed: about half a block of 32B in 4 bits, and in place within seconds on most disks
LOW_SHARE: Final = 0.7  # assumed: as of a link; a disk that somebody else uses too varies by less


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


def read_bytes_per_s(
    folder: Path, num_bytes: int = READ_BYTES, *, clock: Callable[[], float] = time.perf_counter
) -> float | None:
    """Bytes a second that the disk of `folder` gives back in one large piece of `num_bytes`, past what the system keeps of it
    in memory; None where it takes none.
    """
    file, piece = folder / PROBE_FILE, os.urandom(PIECE_BYTES)
    try:
        with file.open("w+b", buffering=0) as out:
            for _ in range(num_bytes // PIECE_BYTES):
                out.write(piece)
            os.fsync(out.fileno())
            os.posix_fadvise(out.fileno(), 0, num_bytes, os.POSIX_FADV_DONTNEED)
            into, started_s = bytearray(num_bytes), clock()
            read = os.preadv(out.fileno(), [into], 0)
            return read / max(clock() - started_s, 1e-9)
    except OSError:
        return None
    finally:
        with suppress(OSError):
            file.unlink()


def slow_read_words(bytes_per_s: float | None, *, planned_bytes_per_s: float | None) -> str | None:
    """A sentence where blocks wait on a disk that is far slower than planned; None else, and where nobody knows."""
    if bytes_per_s is None or planned_bytes_per_s is None or bytes_per_s >= LOW_SHARE * planned_bytes_per_s:
        return None
    return (
        f"the disk gives {bytes_per_s / 1e9:.2f} GB/s, the plan counts on {planned_bytes_per_s / 1e9:.2f}: where the blocks "
        f"that wait there decide, a step takes {planned_bytes_per_s / bytes_per_s:.1f} times as long; the probe shows whether "
        "the job still ends in time, and a machine with more RAM or a drive of its own is the cure"
    )


def slow_base_words(bytes_per_s: float | None, *, base_bytes: int | None) -> str | None:
    """A sentence where a base that lies on this disk takes minutes to be read; None else, and where nobody knows."""
    if bytes_per_s is None or base_bytes is None or base_bytes <= LONG_READ_S * bytes_per_s:
        return None
    return (
        f"the disk gives {bytes_per_s / 1e6:,.0f} MB/s, so a base of {base_bytes / 1e6:,.0f} MB takes about "
        f"{base_bytes / bytes_per_s:,.0f} s to be read before the first step; a faster disk begins sooner"
    )


def slow_words(bytes_per_s: float, *, checkpoint_bytes: int, every_s: float, share: float) -> str | None:
    """A sentence where a checkpoint takes more than `share` of the time between two; None where it does not."""
    seconds = checkpoint_bytes / bytes_per_s
    if seconds <= share * every_s:
        return None
    return (
        f"the disk takes {bytes_per_s / 1e6:,.0f} MB/s, so a checkpoint of {checkpoint_bytes / 1e6:,.0f} MB takes about "
        f"{seconds:,.0f} s, one every {every_s:,.0f} s; fewer checkpoints, or a faster disk, leave more time for training"
    )
