"""Driving a run on from wherever it stands to its receipt. The way in goes through the run's lock."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from provision.account.receipt.value import Receipt
from provision.charge.attendant import NOBODY_THERE, Attendant
from provision.charge.controller import in_control
from provision.charge.finding import find_run
from provision.charge.guard import set_sentinel
from provision.charge.leaving import leaving
from provision.charge.rings.bell import bell
from provision.errors import EndUnseen, Refused
from provision.home.interrupt import interruptible
from provision.state.checkpoints import pushed_of
from provision.state.shared import ledger_of
from provision.walk.crash import crash_around, read_crash_point
from provision.walk.driven import Run, read_run
from provision.walk.edges import Edges
from provision.walk.run import forbidden, rented_elsewhere, result_is_elsewhere, walk
from provision.walk.timekeeping import with_steady_clock


def drive(
    run_id: str, edges: Edges, *, detached: bool = False, goes_on: bool = False, attendant: Attendant = NOBODY_THERE
) -> Receipt:
    """Take charge of a run wherever it stands and go on to its receipt. `goes_on`: a word from before that it is to end is
    taken back. Raises Refused while somebody else is in charge,
    where another machine has the result, where the box is another account's (EndUnseen while it may bill), and where a policy
    forbids by now what would be rented.
    """
    crash_point = read_crash_point(edges.environment)
    ledger = ledger_of(run_id, edges.places, note=edges.display.note, around=crash_around(crash_point))
    find_run(ledger, run_id)
    run = read_run(run_id, edges.by(edges.provisioners(confirm=attendant.confirm)), ledger=ledger)
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
    run = with_steady_clock(run)
    with bell(run) as ringing:
        driven, answers = leaving(ringing, attendant)
        held = in_control(run_id, run.folder, ledger, clocks=run.clocks, detached=detached, goes_on=goes_on)
        with interruptible(answers), held:
            ringing.started()
            _set_sentinel(run, edges.environment)
            receipt = walk(driven)
            ringing.finished(receipt)
            return receipt


def _set_sentinel(run: Run, environment: Mapping[str, str]) -> None:
    try:
        set_sentinel(run.run_id, (plan.offer.provider for plan in run.plans), run.places, environment)
    except OSError as error:
        run.display.note(f"Nobody here will end this run at its deadline: no process could be started ({error.strerror}).")
