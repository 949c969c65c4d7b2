"""Who ends a run at its deadline where its box can't: a machine that has switched itself off, and is billed all the same.

    python -m provision.charge.sentinel RUN_ID

Started by whoever takes charge of a run that may be rented at such a provider, and again by whoever finds it forsaken
(provision/charge/guard.py). It outlives the controller, does nothing until the deadline has passed, by a grace where somebody
may be in control, and leaves at once when the run has ended. One a run; a second leaves again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from provision.account.ledger import Ledger
from provision.account.runs import RunState
from provision.charge.controller import Hands, hands_of, hold_alone
from provision.charge.ends.ending import end
from provision.charge.ends.verdicts import end_of
from provision.charge.ownerless.strays import end_stray
from provision.charge.rings.knell import How, tell_end
from provision.envelope.failure import tell
from provision.errors import HeldElsewhere, RentuneError
from provision.home.clocks import Clocks
from provision.home.places import Places, read_places
from provision.prepare.papers import read_claim
from provision.seam import CLOCKS_AGREE_S, DEADLINE_GRACE_S, Owned, Teardown, clock_trouble, seen
from provision.walk.edges import Edges, provisioners
from provision.watch.progress import LineDisplay

LOOK_S: Final = 2.0  # assumed: a look at the ledger's size costs nothing
AGAIN_S: Final = 300.0  # assumed: a line that is down comes back, a cloud that declines changes its mind


def watch(
    run_id: str,
    ledger: Ledger,
    end_run: Callable[[RunState], bool],
    *,
    grace_s: Callable[[RunState], float] = lambda _state: DEADLINE_GRACE_S,
    clocks: Clocks,
) -> None:
    """Return once nothing of the run can bill; after its deadline and the grace, end it, as often as that takes.

    The deadline is read anew at each look: another attempt has one of its own. It has passed when the wall clock says so, or
    when as much time has gone by as it was away when first read: a wall clock that is set back must not put it off.

    `end_run` is handed the run as it was last read, and says whether all is over: a ledger that is away by then is no reason
    to leave its box, and one that stays away none to stay.
    """
    next_s = clocks.steady()
    state, read_at_s, due_s = ledger.runs()[run_id], None, 0.0
    while not state.over:
        end_at_s = state.deadline_at_s + grace_s(state)
        if end_at_s != read_at_s:
            read_at_s, due_s = end_at_s, clocks.steady() + end_at_s - clocks.wall()
        if (clocks.wall() >= end_at_s or clocks.steady() >= due_s) and clocks.steady() >= next_s:
            if end_run(state):
                return
            next_s = clocks.steady() + AGAIN_S
        clocks.sleep(LOOK_S)
        with suppress(RentuneError, OSError, KeyError):  # a ledger that can't be read now, or is lost, says of no end
            state = ledger.runs()[run_id]


def grace_for(state: RunState, places: Places, *, now_s: float) -> float:
    """Seconds after its deadline that a run is left to whoever is in control of it; none where nobody can be."""
    return 0.0 if hands_of(state, places.run(state.run_id).lock, now_s=now_s) is Hands.NOBODY else DEADLINE_GRACE_S


def _grace_now_s(state: RunState, *, places: Places, clocks: Clocks) -> float:
    return grace_for(state, places, now_s=clocks.wall())


def is_over(end_at_s: float, listed: Owned, *, now_s: float) -> bool:
    """Whether that moment has passed by the provider's clock too, where it tells the time: this machine's may have been set
    hours ahead, and the box trains.
    """
    return listed.ahead_s is None or now_s - listed.ahead_s >= end_at_s - CLOCKS_AGREE_S


def _listed(state: RunState, places: Places) -> Owned:
    claim = read_claim(places.run(state.run_id), state)
    return seen(lambda: provisioners(places, os.environ)(claim).owned(claim))


def _ended(state: RunState, ledger: Ledger, edges: Edges) -> Teardown:
    """End it as `down` does; where the ledger has lost the run, by what its provider lists with its tag."""
    if _known(state.run_id, ledger) is not None:
        try:
            return end_of(state.run_id, lambda: end(state.run_id, edges)).teardown
        except HeldElsewhere as error:
            return Teardown.unknown(state.run_id, str(error))
    edges.display.note(f"{ledger.path} has lost it: what {state.provider} lists of it is ended by its tag.")
    by_tag = partial(end_stray, state.run_id, state.provider, edges, meant=True)
    return end_of(state.run_id, by_tag).teardown


def _known(run_id: str, ledger: Ledger) -> RunState | None:
    with suppress(RentuneError, OSError):
        return ledger.runs().get(run_id)
    return None


def main(arguments: list[str]) -> int:
    """Watch over one run, unless somebody does already."""
    (run_id,) = arguments
    places, display = read_places(os.environ), LineDisplay(sys.stdout)
    edges, folder = Edges(places, display), places.run(run_id)
    clocks = edges.clocks
    ledger, said = Ledger(places.ledger), set[str]()

    def end_run(state: RunState) -> bool:
        listed = _listed(state, places)
        if not is_over(state.deadline_at_s, listed, now_s=clocks.wall()):
            display.note(f"{clock_trouble(listed.ahead_s) or ''} By theirs the deadline has not passed.".strip())
            return False
        display.note("The deadline has passed and the run is not seen to be over: ending it.")
        teardown = _ended(state, ledger, edges)
        if teardown.verdict not in said:  # once, however often it is tried
            said.add(teardown.verdict)
            known = _known(run_id, ledger) or state
            tell_end(teardown, known, folder, how=How.DEADLINE, note=display.note, at_s=clocks.wall())
        return teardown.clean and _known(run_id, ledger) is None

    def end_run_or_tell(state: RunState) -> bool:
        """Whatever fails, an alert as well, it is tried again: nobody else ends the box."""
        try:
            return end_run(state)
        except Exception as error:  # noqa: BLE001 - a fault of ours, or a home that is damaged
            display.note(f"It could not be ended ({type(error).__name__}: {error}); that is tried again.")
            return False

    try:
        with hold_alone(folder.sentinel, clocks) as alone:
            if alone:
                grace_s = partial(_grace_now_s, places=places, clocks=clocks)
                watch(run_id, ledger, end_run_or_tell, grace_s=grace_s, clocks=clocks)
    except Exception as error:  # noqa: BLE001 - the outermost frame: known failures are told, others pass through
        return tell(error, [])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
