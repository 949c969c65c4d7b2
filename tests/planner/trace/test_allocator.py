"""The caching allocator's arithmetic: what is asked of the driver, what is handed out again, what is kept."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from planner.estimators.trace.allocator import Allocator, segment_bytes
from planner.units import MIB


def test_small_requests_share_a_segment_of_two_mebibytes() -> None:
    allocator = Allocator()
    for key in range(4):
        allocator.allocate(key, MIB // 2)
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (2 * MIB, 2 * MIB)


def test_requests_between_one_and_ten_mebibytes_come_from_segments_of_twenty() -> None:
    allocator = Allocator()
    for key in range(6):
        allocator.allocate(key, 3 * MIB)
    assert allocator.reserved_bytes == 20 * MIB


def test_large_requests_are_made_to_measure_in_steps_of_two_mebibytes() -> None:
    allocator = Allocator()
    allocator.allocate(0, 31 * MIB + 512)
    assert allocator.reserved_bytes == 32 * MIB


def test_every_block_is_a_multiple_of_512_bytes() -> None:
    allocator = Allocator()
    allocator.allocate(0, 1)
    allocator.allocate(1, 513)
    assert allocator.allocated_bytes == 512 + 1024


def test_a_freed_block_is_handed_out_again_whole_or_in_parts() -> None:
    """A second, smaller tensor takes no new memory; the rest of the block stays free beside it."""
    allocator = Allocator()
    allocator.allocate(0, 40 * MIB)
    allocator.release(0)
    allocator.allocate(1, 30 * MIB)
    allocator.allocate(2, 10 * MIB)
    assert (allocator.reserved_bytes, allocator.allocated_bytes) == (40 * MIB, 40 * MIB)


def test_the_smallest_block_that_fits_is_taken() -> None:
    """A 30 MiB tensor leaves the 60 MiB block alone, so that a 60 MiB tensor finds it afterwards."""
    allocator = Allocator()
    for key, size in enumerate((60, 32)):
        allocator.allocate(key, size * MIB)
    allocator.release(0)
    allocator.release(1)
    allocator.allocate(2, 30 * MIB)
    allocator.allocate(3, 60 * MIB)
    assert allocator.reserved_bytes == 92 * MIB


def test_free_neighbours_join() -> None:
    allocator = Allocator()
    allocator.allocate(0, 60 * MIB)
    allocator.release(0)
    for key in (1, 2, 3):
        allocator.allocate(key, 20 * MIB)
    for key in (1, 3, 2):
        allocator.release(key)
    allocator.allocate(4, 60 * MIB)
    assert allocator.reserved_bytes == 60 * MIB


def test_a_large_block_is_not_cut_for_a_rest_of_a_mebibyte() -> None:
    """The whole block counts as allocated then, in torch's own statistics, too."""
    allocator = Allocator()
    allocator.allocate(0, 12 * MIB)
    allocator.release(0)
    allocator.allocate(1, 11 * MIB)
    assert allocator.allocated_bytes == 12 * MIB


def test_emptying_the_cache_returns_whole_segments_only() -> None:
    allocator = Allocator()
    for key in range(3):
        allocator.allocate(key, 20 * MIB)
    allocator.release(1)
    allocator.allocate(3, 5 * MIB)  # sits in the second segment
    allocator.release(2)
    allocator.empty_cache()
    assert (allocator.reserved_bytes, allocator.peak_reserved_bytes) == (40 * MIB, 60 * MIB)


@given(st.lists(st.tuples(st.integers(1, 64 * MIB), st.booleans()), max_size=60))
def test_nothing_is_lost(steps: list[tuple[int, bool]]) -> None:
    """Whatever comes and goes: what is allocated fits into what is reserved, and all of it is free in the end."""
    allocator = Allocator()
    living: list[int] = []
    for key, (size, drop) in enumerate(steps):
        allocator.allocate(key, size)
        living.append(key)
        if drop:
            allocator.release(living.pop(0))
        assert allocator.allocated_bytes <= allocator.reserved_bytes <= allocator.peak_reserved_bytes
    for key in living:
        allocator.release(key)
    allocator.empty_cache()
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (0, 0)


@given(st.integers(1, 4096 * MIB))
def test_a_segment_holds_its_block(size: int) -> None:
    assert segment_bytes(size) >= size
