"""What came of driving or ending a run, whatever that met: whether it bills, and the command that ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from catalogs.failure import Failure
from provision.account.ledger import Ledger
from provision.errors import BooksOpen, EndUnseen, Held, RentuneError
from provision.seam import Teardown


@dataclass(frozen=True)
class RunEnd:
    """What came of ending a run. One that failed, or was cut off, is an end that nobody has seen."""

    teardown: Teardown
    failure: Exception | None = None
    may_bill: bool = True
    cut_off: bool = False  # by one Ctrl-C too many

    @classmethod
    def failed(cls, run_id: str, error: Exception, *, may_bill: bool = True) -> RunEnd:
        """Of an ending that met this: a fault of ours, or a run directory that is damaged."""
        said = error.in_full if isinstance(error, RentuneError) else f"It could not be ended ({type(error).__name__}: {error})."
        return cls(Teardown.unknown(run_id, said), failure=error, may_bill=may_bill)

    def told(self) -> Teardown:
        """The verdict, to whoever asked for this very run. Raises what it failed at, where that was one Ctrl-C too many, and
        where nothing of the run can bill.
        """
        if self.failure is not None and (self.cut_off or not self.may_bill):
            raise self.failure
        return self.teardown


def end_of(run_id: str, act: Callable[[], Teardown], *, ledger: Ledger | None = None) -> RunEnd:
    """What `act` comes to: whatever is wrong with one box, the next one must be ended, too, and this one told. `ledger`: where
    the run has a line.

    Raises Held alone, where nothing of that run is to be ended here; without a ledger Ctrl-C as well.
    """
    if ledger is not None:
        ledger.remember(run_id)
    try:
        return RunEnd(act())
    except Held:
        raise
    except KeyboardInterrupt:
        if ledger is None:
            raise
        failure = _cut_off(run_id, ledger)
        may_bill = isinstance(failure, EndUnseen)
        return RunEnd(Teardown.unknown(run_id, str(failure)), failure=failure, may_bill=may_bill, cut_off=True)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        return RunEnd.failed(run_id, error, may_bill=ledger is None or ledger.runs()[run_id].may_bill)


@contextmanager
def told_if_cut_off(run_id: str, ledger: Ledger) -> Iterator[None]:
    """Around what drives a run: one Ctrl-C too many cuts that off, and so does a fault of ours.

    Raises EndUnseen where it may bill then; where nothing does BooksOpen for the first, and what it raised for the other.
    """
    ledger.remember(run_id)
    try:
        yield
    except KeyboardInterrupt:
        raise _cut_off(run_id, ledger) from None
    except Failure:
        raise
    except Exception as error:
        if not ledger.runs()[run_id].may_bill:
            raise
        raise EndUnseen(
            f"rentune has failed ({type(error).__name__}: {error}) before the box of run {run_id} was seen to be gone: "
            "it may still bill.",
            hint=f"rentune down {run_id}",
        ) from error


def _cut_off(run_id: str, ledger: Ledger) -> EndUnseen | BooksOpen:
    """Whether the run bills, and what to type."""
    state = ledger.runs()[run_id]
    if state.may_bill:
        return EndUnseen(
            f"Interrupted before the box of run {run_id} was seen to be gone: it may still bill.", hint=f"rentune down {run_id}"
        )
    hint = None if state.billed else f"rentune down {run_id} closes its books."
    return BooksOpen(f"Interrupted. Nothing of run {run_id} bills.", hint=hint)
