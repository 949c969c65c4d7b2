"""A look at every meter each second, in a thread of its own; told as least, mean and most of some seconds at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from statistics import fmean
from typing import Any, Final

from remote.contract import Phase
from remote.machine.advice import Advisor, Second
from remote.machine.nvml import Card
from remote.machine.readings import Host, read_card, throttles_of
from remote.telemetry import Events

LOOK_S: Final = 1.0  # assumed: a look takes milliseconds
TELL_S: Final = 10.0  # assumed: an event of under a kilobyte each, so some 3 MB of a run of eight hours

# Bytes a second of one lane both ways, by generation. PCI-SIG's rates less their coding: 8b/10b to the second, then 128b/130b.
LANE_BYTES_PER_S: Final = {1: 0.5e9, 2: 1.0e9, 3: 1.97e9, 4: 3.94e9, 5: 7.88e9, 6: 15.1e9}


class Sampler:
    """Guards what was seen since the last event. What fails to be read is left out: no meter ends a run."""

    def __init__(self, events: Events, host: Host, card: Card | None, advisor: Advisor, *, look_s: float = LOOK_S) -> None:
        self._events, self._host, self._card, self._advisor = events, host, card, advisor
        self._look_s = look_s
        self._seen: list[Second] = []
        self._over = threading.Event()

    @contextmanager
    def awake(self) -> Iterator[None]:
        """The block in which it looks; what it has seen last is told at the end."""
        looking = threading.Thread(target=self._look_on, name="telemetry", daemon=True)
        looking.start()
        try:
            yield
        finally:
            self._over.set()
            looking.join()
            self._tell()

    def look(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Look once."""
        card = self._card
        second = Second(
            at_s=clock(),
            training=self._events.phase is Phase.TRAIN,
            figures=self._host.read() | (read_card(card) if card is not None else {}),
            throttles=throttles_of(card) if card is not None else (),
        )
        self._seen.append(second)
        for words in self._advisor.saw(second):
            self._events.emit("warning", message=words)
        if second.at_s - self._seen[0].at_s >= TELL_S - self._look_s:
            self._tell()

    def _look_on(self) -> None:
        """At once, so that a run of less than a second is seen, too, and then each second."""
        while True:
            with suppress(Exception):  # a disk that is full says so at a checkpoint; a meter that fails is no end
                self.look()
            if self._over.wait(self._look_s):
                return

    def _tell(self) -> None:
        seen, self._seen = self._seen, []
        if not seen:
            return
        with suppress(OSError):
            self._events.emit("telemetry", seconds=len(seen) * self._look_s, **summary(seen))


def summary(seen: list[Second]) -> dict[str, Any]:
    """Figure -> [least, mean, most]; and what held the clocks down, with the share of looks at which it did."""
    names = dict.fromkeys(name for second in seen for name in second.figures)
    values = {name: [second.figures[name] for second in seen if name in second.figures] for name in names}
    held = dict.fromkeys(words for second in seen for words in second.throttles)
    throttled = {words: sum(words in second.throttles for second in seen) / len(seen) for words in held}
    figures = {name: [rounded(min(found)), rounded(fmean(found)), rounded(max(found))] for name, found in values.items()}
    return figures | ({"throttled": throttled} if throttled else {})


def rounded(figure: float) -> float:
    """Whole where it is large: a fraction of a byte is none."""
    return float(round(figure)) if abs(figure) >= 1000 else round(figure, 2)


def link_bytes_per_s(card: Card | None) -> float | None:
    """What the card's link carries at the most, both ways together, in this machine; None where it does not say."""
    if card is None:
        return None
    generation, lanes = card.ask("MaxPcieLinkGeneration"), card.ask("MaxPcieLinkWidth")
    if generation not in LANE_BYTES_PER_S or lanes is None:
        return None
    return LANE_BYTES_PER_S[generation] * float(lanes)
