"""What the meters say that somebody should know, while there is time to do something about it. Each is said once. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from statistics import correlation, fmean, linear_regression
from typing import Final, NamedTuple

from remote.machine.readings import Figures
from remote.units import GB

IDLE_PERCENT: Final = 80.0  # below it for minutes a card is not what holds the run up
MINUTES_S: Final = 120.0  # assumed: longer than loading, a checkpoint or a held-out loss let a card wait
DATA_SHARE: Final = 0.2  # assumed: of a step's time; more spent on making batches leaves the card waiting for them
BUSY_CORE_PERCENT: Final = 85.0  # assumed: one thread hands out the work, and has no more to give
BUSY_LINK_SHARE: Final = 0.5  # assumed: of what a link of its kind can carry, which counts both ways
THROTTLED_SHARE: Final = 0.5  # assumed: of a minute
LEAST_FREE_BYTES: Final = 1 << 30  # assumed: for logs and what libraries write
LEAK_STEPS: Final = 200
LEAK_BYTES: Final = 64 << 20  # assumed: over those steps; less is the allocator finding its size
LEAK_FIT: Final = 0.9  # assumed: of a straight line; what jumps once does not leak
FIRST_STEPS: Final = 20  # assumed: in which caches fill


class Second(NamedTuple):
    """One look at the meters."""

    at_s: float  # monotonic
    training: bool
    figures: Figures
    throttles: tuple[str, ...]


class Stepped(NamedTuple):
    """What a step of the training took."""

    step: int
    step_s: float
    batch_s: float  # of it, until its batch was on the device
    ram_bytes: int | None  # of the process after it


class Advisor:
    """Guards what was seen of late, and what was said. `link_bytes_per_s`: what the card's link carries at the most."""

    def __init__(self, *, link_bytes_per_s: float | None, least_free_bytes: int = LEAST_FREE_BYTES) -> None:
        self._link_bytes_per_s, self._least_free_bytes = link_bytes_per_s, least_free_bytes
        self._seconds: deque[Second] = deque()
        self._steps: deque[Stepped] = deque(maxlen=LEAK_STEPS)
        self._said: set[str] = set()
        self._judges: tuple[tuple[str, Callable[[], str | None]], ...] = (
            ("idle", self._idle),
            ("throttled", self._throttled),
            ("disk", self._disk_fills),
            ("leak", self._leaks),
        )

    def saw(self, second: Second) -> Iterator[str]:
        """Sentences that have become due."""
        if not second.training:  # an evaluation, a save: what comes after is another stretch
            self._seconds.clear()
        self._seconds.append(second)
        while second.at_s - self._seconds[0].at_s > MINUTES_S:
            self._seconds.popleft()
        for name, judge in self._judges:
            if name not in self._said and (words := judge()) is not None:
                self._said.add(name)
                yield words

    def stepped(self, stepped: Stepped) -> None:
        """A step of the training is done."""
        if stepped.step > FIRST_STEPS:
            self._steps.append(stepped)

    def _over_minutes(self) -> bool:
        return self._seconds[-1].training and self._seconds[-1].at_s - self._seconds[0].at_s >= MINUTES_S * 0.95

    def _mean(self, name: str) -> float | None:
        found = [second.figures[name] for second in self._seconds if name in second.figures]
        return fmean(found) if found else None

    def _idle(self) -> str | None:
        busy = self._mean("gpu_utilization_percent")
        if busy is None or busy >= IDLE_PERCENT or not self._over_minutes():
            return None
        return f"the card was busy {busy:.0f} % of the last {MINUTES_S / 60:.0f} minutes: {self._why_idle()}"

    def _why_idle(self) -> str:
        steps = list(self._steps)[-50:]
        waiting = sum(step.batch_s for step in steps) / sum(step.step_s for step in steps) if steps else 0.0
        if waiting > DATA_SHARE:
            return f"{waiting:.0%} of a step goes into making its batch, so data holds it up; a faster processor helps"
        moved = sum(self._mean(f"pcie_{way}_bytes_per_s") or 0.0 for way in ("sent", "received"))
        if self._link_bytes_per_s is not None and moved > BUSY_LINK_SHARE * self._link_bytes_per_s:
            return (
                f"{moved / GB:.1f} GB/s pass over its link of {self._link_bytes_per_s / GB:.0f}, so the link holds it up; "
                "more rows a step, or a card that holds more of the model, help"
            )
        core = self._mean("process_cpu_percent") or 0.0
        if core > BUSY_CORE_PERCENT:
            return (
                f"the trainer keeps {core / 100:.1f} cores busy with handing out work, so the host holds it up; more rows at "
                "once, or a processor with faster cores, help"
            )
        return "neither data nor link nor the processor is at its limit; more rows at once may help"

    def _throttled(self) -> str | None:
        held = [second.throttles for second in self._seconds if second.throttles]
        if not self._over_minutes() or len(held) < THROTTLED_SHARE * len(self._seconds):
            return None
        hot, share = self._mean("gpu_temperature_c"), len(held) / len(self._seconds)
        at = f" at {hot:.0f} °C" if hot is not None else ""
        return (
            f"the card's clocks were held down by {' and '.join(held[-1])} for {share:.0%} of the last "
            f"{MINUTES_S / 60:.0f} minutes{at}; steps take longer than planned, and another machine may not do so"
        )

    def _disk_fills(self) -> str | None:
        free = self._seconds[-1].figures.get("disk_free_bytes")
        if free is None or free >= self._least_free_bytes:
            return None
        return f"{free / GB:.2f} GB of disk are left; the next checkpoint may not fit, so older ones go first"

    def _leaks(self) -> str | None:
        points = [(step.step, step.ram_bytes) for step in self._steps if step.ram_bytes is not None]
        if len(points) < LEAK_STEPS:
            return None
        steps, sizes = [float(step) for step, _ in points], [float(size) for _, size in points]
        if max(sizes) - min(sizes) < LEAK_BYTES or correlation(steps, sizes) < LEAK_FIT:
            return None
        slope = linear_regression(steps, sizes).slope
        return (
            f"the trainer's RAM grows by {slope / 1e6:.1f} MB a step, {slope * LEAK_STEPS / 1e6:,.0f} MB over the last "
            f"{LEAK_STEPS} steps; it holds {sizes[-1] / GB:.1f} GB by now"
        )
