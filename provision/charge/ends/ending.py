"""Ending a run for good, by whoever is in charge of it or here. The way in goes through the run's lock."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext, suppress
from typing import Final

from provision.aboard.detached import ANSWER_S
from provision.account.ledger import Ledger
from provision.account.receipt.value import EndedBy
from provision.account.runs import RunState, Standing
from provision.charge.controller import LOOK_S, this_process
from provision.charge.ends.handover import Ask, handed_over, require_nobody
from provision.charge.ends.nothing import NothingRented
from provision.charge.finding import find_run
from provision.errors import MissingPart, Reason, RentuneError, ResultOnBox
from provision.home.places import RunFolder
from provision.home.wish import end_wished
from provision.prepare.papers import lost_papers, read_claim
from provision.seam import Answer, Provisioner, ResourceEnd, Teardown, seen
from provision.state.checkpoints import PushedCheckpoints, pushed_of
from provision.state.shared import ledger_of
from provision.walk import renting
from provision.walk.books import close_books, write_go_on
from provision.walk.crash import crash_around, read_crash_point
from provision.walk.driven import Run, read_run
from provision.walk.edges import Edges
from provision.walk.job.at_home import read_outcome
from provision.walk.job.carrying import bring_pushed, lies_at
from provision.walk.job.patience import is_users_own, lease_end_words, listed
from provision.walk.job.rescue import RESCUE_S, rescue
from provision.walk.job.stopping import MOST_S
from provision.walk.renting import Renting
from provision.walk.timekeeping import with_steady_clock

# Derived: until its teardown begins, a controller that was asked to stop waits for the trainer, and brings home what is there.
STOPPING_S: Final = MOST_S + ANSWER_S + RESCUE_S
CLOSING_S: Final = 60.0  # assumed: for one more look at the provider's lists, and the books


def end(run_id: str, edges: Edges, *, discard: bool = False, meant: bool = True, hand_over_s: float | None = None) -> Teardown:
    """End a run for good: ask its controller to, else do it here. The books are closed with what is at home.

    A finished result comes home first, unless it is to be discarded; a box whose result does not come is not ended.
    A process that is ending the run already is waited for. One that is not done after `hand_over_s` (None = as long as it may
    take) is an unknown end. `meant`: somebody, or its deadline, has said that this very run is to end; so it is, even
    where nobody can tell whether another machine holds it. Without that nobody is asked to stop. Raises Refused while another
    machine holds it, and where a controller is another user's; Held while a process here does and nobody has said so;
    StoreFailed.
    """
    ledger, folder, note = _ledger_to_end(run_id, edges, meant=meant), edges.places.run(run_id), edges.display.note
    state = find_run(ledger, run_id)
    ledger.remember(run_id, note)
    patience_s = hand_over_s
    if patience_s is None:
        patience_s = longest_end_s(_made_if_rented(edges, folder, state)) if meant else LOOK_S
    ask = Ask.NOTHING if not meant else Ask.STOP_AT_ONCE if discard else Ask.STOP
    word = end_wished(folder, note) if meant and not state.over else nullcontext()
    with word, handed_over(run_id, folder, ledger, note, edges.clocks, ask=ask, patience_s=patience_s) as held:
        if not meant:
            require_nobody(run_id, find_run(ledger, run_id), held=held, now_s=edges.clocks.wall())
        if not held:
            return Teardown.unknown(run_id, f"Its controller has not let go after {patience_s:.0f} s.")
        with ledger.charge(ending=meant):
            return _end_locked(run_id, edges, ledger, discard=discard)


def _ledger_to_end(run_id: str, edges: Edges, *, meant: bool) -> Ledger:
    """As `ledger_of`; where what is said of the store can't be used, a run that is meant is ended by what is here alone."""
    around = crash_around(read_crash_point(edges.environment))
    try:
        return ledger_of(run_id, edges.places, note=edges.display.note, around=around)
    except RentuneError as error:
        if not meant:
            raise
        edges.display.note(f"{error} The run is ended all the same.")
        return Ledger(edges.places.ledger, around=around)


def _end_locked(run_id: str, edges: Edges, ledger: Ledger, *, discard: bool) -> Teardown:
    """End it here, unless somebody has meanwhile. The caller holds the run's lock."""
    folder, note = edges.places.run(run_id), edges.display.note
    state = find_run(ledger, run_id)
    if state.over and state.billed and state.teardown:
        teardown = _ended_before(state, state.teardown, edges, ledger)
        if teardown.clean and not state.billed.trained and not discard:  # what bills comes first, and is told first
            _bring_what_was_left(run_id, edges, ledger)
        return teardown
    provisioner = _made_if_rented(edges, folder, state)
    try:
        ledger.append(this_process(run_id, at_s=edges.clocks.wall(), ending=True))
    except OSError as error:  # who ends it can't be written down; what bills is ended first
        note(f"{ledger.path} takes no line ({error.strerror}). The run is ended all the same.")
    if lost := set(lost_papers(folder)) - {folder.launch}:
        note(f"Its books stay open: {min(lost)} is missing or damaged.")
        if state.may_bill and state.box is not None and not state.box.ours and not discard:
            why = f"Without {min(lost).name} your host can't be asked for a result, so nothing there is removed."
            return _left(state, why, at_s=edges.clocks.wall())
        return renting.end(read_claim(folder, state), Renting(provisioner, ledger, edges.clocks.wall, note))
    run = read_run(run_id, edges.by(lambda _claim: provisioner), ledger=ledger)
    run = dataclasses.replace(with_steady_clock(run), pushed=_pushed_if_seen(run_id, folder))
    return end_with_books(run, discard=discard)


def _bring_what_was_left(run_id: str, edges: Edges, ledger: Ledger) -> None:
    """What a run has pushed whose books were closed while its store was away comes home, with a job that goes on from it."""
    folder = edges.places.run(run_id)
    pushed = _pushed_if_seen(run_id, folder)
    if pushed is None or lost_papers(folder):
        return
    run = dataclasses.replace(read_run(run_id, edges.by(lambda _claim: NothingRented()), ledger=ledger), pushed=pushed)
    if bring_pushed(run):
        write_go_on(run)


def _ended_before(state: RunState, verdict: Teardown, edges: Edges, ledger: Ledger) -> Teardown:
    """The verdict that stands; but what its provider lists all the same is ended, too, whatever the books say."""
    if not state.rentals:
        return verdict
    try:
        claim = read_claim(edges.places.run(state.run_id), state)
        provisioner = edges.provisioners()(claim)
    except RentuneError:  # nobody to ask: the verdict was made of two looks
        return verdict
    listed = seen(lambda: provisioner.owned(claim))
    if not listed.resources and {each.id for each in listed.kept} <= state.volumes.keys():
        return verdict
    edges.display.note(f"{state.provider} lists something of it, though it was seen to be gone. It is ended once more.")
    return renting.end(claim, Renting(provisioner, ledger, edges.clocks.wall, edges.display.note))


def _pushed_if_seen(run_id: str, folder: RunFolder) -> PushedCheckpoints | None:
    """Where its checkpoints lie in object storage; None also where that can't be asked: they stay there, and bill no box."""
    with suppress(RentuneError):
        return pushed_of(run_id, folder)
    return None


def longest_end_s(provisioner: Provisioner) -> float:
    """Seconds until a controller that was asked to stop has let go, at the most."""
    return STOPPING_S + provisioner.worst_teardown_s + CLOSING_S


def end_with_books(run: Run, *, discard: bool = False) -> Teardown:
    """Bring home what is finished, end the box, close the books. The caller holds the run's lock and its clock.

    A result that does not come keeps its box, but not past the deadline: what bills for nothing else would bill for ever. A
    host of the user's does not, and is kept by what could not be asked for, too.
    """
    message, of_lease = "Ended by `down`.", _ended_by_lease(run)
    try:
        if not discard:
            of_lease = rescue(run) or of_lease
    except ResultOnBox as error:
        if is_users_own(run) or run.left_s > 0:
            return _left(run.state, str(error), at_s=run.clocks.wall())
        run.display.note(f"{error} Its deadline has passed, so it is ended all the same: the result is lost with it.")
        message = f"{message} Its result did not come home before its deadline, and is lost."
    message = f"{of_lease} {message}" if of_lease is not None else message
    run.display.phase("teardown")
    teardown = renting.end(run.claim, run.renting)
    outcome = read_outcome(run.folder)
    trained = outcome is not None and outcome.trained
    wanted = bool(run.state.rentals) and not trained and not discard
    if wanted and not bring_pushed(run):
        message = f"{message} {lies_at(run)}"
    ended_by: EndedBy | None = "lease" if of_lease is not None and not trained else None
    close_books(run, message=message, interrupted=not trained, ended_by=ended_by)
    return teardown


def _ended_by_lease(run: Run) -> str | None:
    """That a lease has ended its last box, in words: by what was written down, or as that is gone and nobody renewed it. None
    where it was something else, or nobody could see.
    """
    rental, box = run.state.rental, run.state.box
    if rental is not None and rental.tried is not None:
        return rental.tried.message if rental.tried.reason is Reason.LEASE else None
    had_one = run.state.opened.lease_s is not None  # asked first: a host that is silent is waited for
    if not had_one or run.state.standing is not Standing.UP or box is None or not listed(run).lacks(box):
        return None
    return lease_end_words(run)


def _left(state: RunState, why: str, *, at_s: float) -> Teardown:
    """The verdict on a box that may hold the only copy of a result: not ended, and the command that ends it all the same."""
    resources = tuple(
        ResourceEnd(resource=each, gone=Answer.NO, at_s=at_s) for each in (state.box.resources if state.box else ())
    )
    return Teardown.orphaned(state.run_id, why, resources=resources, command=f"rentune down --discard {state.run_id}")


def _made_if_rented(edges: Edges, folder: RunFolder, state: RunState) -> Provisioner:
    """The run's provisioner. Without the part that it needs, a run that never asked for a box can be ended all the same."""
    try:
        return edges.provisioners()(read_claim(folder, state))
    except MissingPart:
        if state.rentals:
            raise
        return NothingRented()
