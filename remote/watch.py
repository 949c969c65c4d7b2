"""When to stop: somebody asked, or the deadline is near. And what to heed before: the machine will be taken away."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Final

from remote.contract import EndReason
from remote.ends import Ended
from remote.machine.notice import Notice

RESERVE_S: Final = 20.0  # to save, verify and hash before the deadline, beside what is measured; assumed generous
SAVES_IN_RESERVE: Final = 3.0  # adapter, its reload and its hashes, each about one checkpoint's time; assumed


class Watch:
    """Guards what a signal or another thread may set, and knows the deadline. Asked between steps, batches and phases."""

    def __init__(
        self, *, deadline_at_s: float | None = None, reserve_s: float = RESERVE_S, clock: Callable[[], float] = time.time
    ) -> None:
        self._deadline_at_s, self._reserve_s, self._clock = deadline_at_s, reserve_s, clock
        self._save_s = 0.0
        self._asked = False
        self._notice: Notice | None = None

    def listen(self) -> None:
        """Let SIGTERM and SIGINT set the flag; a hang-up of the terminal means nothing to a detached run."""
        signal.signal(signal.SIGTERM, lambda *_: self.ask())
        signal.signal(signal.SIGINT, lambda *_: self.ask())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def ask(self) -> None:
        """Stop at the next safe point."""
        self._asked = True

    @property
    def asked(self) -> bool:
        """Whether somebody wants it to leave."""
        return self._asked

    def announce(self, notice: Notice) -> None:
        """The machine will be taken away."""
        self._notice = notice

    def take_notice(self) -> Notice | None:
        """The notice, once."""
        notice, self._notice = self._notice, None
        return notice

    def saved_in(self, seconds: float) -> None:
        """A checkpoint took this long: leave early enough for such a save."""
        self._save_s = max(self._save_s, seconds)

    def left_s(self) -> float:
        """Seconds of work that are left before the reserve for saving is touched; infinite without a deadline."""
        if self._deadline_at_s is None:
            return float("inf")
        return self._deadline_at_s - self._reserve_s - SAVES_IN_RESERVE * self._save_s - self._clock()

    def check(self, *, needed_s: float = 0.0) -> None:
        """Raise `Ended` (interrupted or deadline) unless there is time for `needed_s` more seconds of work."""
        if self._asked:
            raise Ended(EndReason.INTERRUPTED, "stopped on request")
        if self.left_s() <= needed_s:
            raise Ended(EndReason.DEADLINE, "left before the deadline, with time to save")
