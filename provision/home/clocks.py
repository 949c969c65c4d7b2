"""The clocks of this machine, as arguments: what happens when is told by the wall's, how long it takes by the steady one."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# What counts the seconds of a machine that sleeps, too. Linux has one for that; on macOS the other does (its clock_gettime(3)).
PASSING: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def passing_s() -> float:
    """Seconds that have passed from anywhere on, those of sleep among them."""
    return time.clock_gettime(PASSING)


@dataclass(frozen=True)
class Clocks:
    """`wall` may be set, by a person or over the network, while somebody waits; `steady` only ever goes on, from anywhere."""

    wall: Callable[[], float] = time.time
    steady: Callable[[], float] = passing_s
    sleep: Callable[[float], None] = time.sleep
    shown: Callable[[], float] | None = None  # what this machine's clock shows, where `wall` does not go by it

    def clock_shift_s(self) -> float:
        """By how much this machine's clock is ahead of `wall`, negative behind: what a provider tells of the one is off by that
        of the other.
        """
        return 0.0 if self.shown is None else self.shown() - self.wall()


CLOCKS: Final = Clocks()


def steadied(clocks: Clocks, *, ahead_s: float = 0.0) -> Clocks:
    """Clocks whose wall clock nobody can set any more: as it stands now, less what it is ahead, and from here on by the
    steady one.
    """
    began_s = clocks.wall() - ahead_s - clocks.steady()
    return dataclasses.replace(clocks, wall=lambda: began_s + clocks.steady(), shown=clocks.shown or clocks.wall)
