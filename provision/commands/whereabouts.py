"""The run that a command names: in this home, or brought here from where its state lies."""

from __future__ import annotations

from provision.account.ledger import Ledger
from provision.account.runs import RunState
from provision.charge.controller import lock_of
from provision.charge.finding import find_run
from provision.errors import BadInput
from provision.home.clocks import CLOCKS
from provision.home.places import Places
from provision.prepare.limits.policy import state_place
from provision.state.shared import bring, refresh


def run_brought(name: str, url: str | None, places: Places, *, least_letters: int = 1, up_to_date: bool = False) -> RunState:
    """As this home's ledger has it; one that it does not know is brought from `url`, or where a policy says.

    With `up_to_date` also what another machine has written meanwhile. Raises BadInput, Refused, StoreFailed.
    """
    ledger = Ledger(places.ledger)
    try:
        run_id = find_run(ledger, name, least_letters=least_letters).run_id
    except BadInput:
        place = state_place(places, url)
        if place is None or not name:
            raise
        run_id = bring(name, place, places)
    else:
        if up_to_date:
            with lock_of(places.run(run_id), CLOCKS) as alone:
                if alone:  # a controller that lives here has it all, and its files under way
                    refresh(run_id, places)
    return ledger.runs()[run_id]
