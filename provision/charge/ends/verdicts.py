"""What is said of a run whose end failed or was cut off: whether it bills, and the command that ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from catalogs.failure import Failure
from provision.account.ledger import Ledger
from provision.errors import BooksOpen, EndUnseen, Held, RentuneError
from provision.seam import Teardown


@contextmanager
def told_if_cut_off(run_id: str, ledger: Ledger) -> Iterator[None]:
    """Around what drives or ends a run: one Ctrl-C too many cuts that off, and so does a fault of ours.

    Raises EndUnseen where it may bill then; where nothing does BooksOpen for the first, and what it raised for the other.
    """
    ledger.remember(run_id)
    try:
        yield
    except KeyboardInterrupt:
        state = ledger.runs()[run_id]
        if state.may_bill:
            raise EndUnseen(
                f"Interrupted before the box of run {run_id} was seen to be gone: it may still bill.",
                hint=f"rentune down {run_id}",
            ) from None
        hint = None if state.billed else f"rentune down {run_id} closes its books."
        raise BooksOpen(f"Interrupted. Nothing of run {run_id} bills.", hint=hint) from None
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


def ended_or_told(run_id: str, act: Callable[[], Teardown]) -> Teardown:
    """The verdict of `act`, also when it fails: whatever is wrong with one box, the next one must be ended, too.

    Raises Held alone, where nothing of that run is to be ended here, and what `told_if_cut_off` does.
    """
    try:
        return act()
    except (Held, EndUnseen, BooksOpen):
        raise
    except Exception as error:  # noqa: BLE001 - a fault of ours, or a run directory that is damaged
        return _not_ended(run_id, error)


def told_if_it_bills(run_id: str, ledger: Ledger, act: Callable[[], Teardown]) -> Teardown:
    """The verdict of `act`; of a run that was rented and is not seen to have ended also when it fails, whatever it failed at.

    Raises Held, and what `act` raises where nothing of the run can bill.
    """
    ledger.remember(run_id)
    try:
        return act()
    except Held:
        raise
    except Exception as error:
        if not ledger.runs()[run_id].may_bill:
            raise
        return _not_ended(run_id, error)


def _not_ended(run_id: str, error: Exception) -> Teardown:
    if isinstance(error, RentuneError):
        return Teardown.unknown(run_id, error.in_full)
    return Teardown.unknown(run_id, f"It could not be ended ({type(error).__name__}: {error}).")
