"""Who ends a run at its deadline where its box can't: a machine that has switched itself off, and is billed all the same.

    python -m provision.charge.sentinel RUN_ID

Started by whoever takes charge of a run that may be rented at such a provider. It outlives the controller, does nothing until
the deadline has passed by a grace, and leaves at once when the run has ended. One a run; a second leaves again.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from provision.account.ledger import Ledger
from provision.account.runs import RunState
from provision.charge.control import end, ended_or_told, provisioners
from provision.charge.controller import hold_alone
from provision.charge.knell import How, tell_end
from provision.envelope.failure import tell
from provision.errors import HeldElsewhere, RentuneError
from provision.home.clocks import passing_s
from provision.home.places import Places, read_places
from provision.prepare.opening import read_claim
from provision.provisioner import DEADLINE_GRACE_S, Owned, Teardown, clock_trouble, seen
from provision.watch.progress import LineDisplay

LOOK_S: Final = 2.0  # assumed: a look at the ledger's size costs nothing
AGAIN_S: Final = 300.0  # assumed: a line that is down comes back, a cloud that declines changes its mind


def watch(
    run_id: str,
    ledger: Ledger,
    end_run: Callable[[], object],
    *,
    clock: Callable[[], float] = time.time,
    steady: Callable[[], float] = passing_s,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return once nothing of the run can bill; after its deadline and the grace, end it, as often as that takes.

    The deadline is read anew at each look: another attempt has one of its own. It has passed when the wall clock says so, or
    when as much time has gone by as it was away when first read: a wall clock that is set back must not put it off.
    """
    next_s = steady()
    state, read_at_s, due_s = ledger.runs()[run_id], None, 0.0
    while not state.ended or state.goes_on:
        end_at_s = state.deadline_at_s + DEADLINE_GRACE_S
        if end_at_s != read_at_s:
            read_at_s, due_s = end_at_s, steady() + end_at_s - clock()
        if (clock() >= end_at_s or steady() >= due_s) and steady() >= next_s:
            end_run()
            next_s = steady() + AGAIN_S
        sleep(LOOK_S)
        with suppress(RentuneError, OSError, KeyError):  # a ledger that can't be read now, or is lost, says of no end
            state = ledger.runs()[run_id]


def is_over(state: RunState, listed: Owned, *, now_s: float) -> bool:
    """Whether its deadline and the grace have passed by its provider's clock too, where that tells the time: this machine's may
    have been set hours ahead, and the box trains.
    """
    return listed.ahead_s is None or now_s - listed.ahead_s >= state.deadline_at_s + DEADLINE_GRACE_S


def _listed(state: RunState, places: Places) -> Owned:
    claim = read_claim(places.run(state.run_id), state)
    return seen(lambda: provisioners(places, os.environ)(claim).owned(claim))


def main(arguments: list[str]) -> int:
    """Watch over one run, unless somebody does already."""
    (run_id,) = arguments
    places, display = read_places(os.environ), LineDisplay(sys.stdout)
    folder = places.run(run_id)

    ledger, said = Ledger(places.ledger), set[str]()

    def end_run() -> None:
        state = ledger.runs()[run_id]
        listed = _listed(state, places)
        if not is_over(state, listed, now_s=time.time()):
            display.note(f"{clock_trouble(listed.ahead_s) or ''} By theirs the deadline has not passed.".strip())
            return
        display.note("The deadline has passed and the run is not seen to be over: ending it.")
        try:
            teardown = ended_or_told(run_id, lambda: end(run_id, places=places, display=display))
        except HeldElsewhere as error:
            teardown = Teardown.unknown(run_id, str(error))
        if teardown.verdict not in said:  # once, however often it is tried
            said.add(teardown.verdict)
            with suppress(Exception):  # an alert is no reason to leave the run alone
                tell_end(teardown, ledger.runs()[run_id], folder, how=How.DEADLINE, note=display.note, at_s=time.time())

    try:
        with hold_alone(folder.sentinel) as alone:
            if alone:
                watch(run_id, ledger, end_run)
    except Exception as error:  # noqa: BLE001 - the outermost frame: known failures are told, others pass through
        return tell(error, [])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
