"""The host's side: arenas that hold the bytes of the blocks that travel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from remote.contract import EndReason, arena_bytes
from remote.ends import Ended, first_line
from remote.machine.ram import available_ram_bytes
from remote.units import GIB

MORE_RAM: Final = "take a machine with more, or let blocks wait on its disk (--offload-disk)"
PAGEABLE: Final = "pinned false in the strategy's streaming takes pageable memory, from which each copy waits"


class HostStore:
    """Guards the arenas. They are pinned where a GPU reads them, unless the strategy says otherwise: from pageable memory a
    copy waits, and hides nothing. A limit of locked memory (RLIMIT_MEMLOCK) is none for them: the driver pins them, not this
    process (assumed: containers allow 64 KiB of it, and pin gigabytes; not measured here). What it can't pin it refuses.
    """

    def __init__(self, num_blocks: int, *, pinned: bool, available_bytes: Callable[[], int] = available_ram_bytes) -> None:
        """`available_bytes`: what the machine can still give, or whichever group of it this process is in, if that is less."""
        self._num_left = num_blocks
        self._available_bytes = available_bytes
        self._pinned = pinned
        self._left: Any = None  # of the newest arena
        self.arena_bytes: list[int] = []

    def room(self, size_bytes: int) -> Any:
        """Bytes for one more block, which lie in one piece. Raises `Ended` where this machine has no memory left."""
        if self._left is None or size_bytes > self._left.numel():
            self._left = self._arena(arena_bytes(size_bytes, self._num_left))
        room, self._left = self._left[:size_bytes], self._left[size_bytes:]
        self._num_left -= 1
        return room

    def room_beside(self, size_bytes: int) -> Any:
        """Bytes for one buffer, in an arena of its own. Raises `Ended` as `room` does."""
        return self._arena(arena_bytes(size_bytes, 1))[:size_bytes]

    def _arena(self, size_bytes: int) -> Any:
        import torch

        free_bytes = self._available_bytes()
        if size_bytes > free_bytes:
            raise _too_little(size_bytes, f"{free_bytes / GIB:.1f} are free", MORE_RAM)
        try:
            arena = torch.empty(size_bytes, dtype=torch.uint8, pin_memory=self._pinned)
        except RuntimeError as error:
            raise _too_little(size_bytes, first_line(error), PAGEABLE if self._pinned else MORE_RAM) from error
        self.arena_bytes.append(size_bytes)
        return arena


def _too_little(size_bytes: int, why: str, cure: str) -> Ended:
    return Ended(
        EndReason.OUT_OF_MEMORY,
        f"streaming needs {size_bytes / GIB:.1f} GiB more of RAM for its blocks, pinned at once: {why}; {cure}",
    )
