"""A file at home that is there as a whole, or as it was before; and what is said where home can't take one."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from catalogs.written import write_beside
from provision.errors import HomeFailed

# What the person at this machine can do about it; anything else is a question of who may write there.
CURES: Final = {errno.ENOSPC: "Free space there.", errno.EDQUOT: "Free space there, or raise the quota."}
OWNER_ALONE: Final = 0o600  # derived: POSIX's bits for reading and writing by the owner
CURE: Final = "Make it a place that you may write to."


@contextmanager
def at_home(path: Path) -> Iterator[None]:
    """What the block can't read or write below `path`, as HomeFailed: one sentence, and what to do about it.

    A TimeoutError passes: it is the line's.
    """
    try:
        yield
    except TimeoutError:
        raise
    except OSError as error:
        reason = (error.strerror or str(error)).rstrip(".")
        raise HomeFailed(
            f"{path} can't be written on this machine: {reason}.", hint=CURES.get(error.errno or 0, CURE)
        ) from error


def write_whole(path: Path, data: bytes) -> None:
    """Write beside `path`, let the disk have it, and move it into place; readable by its owner alone.

    A crash or a full disk leaves the earlier file, or none. A folder that is not there, or went meanwhile, is made. Raises
    OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_beside(path, data, mode=OWNER_ALONE, synced=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Return when the disk has the folder's names: a new file is lost in a power cut until then.

    One that may be entered and not listed can't be waited for: its names are somebody else's to keep.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
