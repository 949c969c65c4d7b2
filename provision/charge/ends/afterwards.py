"""What was ended once a run's books were closed, written into them: its ledger tells all that it had, and when that went."""

from __future__ import annotations

import msgspec

from provision.account.ledger import Ledger
from provision.account.lines import Ended
from provision.account.runs import RunState, Standing
from provision.errors import RentuneError
from provision.home.places import Places
from provision.seam import ResourceEnd, Teardown
from provision.state.shared import ledger_of
from provision.words import Note


def with_ends(before: Teardown, ends: tuple[ResourceEnd, ...], after: Teardown) -> Teardown:
    """The verdict `after`, with all that was ended before, each once: what was seen last counts."""
    each_once = {(end.resource.kind, end.resource.id): end for end in (*before.resources, *ends)}
    return msgspec.structs.replace(after, resources=tuple(each_once.values()))


def goes_on(state: RunState) -> bool:
    """Whether somebody may come who looks to what is there himself: before a first verdict, and between two attempts."""
    return state.teardown is None or state.standing is Standing.BETWEEN


def write_stray_end(teardown: Teardown, provider: str, *, at_s: float, places: Places, note: Note) -> None:
    """The end of what carried the tag of a run that this ledger has as ended; nothing where nothing was there, or the run is
    in no ledger here, or has another attempt to come, before which somebody looks once more.

    What did not go opens the run's last rental again, if that was at this provider: it bills, and `ls` says so.
    """
    state = Ledger(places.ledger).runs().get(teardown.run_id)
    if state is None or state.teardown is None or goes_on(state) or not teardown.resources:
        return
    if teardown.clean or provider == state.provider:
        write_end(state, with_ends(state.teardown, teardown.resources, teardown), at_s=at_s, places=places, note=note)


def write_end(state: RunState, teardown: Teardown, *, at_s: float, places: Places, note: Note) -> None:
    """The verdict on a run once more, wherever its book is read. A store that is away is told of, and this home has it."""
    ended = Ended(run_id=state.run_id, at_s=at_s, teardown=teardown)
    try:
        shared = ledger_of(state.run_id, places, note=note)
        with shared.charge(ending=True):
            shared.append(ended)
    except RentuneError as error:  # what is gone is gone
        note(f"{error} What was ended of run {state.run_id} is written down here alone.")
        Ledger(places.ledger).append(ended)
