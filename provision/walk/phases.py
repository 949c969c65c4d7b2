"""The controller's own phases, each timed into the ledger; where tests make it die, it dies here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from provision.account.ledger import Ledger
from provision.account.lines import PhaseEnded, PhaseStarted
from provision.errors import ControlLost
from provision.home.clocks import Clocks
from provision.walk.crash import crash_if
from remote.contract import Event, Phase


class Display(Protocol):
    """Whoever watches: a terminal, a log file, a test."""

    def phase(self, name: str) -> None:
        """The controller or the trainer entered a phase."""
        ...

    def note(self, sentence: str) -> None:
        """Something worth a line."""
        ...

    def event(self, event: Event) -> None:
        """The trainer said something."""
        ...


class Phases:
    """A stopwatch that writes what it measures. At most one phase of the controller runs at a time."""

    def __init__(self, run_id: str, ledger: Ledger, display: Display, *, clocks: Clocks, crash_point: str | None) -> None:
        self._run_id = run_id
        self._ledger = ledger
        self._display = display
        self._clocks = clocks
        self._crash_point = crash_point
        self._open: tuple[Phase, float] | None = None

    @contextmanager
    def timed(self, phase: Phase) -> Iterator[None]:
        """Time the block; a block that raises ends the phase as not ok."""
        self.begin(phase)
        try:
            yield
        except ControlLost:
            with suppress(ControlLost):  # the first tells what else there is to know
                self.end(ok=False)
            raise
        except BaseException:
            self.end(ok=False)
            raise
        self.end()

    def begin(self, phase: Phase) -> None:
        """Enter a phase that ends elsewhere."""
        self._ledger.append(PhaseStarted(run_id=self._run_id, at_s=self._clocks.wall(), phase=phase.value))
        self._open = (phase, self._clocks.steady())
        crash_if(self._crash_point, phase, "before")
        self._display.phase(phase.value)

    def end(self, *, ok: bool = True) -> None:
        """Leave the phase that is open; nothing happens when none is."""
        if self._open is None:
            return
        phase, started_s = self._open
        self._open = None
        duration_s = self._clocks.steady() - started_s
        self._ledger.append(
            PhaseEnded(run_id=self._run_id, at_s=self._clocks.wall(), phase=phase.value, duration_s=duration_s, ok=ok)
        )
        crash_if(self._crash_point, phase, "after")

    def heard(self, event: Event) -> None:
        """Pass on an event of the trainer; its phases are crash points as well."""
        self._display.event(event)
        if event.kind == "phase_started":
            crash_if(self._crash_point, str(event.phase), "before")
        elif event.kind == "phase_ended":
            crash_if(self._crash_point, str(event.phase), "after")
