"""How streamed blocks lie in host memory: in arenas, so that pinning wastes next to nothing. Both sides count by this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

# derived: the grain of torch's CUDA allocator, and more than any dtype asks for; each tensor of a block begins at one
STREAMED_GRAIN_BYTES: Final = 512
# derived: torch rounds each pinned request up to a power of two, so arenas are powers of two; eight are small enough that a
# machine which is nearly full still finds them
MAX_ARENA_BYTES: Final = 8 * 2**30
# derived: while one block that was read from the disk goes on to a slot, the next is being read
NUM_STAGED: Final = 2


def arena_bytes(block_bytes: int, num_left: int) -> int:
    """Bytes of the next arena for `num_left` blocks of this size: the largest power of two that they fill, at most 8 GiB."""
    filled = min(MAX_ARENA_BYTES, 1 << (num_left * block_bytes).bit_length() - 1)
    return filled if filled >= block_bytes else 1 << (block_bytes - 1).bit_length()


def arenas(blocks: Sequence[int]) -> tuple[int, ...]:
    """Bytes of every arena for blocks of these sizes, in their order; a block lies in one piece."""
    made: list[int] = []
    left = 0
    for number, block_bytes in enumerate(blocks):
        if block_bytes > left:
            left = arena_bytes(block_bytes, len(blocks) - number)
            made.append(left)
        left -= block_bytes
    return tuple(made)


def evenly_spaced(num_blocks: int, num_chosen: int) -> frozenset[int]:
    """Which of the blocks are chosen, to stay on the GPU or to wait on the disk: evenly spaced, so that what is fetched hides
    behind the others alike.
    """
    return frozenset((2 * index + 1) * num_blocks // (2 * num_chosen) for index in range(num_chosen))


def parted(blocks: Sequence[int], num_on_disk: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The sizes of blocks that pass by, parted in those that wait in RAM and those that wait on the disk, evenly spaced too."""
    on_disk = evenly_spaced(len(blocks), min(len(blocks), num_on_disk))
    in_ram = tuple(size for number, size in enumerate(blocks) if number not in on_disk)
    return in_ram, tuple(size for number, size in enumerate(blocks) if number in on_disk)


def staged(on_disk: Sequence[int]) -> tuple[int, ...]:
    """Bytes of each buffer that blocks of these sizes are read into from the disk."""
    return (max(on_disk),) * min(NUM_STAGED, len(on_disk)) if on_disk else ()


def waiting_bytes(blocks: Sequence[int], num_on_disk: int) -> int:
    """RAM that blocks of these sizes wait in, with so many of them on the disk and the buffers that those are read into."""
    in_ram, on_disk = parted(blocks, num_on_disk)
    return sum(arenas(in_ram)) + sum(arena_bytes(size, 1) for size in staged(on_disk))
