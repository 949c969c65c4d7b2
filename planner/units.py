"""Units, and bytes as a person reads them."""

from __future__ import annotations

from typing import Final

KIB: Final = 2**10
MIB: Final = 2**20
GIB: Final = 2**30
MB: Final = 10**6
GB: Final = 10**9
TERA: Final = 1e12
GFLOPS: Final = 1e9
KWH: Final = 3.6e6  # joules
SECONDS_PER_MINUTE: Final = 60
SECONDS_PER_HOUR: Final = 3_600

ALLOCATION_BYTES: Final = 512  # derived: kMinBlockSize of torch's CUDACachingAllocator; every tensor is rounded up to it


def rounded(num_bytes: float) -> int:
    """Bytes that the CUDA allocator hands out for a tensor of `num_bytes`."""
    return -(-int(num_bytes) // ALLOCATION_BYTES) * ALLOCATION_BYTES


def gib(num_bytes: float) -> str:
    """12.3 GiB, with the sign of what is missing kept."""
    return f"{num_bytes / GIB:.1f} GiB"
