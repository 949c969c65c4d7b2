"""What rings for a run that is ended while no controller drives it: by `down`, or past its deadline from a process at home."""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import StrEnum

import msgspec

from provision.account.ledger import Ledger
from provision.account.runs import RunState
from provision.charge.ends.verdicts import RunEnd
from provision.charge.rings.bell import LEASE_HAD_ENDED, alert_of, share_words, still_bills_words, targets_here
from provision.charge.rings.budget import note_told, untold_shares
from provision.errors import Exit
from provision.home.faults import apart
from provision.home.places import RunFolder
from provision.seam import Teardown
from provision.walk.books import read_receipt
from provision.walk.edges import Edges
from provision.watch.alerts import Alert, Post
from provision.words import Note


class How(StrEnum):
    """What ended a run, where its controller did not."""

    DOWN = "was ended by `down`"
    DEADLINE = "was ended past its deadline, in its controller's place"
    AGAIN = "had left something at its provider, which was ended"


def tell_end(teardown: Teardown, state: RunState, folder: RunFolder, *, how: How, note: Note, at_s: float) -> None:
    """For a run that was ended in its controller's place: whether its box is gone, and which shares of the budget went unheard.

    Waits until everybody has heard it. Whatever is wrong with an alert keeps nobody from ending the next run.
    """
    post = Post(targets_here(folder, note), told=note)
    if not post.has_targets:
        return
    with apart(folder):
        for share in untold_shares(state, folder, now_s=at_s):
            post.send(alert_of(state, "budget", share_words(state, share), at_s=at_s, command=None))
            note_told(share, folder)
    with apart(folder):
        post.send(_end_of(teardown, state, folder, how, at_s))
    post.close()


def _end_of(teardown: Teardown, state: RunState, folder: RunFolder, how: How, at_s: float) -> Alert:
    if not teardown.clean:
        alert = alert_of(state, "still_bills", still_bills_words(state.run_id), at_s=at_s, command=teardown.command)
        return msgspec.structs.replace(alert, exit_code=int(Exit.STILL_BILLS))
    receipt = read_receipt(folder) if how is not How.AGAIN else None
    of_lease = f", {LEASE_HAD_ENDED}" if receipt is not None and receipt.ending.ended_by == "lease" else ""
    text = f"Run {state.run_id} {how}{of_lease}; its box is gone."
    alert = alert_of(state, "finished", text, at_s=at_s, command=f"rentune report {state.run_id}")
    return msgspec.structs.replace(alert, exit_code=state.billed.exit_code if state.billed else None)


def ended_and_told(run_id: str, act: Callable[[], RunEnd], edges: Edges) -> RunEnd:
    """What `act` comes to, which ends a run of this home or waits for whoever is at it; what nobody else tells rings: one that
    failed, or was cut off, may have left a box that bills. Raises what `act` raises.
    """
    ledger = Ledger(edges.places.ledger)
    ledger.remember(run_id)
    before = ledger.runs()[run_id]
    end = act()
    if end.failure is None or end.may_bill:
        _tell(end.teardown, before, ledger.runs()[run_id], edges)
    return end


def _tell(teardown: Teardown, before: RunState, after: RunState, edges: Edges) -> None:
    """Nothing where a verdict stands as it stood, and where its own controller ended the run and has told it."""
    if teardown.clean and (teardown == before.teardown if before.over else not _is_this_process(after)):
        return
    how = How.AGAIN if before.over else How.DOWN
    folder, now_s = edges.places.run(after.run_id), edges.clocks.wall()
    tell_end(teardown, after, folder, how=how, note=edges.display.note, at_s=now_s)


def _is_this_process(state: RunState) -> bool:
    return state.controlled is not None and state.controlled.pid == os.getpid()
