"""The CUDA caching allocator as arithmetic: births and deaths in, what the driver would have handed out.

Follows c10/cuda/CUDACachingAllocator.cpp of torch 2.11 to 2.15 with its default settings (no expandable segments, no
split limit). Addresses are assumed to grow with every segment; they only decide between free blocks of equal size.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import Final

from planner.units import MIB, rounded

# derived: the constants of the same names in CUDACachingAllocator.cpp
MIN_BLOCK_BYTES: Final = 512  # kMinBlockSize
SMALL_BYTES: Final = MIB  # kSmallSize: requests up to here come from small segments
SMALL_SEGMENT_BYTES: Final = 2 * MIB  # derived: kSmallBuffer
LARGE_SEGMENT_BYTES: Final = 20 * MIB  # derived: kLargeBuffer
MIN_LARGE_BYTES: Final = 10 * MIB  # derived: kMinLargeAlloc: from here on a segment is made to measure
ROUND_LARGE_BYTES: Final = 2 * MIB  # derived: kRoundLarge


def segment_bytes(block_bytes: int) -> int:
    """What is asked of the driver when no free block holds `block_bytes` (already rounded)."""
    if block_bytes <= SMALL_BYTES:
        return SMALL_SEGMENT_BYTES
    if block_bytes < MIN_LARGE_BYTES:
        return LARGE_SEGMENT_BYTES
    return -(-block_bytes // ROUND_LARGE_BYTES) * ROUND_LARGE_BYTES


@dataclass(eq=False, slots=True)
class Block:
    """A stretch of a segment, free or in use, between its neighbours."""

    address: int
    size_bytes: int
    small: bool
    free: bool = True
    before: Block | None = None
    after: Block | None = None

    @property
    def whole_segment(self) -> bool:
        return self.before is None and self.after is None


@dataclass(slots=True)
class _Pool:
    """The free blocks of one kind of segment."""

    # (bytes, address): best fit first, lowest address first. Plain tuples, since a trace makes a quarter of a million of them
    places: list[tuple[int, int]] = field(default_factory=list)
    blocks: dict[int, Block] = field(default_factory=dict)  # by address

    def add(self, block: Block) -> None:
        insort(self.places, (block.size_bytes, block.address))
        self.blocks[block.address] = block

    def remove(self, block: Block) -> None:
        del self.places[bisect_left(self.places, (block.size_bytes, block.address))]
        del self.blocks[block.address]

    def best_fit(self, size_bytes: int) -> Block | None:
        at = bisect_left(self.places, (size_bytes, 0))
        return self.blocks[self.places[at][1]] if at < len(self.places) else None


class Allocator:
    """Memory of one GPU. Every figure in bytes."""

    def __init__(self) -> None:
        self.allocated_bytes = self.peak_allocated_bytes = 0
        self.reserved_bytes = self.peak_reserved_bytes = 0
        self._next_address = ROUND_LARGE_BYTES
        self._pools = {True: _Pool(), False: _Pool()}  # by "small"
        self._in_use: dict[int, Block] = {}

    def allocate(self, key: int, size_bytes: int) -> int:
        """Hand out a block, and say how large it is; `key` names it until it is released."""
        wanted = max(MIN_BLOCK_BYTES, rounded(size_bytes))
        small = wanted <= SMALL_BYTES
        pool = self._pools[small]
        block = pool.best_fit(wanted)
        if block is None:
            block = self._segment(wanted, small=small)
        else:
            pool.remove(block)
        self._split(block, wanted)
        block.free = False
        self._in_use[key] = block
        self.allocated_bytes += block.size_bytes
        self.peak_allocated_bytes = max(self.peak_allocated_bytes, self.allocated_bytes)
        return block.size_bytes

    def release(self, key: int) -> None:
        """Take a block back and join it with its free neighbours."""
        block = self._in_use.pop(key)
        self.allocated_bytes -= block.size_bytes
        pool = self._pools[block.small]
        if (before := block.before) is not None and before.free:
            pool.remove(before)
            block.address, block.before = before.address, before.before
            block.size_bytes += before.size_bytes
            if block.before is not None:
                block.before.after = block
        if (after := block.after) is not None and after.free:
            pool.remove(after)
            block.after = after.after
            block.size_bytes += after.size_bytes
            if block.after is not None:
                block.after.before = block
        block.free = True
        pool.add(block)

    def empty_cache(self) -> None:
        """Give every wholly free segment back to the driver, as torch.cuda.empty_cache does."""
        for pool in self._pools.values():
            for block in [block for block in pool.blocks.values() if block.whole_segment]:
                pool.remove(block)
                self.reserved_bytes -= block.size_bytes

    def _segment(self, block_bytes: int, *, small: bool) -> Block:
        size = segment_bytes(block_bytes)
        block = Block(self._next_address, size, small)
        self._next_address += size
        self.reserved_bytes += size
        self.peak_reserved_bytes = max(self.peak_reserved_bytes, self.reserved_bytes)
        return block

    def _split(self, block: Block, wanted: int) -> None:
        """Cut off what `wanted` leaves over, where the rest is worth keeping (`should_split`)."""
        rest = block.size_bytes - wanted
        if rest < MIN_BLOCK_BYTES if block.small else rest <= SMALL_BYTES:
            return
        tail = Block(block.address + wanted, rest, block.small, before=block, after=block.after)
        if block.after is not None:
            block.after.before = tail
        block.after, block.size_bytes = tail, wanted
        self._pools[block.small].add(tail)
