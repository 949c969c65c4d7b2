"""Driving a run on from wherever it stands to its receipt. The way in goes through the run's lock."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable, Mapping
from functools import partial

from provision.account.receipt import Receipt
from provision.charge.attendant import NOBODY_THERE, Attendant
from provision.charge.controller import in_control
from provision.charge.ends.handover import ENDING
from provision.charge.finding import find_run
from provision.charge.guard import set_sentinel
from provision.charge.rings.bell import bell
from provision.errors import EndUnseen, Refused
from provision.home.clocks import CLOCKS, Clocks
from provision.home.interrupt import interruptible
from provision.home.places import Places
from provision.providers import ended_from_home
from provision.state.checkpoints import pushed_of
from provision.state.shared import ledger_of
from provision.walk.crash import crash_around, read_crash_point
from provision.walk.held import MakeProvisioner, Run, provisioners, read_run
from provision.walk.phases import Display
from provision.walk.run import forbidden, rented_elsewhere, result_is_elsewhere, walk
from provision.walk.timekeeping import with_held_clock


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
        interruptible(_answers(run, attendant)),
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


def _answers(run: Run, attendant: Attendant) -> dict[int, Callable[[], bool]]:
    """What becomes of the run at a signal that says neither who sent it nor that the run is to end."""
    if attendant.let_go is None:
        return {signal.SIGHUP: partial(_hung_up, run, attendant.hand_over)}
    return {number: partial(_told_to_go, run, number, attendant.let_go) for number in (signal.SIGTERM, signal.SIGHUP)}


def _told_to_go(run: Run, number: int, let_go: Callable[[int], object]) -> bool:
    """Answer a machine that shuts down; whether it was answered. What is being ended already is ended for as long as the
    machine allows. Where nothing but this machine ends the bill, the run is ended: off, it would let it go on for ever.
    """
    state = run.state
    if state.phase in ENDING or (state.controlled is not None and state.controlled.ending):
        return True
    if state.may_bill and ended_from_home(state.provider):
        return False
    let_go(number)
    return True


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
