"""How an attempt ended, as a value, and what told it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import ClassVar, Final

from provision.account.receipt.value import EndedBy
from provision.errors import BoxLost, ControlLost, Declined, LeaseEnded, Reason, RentuneError, Scope
from provision.home.checkpoints import steps_at_home
from provision.home.faults import keep_fault
from provision.home.whole import CURES
from provision.redact import redact
from provision.walk.driven import Run

STOPPED: Final = "Stopped by the user."


@dataclass(frozen=True)
class End:
    """How an attempt ended; `said` is told in the receipt. One of the classes below."""

    said: str
    ended_by: EndedBy | None = field(default=None, kw_only=True)  # what took the box, where that is why there is no result


class Trained(End):
    """The result is at home."""


@dataclass(frozen=True)
class TryAnother(End):
    """No box came, or none that is of use, and where else it would be asked for in vain."""

    reason: Reason
    scope: Scope
    zone: str | None = None


class Lost(End):
    """The box went away before its deadline."""


@dataclass(frozen=True)
class GoOn(End):
    """The box ended itself by its lease, and what it learned is kept: the same offer is as good as before."""

    reason: ClassVar[Reason] = Reason.LEASE
    scope: ClassVar[Scope | None] = None
    zone: ClassVar[str | None] = None


class Failed(End):
    """Another box would not help."""


@dataclass(frozen=True)
class LeftOpen(End):
    """Another box would help once it can be known what there is to go on from: that is for `resume`."""

    interrupted: bool = field(default=False, kw_only=True)  # somebody would not wait for that


class Stopped(End):
    """The user wanted it."""


class Spared(End):
    """The box is left to its deadline: it holds the only result, or the user wants to look at a failure."""


class Telling:
    """What stopped an attempt: its first failure, in words."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._error: BaseException | None = None
        self._said = ""
        self._interrupted = False

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Turn whatever the block raises into words: money is involved, so the books are closed in any case.

        But for ControlLost: the books are another machine's now.
        """
        try:
            yield
        except ControlLost:
            raise
        except KeyboardInterrupt as error:
            self._interrupted = True
            self._tell(STOPPED, error)
        except RentuneError as error:
            self._tell(error.in_full, error)
        except Exception as error:  # noqa: BLE001 - a fault of ours; the traceback is kept, the box is not
            self._interrupted = self._interrupted or _met_while_stopping(error)
            if isinstance(error, OSError) and error.errno in CURES:  # no fault of ours
                self._tell(f"{self._run.places.home} takes no more: {error.strerror}. {CURES[error.errno]}", error)
                return
            keep_fault(self._run.folder)
            log_path = self._run.folder.controller_log
            details = f" Details: {log_path}" if log_path.exists() else ""
            self._tell(f"The controller failed: {error!r}.{details}", error)

    def _tell(self, words: str, error: BaseException) -> None:
        words = redact(words)
        if self._error is None:
            self._said, self._error = words, error
        with suppress(OSError):  # nobody reads along any more
            self._run.display.note(words)

    @property
    def is_of_lease(self) -> bool:
        """Whether it was a lease that ended."""
        return isinstance(self._error, LeaseEnded)

    def end(self, *, spared: bool = False, may_have_learned: bool = False) -> End:
        """What it comes to. `may_have_learned`: object storage could not be asked what its trainer has pushed."""
        error = self._error
        if self._interrupted:
            return Stopped(self._said)
        if spared:
            return Spared(self._said)
        if isinstance(error, Declined):
            return TryAnother(self._said, error.reason, error.scope, error.zone)
        if self.is_of_lease:  # without what was learned all would begin anew: that is for the user to say
            kind = GoOn if may_have_learned or _has_learned(self._run) else Failed
            return kind(self._said, ended_by="lease")
        if isinstance(error, BoxLost):
            return Lost(self._said)
        return Trained("") if error is None else Failed(self._said)


def _met_while_stopping(error: BaseException) -> bool:
    """Whether it came while Ctrl-C was answered: a full disk refuses the lines of that, too, and hides who wanted it."""
    met: BaseException | None = error
    while met is not None and not isinstance(met, KeyboardInterrupt):
        met = met.__context__
    return met is not None


def _has_learned(run: Run) -> bool:
    """Whether there is something to go on from: at home, or in object storage as the last box's trainer said."""
    rental = run.state.rental
    return bool(steps_at_home(run.folder.checkpoints)) or (rental is not None and bool(rental.pushed))
