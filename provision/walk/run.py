"""The walk: from the opened line in the ledger to the receipt. It may be entered again wherever a run stands.

prepare      what the box will need is at home
create       a box, leased: from here on every way out ends in a teardown
boot         it answers, with the host key that we know
environment  the trainer and its interpreter are there
download     base and data are there
…            the trainer's own phases, followed by their events
fetch        adapter, outcome and log come home, hashes compared
teardown     the lease ends
confirm      the provider lists nothing of this run
receipt      planned against metered
"""

from __future__ import annotations

from typing import Final

from provision.account.ledger import Standing
from provision.account.receipt import Receipt
from provision.walk.attempt import End, Failed, Stopped, Telling, attempt, confirm
from provision.walk.books import close_books, read_outcome
from provision.walk.held import Run
from provision.walk.phases import Phases

UNTOLD: Final = "The box was ended and the books were not closed then: why there is no result is not known any more."


def walk(run: Run) -> Receipt:
    """Go on from where the run stands, to its receipt. The caller holds the run's lock.

    What fails is told in the receipt, after the teardown; nothing is raised.
    """
    phases = Phases(run.run_id, run.ledger, run.display, clock=run.clock, crash_point=run.crash_point)
    telling, end = Telling(run), None
    with telling.caught():
        end = _settled(run, phases)
    end = end or telling.end()
    return close_books(run, message=end.said, interrupted=isinstance(end, Stopped))


def _settled(run: Run, phases: Phases) -> End | None:
    if run.state.standing is Standing.OVER:
        confirm(run, phases)
        return None if read_outcome(run.folder) else Failed(UNTOLD)
    return attempt(run, phases, run.plan)
