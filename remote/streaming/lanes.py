"""How a block's bytes come from the host into a slot, and who waits for whom."""

from __future__ import annotations

import time
from typing import Any, Protocol


class Lane(Protocol):
    """What carries. Slots are known by their number."""

    def fetch(self, slot: int, into: Any, source: Any) -> None:
        """Begin to fill a slot, once all that has been asked of the device so far is done with it."""

    def arrive(self, slot: int) -> None:
        """Let all that is asked of the device from now on wait until the slot is full."""

    def settle(self, slot: int) -> None:
        """Wait on the host until what a slot was last filled from is read no more."""

    def timed_s(self, into: Any, source: Any, times: int) -> float:
        """Seconds that one copy takes while nothing else goes on."""


class AtOnce:
    """On a CPU the device is the host's own memory, and a copy is done when it returns."""

    def fetch(self, _slot: int, into: Any, source: Any) -> None:
        into.copy_(source)

    def arrive(self, _slot: int) -> None:
        return

    def settle(self, _slot: int) -> None:
        return

    def timed_s(self, into: Any, source: Any, times: int) -> float:
        started = time.perf_counter()
        for _ in range(times):
            into.copy_(source)
        return (time.perf_counter() - started) / times


class Beside:
    """A stream of its own beside the one that computes. The host never waits: events order the two.

    A slot is refilled behind whatever computes with what it held: at the moment of asking all of that has been queued. Slots
    live as long as the lane, so that the allocator never hands their memory to anybody while a copy is on its way.
    """

    def __init__(self, num_slots: int) -> None:
        import torch

        self._cuda = torch.cuda
        self._stream = torch.cuda.Stream()
        self._free = [torch.cuda.Event() for _ in range(num_slots)]
        self._ready = [torch.cuda.Event() for _ in range(num_slots)]

    def fetch(self, slot: int, into: Any, source: Any) -> None:
        self._free[slot].record(self._cuda.current_stream())
        self._stream.wait_event(self._free[slot])
        with self._cuda.stream(self._stream):
            into.copy_(source, non_blocking=True)
            self._ready[slot].record(self._stream)

    def arrive(self, slot: int) -> None:
        self._cuda.current_stream().wait_event(self._ready[slot])

    def settle(self, slot: int) -> None:
        self._ready[slot].synchronize()

    def timed_s(self, into: Any, source: Any, times: int) -> float:
        self._cuda.synchronize()
        started = time.perf_counter()
        with self._cuda.stream(self._stream):
            for _ in range(times):
                into.copy_(source, non_blocking=True)
        self._stream.synchronize()
        return (time.perf_counter() - started) / times


def lane_to(device: str, num_slots: int) -> Lane:
    """The lane to a kind of device."""
    return AtOnce() if device == "cpu" else Beside(num_slots)
