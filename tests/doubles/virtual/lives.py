"""Controllers that die: at any moment, and without a chance to clean up."""

from __future__ import annotations

import signal
from pathlib import Path

from provision.account.ledger import Ledger
from provision.account.lines import AnyLine


class Killed(BaseException):
    """kill -9 of this controller, now or earlier."""


class Life:
    """How long a controller lives, counted in the moments at which something outside of it could change."""

    def __init__(self, *, killed_at: int | None = None, stopped_at: int | None = None) -> None:
        self.moments = 0
        self._killed_at = killed_at
        self._stopped_at = stopped_at

    def tick(self) -> None:
        """One moment passes. Dies here, or hears Ctrl-C, if this is the one."""
        self.moments += 1
        if self._killed_at is not None and self.moments >= self._killed_at:
            raise Killed
        if self.moments == self._stopped_at:
            signal.raise_signal(signal.SIGINT)


class MortalLedger(Ledger):
    """A ledger whose writer can die just before a line is on the disk, and just after."""

    def __init__(self, path: Path, life: Life) -> None:
        super().__init__(path)
        self._life = life

    def append(self, line: AnyLine) -> None:
        self._life.tick()
        super().append(line)
        self._life.tick()
