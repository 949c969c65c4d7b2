"""A step that hangs: nobody in this process would ever hear of it, and the meter runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

LEAST_S: Final = 300.0  # assumed: kernels that are built at their first use, a disk or a link that is gone for a while
FACTOR: Final = 20.0  # assumed: no step takes so many times as long as the slowest before it, or as planned
TICK_S: Final = 1.0  # assumed: far below `LEAST_S`

Hung = Callable[[float, float], None]  # seconds of silence, and the most of any before


class Watchdog:
    """Calls `hung` once, from a thread of its own, where work that is watched makes no beat for too long.

    Silence is counted in ticks of that thread: a process that was stopped or a machine that slept has not been silent.
    """

    def __init__(
        self, hung: Hung, *, planned_step_s: float | None = None, least_s: float = LEAST_S, tick_s: float = TICK_S
    ) -> None:
        self._hung, self._tick_s = hung, tick_s
        self._least_s = max(least_s, FACTOR * (planned_step_s or 0.0))
        self._watched = False
        self._ticks = 0
        self._longest_ticks = 0
        self._over = threading.Event()

    @property
    def limit_s(self) -> float:
        """How long the silence may be."""
        return max(self._least_s, FACTOR * self._longest_ticks * self._tick_s)

    def beat(self) -> None:
        """Work goes on."""
        self._longest_ticks, self._ticks = max(self._longest_ticks, self._ticks), 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Whatever runs in the block beats, or ends, before the limit."""
        self._ticks, self._watched = 0, True
        try:
            yield
        finally:
            self._watched = False
            self.beat()

    @contextmanager
    def awake(self) -> Iterator[Watchdog]:
        """The block in which it looks."""
        looking = threading.Thread(target=self._look, name="watchdog", daemon=True)
        looking.start()
        try:
            yield self
        finally:
            self._over.set()
            looking.join()

    def _look(self) -> None:
        while not self._over.wait(self._tick_s):
            self._ticks += self._watched
            silent_s = self._ticks * self._tick_s
            if self._watched and silent_s > self.limit_s:
                self._hung(silent_s, self._longest_ticks * self._tick_s)
                return
