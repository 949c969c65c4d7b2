"""Controllers that die: at any moment, and without a chance to clean up."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from provision.account.ledger import Ledger
from provision.account.lines import AnyLine


class Killed(BaseException):
    """kill -9 of this controller, now or earlier."""


class Life:
    """How long a controller lives, counted in the moments at which something outside of it could change."""

    def __init__(
        self,
        *,
        killed_at: int | None = None,
        stopped_at: int | None = None,
        told_at: int | None = None,
        heard_after: int | None = None,
    ) -> None:
        """`told_at`: when somebody types `down`; `heard_after`: how many moments later that process may send its signal, None
        where it is killed before.
        """
        self.moments = 0
        self.late_orders = 0  # that were begun with after somebody had typed `down`
        self.say: Callable[[], object] = lambda: None  # what `down` does first
        self.asks: Callable[[], bool] = lambda: True  # whether it would send its signal now
        self._killed_at = killed_at
        self._stopped_at = stopped_at
        self._told_at = told_at
        self._heard_at = None if told_at is None or heard_after is None else told_at + heard_after
        self.is_told = False

    def tick(self) -> None:
        """One moment passes. Dies here, or hears Ctrl-C, if this is the one."""
        self.moments += 1
        if self._killed_at is not None and self.moments >= self._killed_at:
            raise Killed
        if self.moments == self._told_at:
            self.is_told = True
            self.say()
        if self.moments == self._stopped_at or self._is_asked():
            signal.raise_signal(signal.SIGINT)

    def ordered(self) -> None:
        """A provider is asked for a box."""
        self.late_orders += self.is_told

    def _is_asked(self) -> bool:
        """Once, at the first moment at which `down` would."""
        if self._heard_at is None or self.moments < self._heard_at or not self.asks():
            return False
        self._heard_at = None
        return True


class MortalLedger(Ledger):
    """A ledger whose writer can die just before a line is on the disk, and just after."""

    def __init__(self, path: Path, life: Life) -> None:
        super().__init__(path)
        self._life = life

    def append(self, line: AnyLine) -> None:
        self._life.tick()
        super().append(line)
        self._life.tick()
