"""The host's side: arenas that hold the bytes of the blocks that travel."""

from __future__ import annotations

from typing import Any, Final

from remote.contract import EndReason, arena_bytes
from remote.ends import Ended, first_line

GIB: Final = 2**30


class HostStore:
    """Guards the arenas. They are pinned where a GPU reads them: from pageable memory a copy would wait, and hide nothing."""

    def __init__(self, num_blocks: int, *, pinned: bool) -> None:
        self._num_left = num_blocks
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

        free_bytes = _available_bytes()
        if size_bytes > free_bytes:
            raise _too_little(size_bytes, f"{free_bytes / GIB:.1f} are free")
        try:
            arena = torch.empty(size_bytes, dtype=torch.uint8, pin_memory=self._pinned)
        except RuntimeError as error:
            raise _too_little(size_bytes, first_line(error)) from error
        self.arena_bytes.append(size_bytes)
        return arena


def _too_little(size_bytes: int, why: str) -> Ended:
    return Ended(
        EndReason.OUT_OF_MEMORY, f"streaming needs {size_bytes / GIB:.1f} GiB more of RAM for its blocks, pinned at once: {why}"
    )


def _available_bytes() -> int:
    """What the machine can still give, or this process's group of it, whichever is less."""
    import psutil

    from remote.streaming.limits import group_available_bytes

    available = int(psutil.virtual_memory().available)
    group = group_available_bytes()
    return available if group is None else min(available, group)
