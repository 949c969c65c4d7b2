"""How fast bytes come from the host's memory to its card, by a copy that is timed; what that means for a run that streams."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from remote.contract import Strategy
from remote.units import GB

PIECE_BYTES: Final = 64 << 20  # assumed: long beside a copy's beginning, little to pin
NUM_PIECES: Final = 4  # derived: 256 MiB in all, 5 ms over 16 lanes of PCIe 5, 0.3 s over one of PCIe 3
# assumed: of what the plan counts on. A link with half its lanes, or a generation older, carries half; copies of one machine
# vary by far less.
LOW_SHARE: Final = 0.7

Copy = Callable[[], None]  # PIECE_BYTES, whole when it returns


def to_card_bytes_per_s(copy: Copy, *, clock: Callable[[], float] = time.perf_counter) -> float | None:
    """Bytes a second from host to card, behind a first copy that wakes the link up; None where a copy fails."""
    try:
        copy()
        started_s = clock()
        for _ in range(NUM_PIECES):
            copy()
    except RuntimeError:
        return None
    return NUM_PIECES * PIECE_BYTES / max(clock() - started_s, 1e-9)


def measured_link(device: str, timed: Callable[[Copy], float | None] = to_card_bytes_per_s) -> float | None:
    """Bytes a second from host to the job's card, from pinned memory, which is given back; None on a processor."""
    if device != "cuda":
        return None
    import torch

    try:
        return timed(_copying(device))
    except RuntimeError:  # no memory to pin, or none on the card
        return None
    finally:
        torch.cuda.empty_cache()
        torch.accelerator.empty_host_cache()


def _copying(device: str) -> Copy:
    import torch

    here = torch.empty(PIECE_BYTES, dtype=torch.uint8, pin_memory=True)
    there = torch.empty(PIECE_BYTES, dtype=torch.uint8, device=device)

    def copy() -> None:
        there.copy_(here, non_blocking=True)
        torch.cuda.synchronize()

    return copy


def slow_link_words(bytes_per_s: float | None, *, planned_bytes_per_s: float | None, strategy: Strategy) -> str | None:
    """A sentence where blocks pass over a link that is far slower than planned; None else, and where nobody knows."""
    if strategy.offload != "stream" or bytes_per_s is None or planned_bytes_per_s is None:
        return None
    if bytes_per_s >= LOW_SHARE * planned_bytes_per_s:
        return None
    return (
        f"the link carries {bytes_per_s / GB:.1f} GB/s to the card, the plan counts on {planned_bytes_per_s / GB:.1f}: where "
        f"streamed blocks decide, a step takes {planned_bytes_per_s / bytes_per_s:.1f} times as long; the probe shows whether "
        "the job still ends in time, and a machine whose card has all its lanes is the cure"
    )
