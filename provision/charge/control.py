"""Taking charge of a run: drive it on, or end it. Every way in goes through the run's lock."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

from provision.aboard.detached import ANSWER_S
from provision.account.ledger import Around, Ledger
from provision.account.naming import fitting
from provision.account.receipt import Receipt
from provision.account.runs import RunState
from provision.charge.attendant import NOBODY_THERE, Attendant
from provision.charge.bell import bell
from provision.charge.controller import LOOK_S, in_control, this_process
from provision.charge.guard import set_sentinel
from provision.charge.handover import Ask, handed_over, require_nobody
from provision.charge.nothing import NothingRented
from provision.errors import BadInput, BooksOpen, EndUnseen, Held, MissingPart, Refused, RentuneError, ResultOnBox
from provision.home.clocks import CLOCKS, Clocks
from provision.home.interrupt import interruptible
from provision.home.places import Places, RunFolder
from provision.prepare.opening import lost_papers, read_claim
from provision.providers import Confirm, provisioner_of_run
from provision.provisioner import Answer, Provisioner, ResourceEnd, Teardown, seen
from provision.state.checkpoints import PushedCheckpoints, pushed_of
from provision.state.shared import ledger_of
from provision.walk import lease
from provision.walk.books import close_books, read_outcome
from provision.walk.crash import crash_around, read_crash_point
from provision.walk.held import MakeProvisioner, Run, read_run
from provision.walk.lease import Renting
from provision.walk.phases import Display
from provision.walk.rescue import RESCUE_S, rescue
from provision.walk.run import forbidden, rented_elsewhere, result_is_elsewhere, walk
from provision.walk.stopping import MOST_S
from provision.walk.timekeeping import with_held_clock

# Derived: until its teardown begins, a controller that was asked to stop waits for the trainer, and brings home what is there.
STOPPING_S: Final = MOST_S + ANSWER_S + RESCUE_S
CLOSING_S: Final = 60.0  # assumed: for one more look at the provider's lists, and the books
NAMED: Final = 5  # assumed: as many ids as a sentence holds


def provisioners(places: Places, environment: Mapping[str, str], *, confirm: Confirm | None = None) -> MakeProvisioner:
    """What makes the provisioner of a run from where its box is."""
    return partial(provisioner_of_run, places=places, environment=environment, confirm=confirm)


def drive(
    run_id: str,
    *,
    places: Places,
    display: Display,
    environment: Mapping[str, str] = os.environ,
    detached: bool = False,
    attendant: Attendant = NOBODY_THERE,
    make: MakeProvisioner | None = None,
    clocks: Clocks = CLOCKS,
) -> Receipt:
    """Take charge of a run wherever it stands and go on to its receipt. Raises Refused while somebody else is in charge,
    where another machine has the result, where the box is another account's (EndUnseen while it may bill), and where a policy
    forbids by now what would be rented.
    """
    crash_point = read_crash_point(environment)
    ledger = ledger_of(run_id, places, note=display.note, around=crash_around(crash_point))
    find_run(ledger, run_id)
    run = read_run(
        run_id,
        places=places,
        ledger=ledger,
        make=make or provisioners(places, environment, confirm=attendant.confirm),
        display=display,
        clocks=clocks,
    )
    run = dataclasses.replace(run, agrees=attendant.agrees, pushed=pushed_of(run_id, run.folder), crash_point=crash_point)
    if (why := rented_elsewhere(run)) is not None:
        raise (EndUnseen if run.state.may_bill else Refused)(why)
    if result_is_elsewhere(run):
        raise Refused(
            f"The result of run {run_id} came home once, and is not here: another machine has it, or it was moved.",
            hint=f"rentune resume {run_id} there; rentune down {run_id} closes the books without it.",
        )
    if (why := forbidden(run)) is not None:
        raise Refused(
            f"{why} Nothing was rented for run {run_id}.",
            hint=f"Change the policy, then rentune resume {run_id}; rentune down {run_id} closes the books.",
        )
    run = with_held_clock(run)
    with (
        bell(run) as ringing,
        interruptible(lambda: _hung_up(run, attendant.hand_over)),
        in_control(run_id, run.folder, ledger, clock=run.clock, detached=detached),
    ):
        ringing.started()
        _set_sentinel(run, environment)
        receipt = walk(ringing.run)
        ringing.finished(receipt)
        return receipt


def _set_sentinel(run: Run, environment: Mapping[str, str]) -> None:
    try:
        set_sentinel(run.run_id, (plan.offer.provider for plan in run.plans), run.places, environment)
    except OSError as error:
        run.display.note(f"Nobody here will end this run at its deadline: no process could be started ({error.strerror}).")


def _hung_up(run: Run, hand_over: Callable[[], object] | None) -> bool:
    """Answer a closed terminal; whether it was answered. Nothing is left to anybody before something was rented.

    A run that the user has stopped already is ended here, not taken up again elsewhere.
    """
    state = run.state
    if hand_over is None or not state.rentals:
        return False
    if state.controlled is None or not state.controlled.ending:
        hand_over()
    return True


def end(
    run_id: str,
    *,
    places: Places,
    display: Display,
    environment: Mapping[str, str] = os.environ,
    make: MakeProvisioner | None = None,
    discard: bool = False,
    meant: bool = True,
    hand_over_s: float | None = None,
) -> Teardown:
    """End a run for good: ask its controller to, else do it here. The books are closed with what is at home.

    A finished result comes home first, unless it is to be discarded; a box whose result does not come is not ended.
    A process that is ending the run already is waited for. One that is not done after `hand_over_s` (None = as long as it may
    take) is an unknown end. `meant`: somebody, or its deadline, has said that this very run is to end; so it is, even
    where nobody can tell whether another machine holds it. Without that nobody is asked to stop. Raises Refused while another
    machine holds it, and where a controller is another user's; Held while a process here does and nobody has said so;
    StoreFailed.
    """
    around = crash_around(read_crash_point(environment))
    ledger = _ledger_to_end(run_id, places, display, meant=meant, around=around)
    folder = places.run(run_id)
    state = find_run(ledger, run_id)
    make = make or provisioners(places, environment)
    patience_s = hand_over_s
    if patience_s is None:
        patience_s = longest_end_s(_made_if_rented(make, folder, state)) if meant else LOOK_S
    ask = Ask.NOTHING if not meant else Ask.STOP_AT_ONCE if discard else Ask.STOP
    with handed_over(run_id, folder, ledger, display.note, ask=ask, patience_s=patience_s) as held:
        if not meant:
            require_nobody(run_id, find_run(ledger, run_id), held=held)
        if not held:
            return Teardown.unknown(run_id, f"Its controller has not let go after {patience_s:.0f} s.")
        with ledger.charge(ending=meant):
            return _end_locked(run_id, places, ledger, make, display, discard=discard)


def _ledger_to_end(run_id: str, places: Places, display: Display, *, meant: bool, around: Around) -> Ledger:
    """As `ledger_of`; where what is said of the store can't be used, a run that is meant is ended by what is here alone."""
    try:
        return ledger_of(run_id, places, note=display.note, around=around)
    except RentuneError as error:
        if not meant:
            raise
        display.note(f"{error} The run is ended all the same.")
        return Ledger(places.ledger, around=around)


def _end_locked(
    run_id: str, places: Places, ledger: Ledger, make: MakeProvisioner, display: Display, *, discard: bool
) -> Teardown:
    """End it here, unless somebody has meanwhile. The caller holds the run's lock."""
    folder = places.run(run_id)
    state = find_run(ledger, run_id)
    if state.over and state.billed and state.teardown:
        return _ended_before(state, state.teardown, folder, ledger, make, display)
    provisioner = _made_if_rented(make, folder, state)
    try:
        ledger.append(this_process(run_id, at_s=time.time(), ending=True))
    except OSError as error:  # who ends it can't be written down; what bills is ended first
        display.note(f"{ledger.path} takes no line ({error.strerror}). The run is ended all the same.")
    if lost := set(lost_papers(folder)) - {folder.launch}:
        display.note(f"Its books stay open: {min(lost)} is missing or damaged.")
        return lease.end(read_claim(folder, state), Renting(provisioner, ledger, note=display.note))
    run = read_run(
        run_id,
        places=places,
        ledger=ledger,
        make=lambda _claim: provisioner,
        display=display,
    )
    run = dataclasses.replace(with_held_clock(run), pushed=_pushed_if_seen(run_id, folder))
    return end_with_books(run, discard=discard)


def _ended_before(
    state: RunState, verdict: Teardown, folder: RunFolder, ledger: Ledger, make: MakeProvisioner, display: Display
) -> Teardown:
    """The verdict that stands; but what its provider lists all the same is ended, too, whatever the books say."""
    if not state.rentals:
        return verdict
    try:
        claim = read_claim(folder, state)
        provisioner = make(claim)
    except RentuneError:  # nobody to ask: the verdict was made of two looks
        return verdict
    listed = seen(lambda: provisioner.owned(claim))
    if not listed.resources and {each.id for each in listed.kept} <= state.volumes.keys():
        return verdict
    display.note(f"{state.provider} lists something of it, though it was seen to be gone. It is ended once more.")
    return lease.end(claim, Renting(provisioner, ledger, note=display.note))


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

    A result that does not come keeps its box, but not past the deadline: what bills for nothing else would bill for ever.
    """
    message = "Ended by `down`."
    try:
        if not discard:
            rescue(run)
    except ResultOnBox as error:
        if not _bills_on(run) or run.left_s > 0:
            return _left_with_result(run, error)
        run.display.note(f"{error} Its deadline has passed, so it is ended all the same: the result is lost with it.")
        message = f"{message} Its result did not come home before its deadline, and is lost."
    run.display.phase("teardown")
    teardown = lease.end(run.claim, run.renting)
    outcome = read_outcome(run.folder)
    close_books(run, message=message, interrupted=outcome is None or not outcome.trained)
    return teardown


def _bills_on(run: Run) -> bool:
    """Whether a box that nobody ends costs on: a machine of the user's own does not, and may keep what it holds."""
    box = run.state.box
    return box is None or box.ours


def _left_with_result(run: Run, error: ResultOnBox) -> Teardown:
    """The verdict on a box that holds the only copy of a result: not ended, and the command that ends it all the same."""
    box = run.state.box
    left = tuple(ResourceEnd(resource=each, gone=Answer.NO, at_s=run.clock()) for each in (box.resources if box else ()))
    return Teardown.orphaned(run.run_id, str(error), resources=left, command=f"rentune down --discard {run.run_id}")


def find_run(ledger: Ledger, name: str, *, least_letters: int = 1) -> RunState:
    """The run with this id, or the only one whose id ends or begins so. Raises BadInput."""
    if not name:
        raise BadInput("The run's id is empty.", hint="rentune ls")
    runs = ledger.runs()
    if name not in runs and len(name) < least_letters:
        raise BadInput(
            f"{name!r} is too short a part of an id.", hint=f"Type at least {least_letters} letters of it: rentune ls"
        )
    matching = fitting(name, runs)
    if len(matching) == 1:
        return runs[matching[0]]
    if not matching:
        raise BadInput(f"There is no run {name!r}.", hint="rentune ls")
    named = ("" if len(matching) <= NAMED else "…, ") + ", ".join(matching[-NAMED:])
    raise BadInput(f"{len(matching)} runs fit {name!r}: {named}.", hint="more letters of one of them; all: rentune ls --all")


@contextmanager
def told_if_cut_off(run_id: str, ledger: Ledger) -> Iterator[None]:
    """Around what ends a run: one Ctrl-C too many cuts that off, too. Raises EndUnseen, or BooksOpen where nothing bills."""
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


def _made_if_rented(make: MakeProvisioner, folder: RunFolder, state: RunState) -> Provisioner:
    """The run's provisioner. Without the part that it needs, a run that never asked for a box can be ended all the same."""
    try:
        return make(read_claim(folder, state))
    except MissingPart:
        if state.rentals:
            raise
        return NothingRented()


def ended_or_told(run_id: str, act: Callable[[], Teardown]) -> Teardown:
    """The verdict of `act`, also when it fails: whatever is wrong with one box, the next one must be ended, too.

    Raises Held alone: nothing of that run is to be ended here.
    """
    try:
        return act()
    except Held:
        raise
    except Exception as error:  # noqa: BLE001 - a fault of ours, or a run directory that is damaged
        return _not_ended(run_id, error)


def told_if_it_bills(run_id: str, ledger: Ledger, act: Callable[[], Teardown]) -> Teardown:
    """The verdict of `act`; of a run that was rented and is not seen to have ended also when it fails, whatever it failed at.

    Raises Held, and what `act` raises where nothing of the run can bill.
    """
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
        return Teardown.unknown(run_id, " ".join(filter(None, (str(error), error.hint))))
    return Teardown.unknown(run_id, f"It could not be ended ({type(error).__name__}: {error}).")
