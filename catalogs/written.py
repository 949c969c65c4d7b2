"""A file that is there as a whole, or as it was before: written beside its place, and moved there."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

FOR_ALL: Final = 0o666  # less what the user's own mask takes away


def require_place(path: Path) -> None:
    """Raise OSError where `write_beside` would for sure, before what is to be written has cost time: a folder is there, or
    none for it, or one that takes no file.
    """
    target = path.resolve()
    if target.is_dir():
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if target.exists() and not target.is_file():
        return
    folder = target.parent
    if not os.access(folder, os.W_OK | os.X_OK) or not folder.is_dir():
        code = errno.ENOENT if not folder.exists() else errno.EACCES if folder.is_dir() else errno.ENOTDIR
        raise OSError(code, os.strerror(code), str(path))


ROOM_BYTES: Final = 2**18  # assumed: a page with its plot has as much; a plan, or a drawing, less


def require_writable(path: Path) -> None:
    """Raise OSError as `require_place`, and where the disk takes no bytes: a full one shows only when something is written."""
    require_place(path)
    target = path.resolve()
    if not target.exists() or target.is_file():
        beside = _beside(target)
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FOR_ALL), "wb") as stream:
                stream.write(bytes(ROOM_BYTES))
        finally:
            with suppress(OSError):
                beside.unlink()


def _beside(target: Path) -> Path:
    """Where nothing else is written; gone again soon."""
    return target.with_name(f".{target.name}.{os.urandom(4).hex()}")


def write_beside(path: Path, data: bytes, *, mode: int = FOR_ALL, synced: bool = False) -> None:
    """Write `data` to `path`, whole or not at all: a full disk, or a crash, leaves the earlier file, or none.

    A file that is there keeps its permissions, and a link the place that it leads to. What is no file, as a pipe, takes the
    bytes as they come. `synced`: the disk has them before they are moved. Raises OSError.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        target.write_bytes(data)
        return
    beside = _beside(target)
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            stream.write(data)
            if synced:
                stream.flush()
                os.fsync(stream.fileno())
        if mode == FOR_ALL and target.exists():
            beside.chmod(target.stat().st_mode)
        beside.replace(target)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
