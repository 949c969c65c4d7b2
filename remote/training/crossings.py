"""What of a step is waiting for blocks that pass by, where link or disk are slower than the plan counts on."""

from __future__ import annotations

from typing import Any, Final

from remote.contract import JobSpec
from remote.machine.disk import LOW_SHARE as LOW_DISK_SHARE
from remote.machine.link import LOW_SHARE
from remote.streaming import Streamed, streamed_of
from remote.streaming.streamed import Moved
from remote.units import GB

NOTHING: Final = Moved(0, 0)
NUM_COPIES: Final = 4  # assumed: as before a run; of a block of 32B in 4 bits 80 ms over 16 lanes of PCIe 4
HELD_UP_SHARE: Final = 0.5  # assumed: of a step; a link that is busy for less of it hides behind what is computed


def moved_by(model: Any) -> Moved:
    """What a model's blocks have moved so far; nothing where none pass by."""
    streamed = streamed_of(model)
    return NOTHING if streamed is None else streamed.moved()


def crossed(before: Moved, after: Moved) -> Moved:
    """What was moved between the two."""
    return Moved(
        fetched_bytes=after.fetched_bytes - before.fetched_bytes,
        read_bytes=after.read_bytes - before.read_bytes,
    )


def slow_crossing(streamed: Streamed, carried: Moved, spec: JobSpec, step_s: float) -> str | None:
    """The begin of a sentence where what a step moves takes most of it, over a link or from a disk that is far slower than
    planned; None else, and where nobody planned. `carried`: by a step of `step_s` seconds.
    """
    link = streamed.link_bytes_per_s(NUM_COPIES)
    ways = (
        ("the link carries", link, carried.fetched_bytes, spec.planned_link_bytes_per_s, LOW_SHARE),
        ("the disk gives", streamed.disk_bytes_per_s, carried.read_bytes, spec.planned_read_bytes_per_s, LOW_DISK_SHARE),
    )
    for what, bytes_per_s, moved_bytes, planned_bytes_per_s, low_share in ways:
        if bytes_per_s is None or planned_bytes_per_s is None or bytes_per_s >= low_share * planned_bytes_per_s:
            continue
        if moved_bytes / bytes_per_s >= HELD_UP_SHARE * step_s:
            rates = f"{bytes_per_s / GB:.2f} GB/s, {planned_bytes_per_s / GB:.2f} were planned"
            return f"{what} {rates}, and less of it is asked for now"
    return None
