"""A tier below the RAM: blocks that it shall not hold lie in a file on the disk, and a thread reads them in time."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from remote.contract import EndReason
from remote.ends import Ended, first_line
from remote.units import GIB

Settled = Callable[[], None]  # returns once nothing reads a buffer any more


class Extent(NamedTuple):
    """Where in the file a block lies."""

    start: int
    size_bytes: int


class BlockFile:
    """Guards the file. It has no name, so that it goes with the process however that ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd, name = tempfile.mkstemp(prefix=".blocks-", dir=folder)
        Path(name).unlink()
        weakref.finalize(self, os.close, self._fd)
        self.size_bytes = 0

    def add(self, block: Any) -> Extent:
        """Append the bytes of a block, and have them on the disk. Raises `Ended` (disk full) where it has no room."""
        extent = Extent(self.size_bytes, int(block.numel()))
        free_bytes = shutil.disk_usage(self._folder).free
        if extent.size_bytes > free_bytes:
            raise Ended(
                EndReason.DISK_FULL,
                f"a block that RAM shall not hold takes {extent.size_bytes / GIB:.2f} GiB of disk at {self._folder}, and "
                f"{free_bytes / GIB:.2f} are free",
            )
        self._whole(os.pwritev, block, extent)
        os.fdatasync(self._fd)
        self._forget(extent)
        self.size_bytes += -(-extent.size_bytes // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        return extent

    def read(self, extent: Extent, into: Any) -> None:
        """Fill `into` from the disk; the pages are not kept, for RAM is what there is too little of."""
        self._whole(os.preadv, into, extent)
        self._forget(extent)

    def mapped(self, extent: Extent) -> Any:
        """The bytes as a tensor that takes no RAM of its own until somebody reads it."""
        import torch

        room = mmap.mmap(self._fd, extent.size_bytes, offset=extent.start)
        return torch.frombuffer(room, dtype=torch.uint8)

    def _whole(self, moved: Callable[[int, list[memoryview], int], int], tensor: Any, extent: Extent) -> None:
        view, done = memoryview(tensor.numpy()), 0
        while done < extent.size_bytes:
            try:
                count = moved(self._fd, [view[done:]], extent.start + done)
            except OSError as error:
                raise self._lost(first_line(error)) from error
            if count == 0:
                raise self._lost("their file was cut off")
            done += count

    def _lost(self, why: str) -> Ended:
        return Ended(EndReason.CRASHED, f"blocks that wait on the disk at {self._folder} can't be had: {why}")

    def _forget(self, extent: Extent) -> None:
        os.posix_fadvise(self._fd, extent.start, extent.size_bytes, os.POSIX_FADV_DONTNEED)


class Reader:
    """Guards the buffers that blocks are read into, and are taken from by the lane. One thread reads, in order."""

    def __init__(self, file: BlockFile, extents: dict[int, Extent], buffers: Sequence[Any]) -> None:
        self._file, self._extents = file, extents
        self._buffers = tuple(buffers)
        self._free: list[tuple[int, Settled]] = [(number, _at_once) for number in range(len(self._buffers))]
        self._staged: dict[int, tuple[int, Future[Any]]] = {}  # block → its buffer, and the reading
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="blocks")
        weakref.finalize(self, self._thread.shutdown, wait=False)
        self.read_bytes, self.read_s = 0, 0.0

    @property
    def bytes_per_s(self) -> float | None:
        """How quick the disk has been while it read; None before it has."""
        return self.read_bytes / self.read_s if self.read_s else None

    def expect(self, blocks: Sequence[int]) -> None:
        """Begin to read what is visited next, nearest first, as far as there are buffers; what is wanted later gives way."""
        wanted = [block for block in blocks if block in self._extents][: len(self._buffers)]
        for block in [block for block in self._staged if block not in wanted]:
            self._let_go(block, _at_once)
        for block in wanted:
            if block not in self._staged and self._free:
                self._begin(block)

    def is_read(self, block: int) -> bool:
        """Whether taking it would wait for nothing."""
        return block in self._staged and self._staged[block][1].done()

    def take(self, block: int) -> Any:
        """The bytes of a block, once they are read. Raises `Ended` where the disk does not give them."""
        if block not in self._staged:
            if not self._free:
                self._let_go(next(reversed(self._staged)), _at_once)
            self._begin(block)
        return self._staged[block][1].result()

    def give_back(self, block: int, settled: Settled) -> None:
        """Its buffer may be filled anew, once `settled` returns."""
        self._let_go(block, settled)

    def rest(self) -> None:
        """Wait until all that was begun is read."""
        for _, reading in list(self._staged.values()):
            reading.result()

    def _let_go(self, block: int, settled: Settled) -> None:
        number, _ = self._staged.pop(block)
        self._free.append((number, settled))

    def _begin(self, block: int) -> None:
        number, settled = self._free.pop(0)
        self._staged[block] = number, self._thread.submit(self._read, block, self._buffers[number], settled)

    def _read(self, block: int, buffer: Any, settled: Settled) -> Any:
        """In the thread: one after the other, so a buffer that was let go of in the middle of a reading is filled behind it."""
        settled()
        extent = self._extents[block]
        into, started_s = buffer[: extent.size_bytes], time.perf_counter()
        self._file.read(extent, into)
        self.read_s += time.perf_counter() - started_s
        self.read_bytes += extent.size_bytes
        return into


def _at_once() -> None:
    return


def file_in(folder: Path) -> BlockFile:
    """A new one. Raises `Ended` (bad job) where the folder takes none."""
    try:
        return BlockFile(folder)
    except OSError as error:
        raise Ended(EndReason.BAD_JOB, f"blocks can't lie on the disk at {folder}: {first_line(error)}") from error
