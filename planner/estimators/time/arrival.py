"""Seconds until base and rows lie in memory on the machine that trains, in the form that it loads."""

from __future__ import annotations

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.hardware import Offer
from planner.asking.request import DataAsked
from planner.asking.sent import Sent
from planner.estimators.calibration import ORDERED_DISK_BYTES_PER_S
from planner.estimators.time import phases
from planner.estimators.time.phases import beyond, longer, moving, total
from planner.methods import base_params
from planner.plan import Range
from planner.units import GIB
from remote.contract import Task


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """The seconds of two phases."""

    download: Range
    load: Range


class DiskWait(msgspec.Struct, frozen=True):
    """What of a job moves no faster than the disk that is ordered there, in bytes."""

    provider: str
    written: float  # of the base, beyond what memory holds until the disk has it
    read: float  # of the base, where memory does not hold it on until it is loaded

    @property
    def bytes_per_s(self) -> Range:
        """Of that disk, p10 the fast end."""
        return ORDERED_DISK_BYTES_PER_S[self.provider]


def disk_wait(offer: Offer, *, base_bytes: int, fetched_bytes: int) -> DiskWait | None:
    """Of a base of which so much is fetched there; None where the disk is one of the machine's own, or of an unknown rate."""
    if offer.provider not in ORDERED_DISK_BYTES_PER_S:
        return None
    ram_bytes = (offer.ram_gib or 0.0) * GIB
    written = max(0.0, fetched_bytes - phases.UNWRITTEN_SHARE_OF_RAM * ram_bytes)
    return DiskWait(offer.provider, written, 0.0 if base_bytes <= phases.CACHED_SHARE_OF_RAM * ram_bytes else base_bytes)


def waiting(came: Arrival, wait: DiskWait | None) -> Arrival:
    """The arrival of a base that waits for a disk, which takes it more slowly than the hub sends it or memory loads it."""
    if wait is None or not (wait.written or wait.read):
        return came
    written, read = (moving(num_bytes, wait.bytes_per_s) for num_bytes in (wait.written, wait.read))
    return Arrival(download=longer(came.download, written), load=longer(came.load, read))


def arrival(base_bytes: int, sent: Sent, *, made: Range, tokenized: Range, load: Range, on_box: bool) -> Arrival:
    """Of a base of so many bytes; `made`: until it is plain weights, `tokenized`: until rows are tokens, `load`: into memory.

    Files of this machine are there before the trainer begins. It tokenizes the rows while it fetches the base, makes it plain
    and loads it (`remote.loading`), so that only what takes longer than all of that is waited for.
    """
    if on_box:
        return Arrival(download=made, load=longer(load, beyond(tokenized, made)))
    came = moving((sent.base_bytes or 0) + sent.rest_bytes, phases.SEND_BYTES_PER_S)
    fetched = moving(base_bytes, phases.HUB_BYTES_PER_S) if sent.base_bytes is None else phases.ZERO
    there = total(fetched, made)
    return Arrival(download=total(came, there), load=longer(load, beyond(tokenized, there)))


def made_plain(architecture: Architecture, task: Task, sent: Sent) -> Range:
    """Until a GGUF file is a folder of plain weights; nothing of what is one already."""
    if not sent.packed:
        return phases.ZERO
    return total(phases.UNPACK_S, moving(base_params(architecture, task), phases.UNPACKED_PARAMS_PER_S))


def tokenized(data: DataAsked) -> Range:
    """Until rows are tokens."""
    return moving((data.num_examples + data.held_out_rows) * data.mean_tokens, phases.TOKENIZED_PER_S)
