"""Checkpoints as files: which there are, how large, whether whole, and how a file gets onto the disk for certain."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from remote.contract import PROGRESS_FILE, WEIGHTS_FILE, checkpoint_step


def steps_in(folder: Path) -> list[int]:
    """Steps that have a checkpoint, oldest first."""
    return sorted(step for place in folder.glob("*") if (step := checkpoint_step(place.name)) is not None)


def is_checkpoint(folder: Path) -> bool:
    """Whether it is the folder of one, by its files."""
    return (folder / WEIGHTS_FILE).is_file() and (folder / PROGRESS_FILE).is_file()


def bits_of(tensor: Any) -> Any:
    """The same tensor as bytes: a NaN is equal to itself there."""
    import torch

    return tensor.reshape(-1).contiguous().view(torch.uint8)


class Hashing:
    """A file that is written from its beginning to its end, and hashed on the way."""

    def __init__(self, path: Path) -> None:
        self._file, self._digest = path.open("wb"), hashlib.sha256()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def write(self, piece: Any) -> int:
        self._digest.update(piece)
        return self._file.write(piece)

    def flush(self) -> None:
        self._file.flush()

    @property
    def sha256(self) -> str:
        """Of what was handed over, whatever the disk made of it."""
        return self._digest.hexdigest()


def fsynced(path: Path) -> int:
    """Force a file to the disk, and out of memory, so that whoever reads it reads the disk; returns its size in bytes."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return os.fstat(file.fileno()).st_size


def fsynced_folder(folder: Path) -> None:
    """Force a rename in `folder` to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    making = path.with_name(f".{path.name}.making")
    making.write_bytes(content)
    fsynced(making)
    making.replace(path)
    fsynced_folder(path.parent)
