"""A process of this machine that is told apart from a later one with the same pid."""

from __future__ import annotations

from typing import Final

import psutil

# derived: a start time is boot time plus clock ticks (10 ms). The kernel gives boot time in whole seconds, and gives another
# second after the clock was set, so two readings of one start lie up to 1.01 s apart.
SAME_START_S: Final = 1.5


def start_of(pid: int) -> float | None:
    """When it began (Unix seconds); None when no such process runs."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def still_runs(pid: int, started_s: float) -> psutil.Process | None:
    """The process that had this pid and began at `started_s`; None when it has ended, reaped or not."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started_s) < SAME_START_S and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return process if same else None
