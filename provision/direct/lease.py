"""The lease of the local box (provision/aboard/lease.py), as its reaper watches it: asked again and again, it never waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import psutil

from provision.aboard.lease import LEAVING_S, has_result
from provision.aboard.marks import LEASE_ENDED_FILE, TASK_MARK
from provision.aboard.renewal import RENEWED_FILE

T = TypeVar("T")

LEADER = ["sh", "./leader.sh"]  # of a task (provision/aboard/detached.py); what it starts is told to leave, not it


class LeaseWatch:
    """Whether a lease has ended, and how far its trainer is with leaving.

    Counted while the machine is awake: where controller and box are one machine that slept, the one must have the time to
    renew before the other ends.
    """

    def __init__(
        self,
        folder: Path,
        *,
        lease_s: float,
        processes: Callable[[], Iterable[psutil.Process]],
        awake_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`processes`: those of the box."""
        self._folder, self._lease_s, self._processes, self._awake_s = folder, lease_s, processes, awake_s
        self._renewed = self._renewal()
        self._renewed_at_s = awake_s()
        self._asked_at_s: float | None = None

    def is_over(self) -> bool:
        """Whether the box is to end now: nobody renewed it, and its trainer has left, or had the time to."""
        if self._asked_at_s is None:
            if not self._is_unrenewed() or has_result(self._folder):
                return False
            self._asked_at_s = self._awake_s()
            with suppress(OSError):
                (self._folder / LEASE_ENDED_FILE).touch()
            self._ask_to_leave()
        has_left = not self._of_job() or self._awake_s() - self._asked_at_s >= LEAVING_S
        return has_left and not has_result(self._folder)  # in this order: its last words may be a result

    def _is_unrenewed(self) -> bool:
        if (renewal := self._renewal()) != self._renewed:
            self._renewed, self._renewed_at_s = renewal, self._awake_s()
        return self._awake_s() - self._renewed_at_s >= self._lease_s

    def _renewal(self) -> tuple[str, int] | None:
        """What the last one has written, and when: two of one second are two. None = there was none."""
        place = self._folder / RENEWED_FILE
        with suppress(OSError, ValueError):
            return place.read_text(), place.stat().st_mtime_ns
        return None

    def _ask_to_leave(self) -> None:
        """As a controller does: whoever has no parent among them but the leader, which may have been killed."""
        led = [process for process in self._of_job() if _told(process.cmdline) != LEADER]
        pids = {process.pid for process in led}
        for process in led:
            if _told(process.ppid) not in pids:
                with suppress(psutil.Error):
                    process.terminate()

    def _of_job(self) -> list[psutil.Process]:
        mark = str(self._folder / "job")
        return [each for each in self._processes() if (_told(each.environ) or {}).get(TASK_MARK) == mark]


def _told(ask: Callable[[], T]) -> T | None:
    """What a process tells of itself; None of one that is gone."""
    try:
        return ask()
    except (psutil.Error, OSError):
        return None
