"""One attempt: a box asked for, trained in, ended and seen to be gone. How it went is a value."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from typing import Final

import msgspec

from planner.estimators.cost import disk_gib, volume_gib
from planner.plan import Plan
from provision.account.bill import usd_so_far
from provision.account.lines import Attempted, Created, Tried
from provision.account.runs import Standing
from provision.errors import (
    ConnectionFailed,
    ControlLost,
    Declined,
    ProvisionError,
    Reason,
    Scope,
    WrongHostKey,
)
from provision.home.places import RunFolder
from provision.home.wish import end_is_wished
from provision.prepare.limits.deadline import limit_of
from provision.prepare.limits.quotas import remember_refused, strike_out
from provision.providers import boot_wait_s
from provision.seam import Box, Teardown
from provision.ssh import Shell, Waits, replace_host_key
from provision.ssh.keys import client_key
from provision.walk import renting
from provision.walk.driven import Run
from provision.walk.end import End, GoOn, Lost, Spared, Stopped, Telling, Trained, TryAnother
from provision.walk.job.carrying import bring_pushed, lies_at, may_have_pushed, meter_pushes, unasked_store
from provision.walk.job.console import told_with_console
from provision.walk.job.driver_awaited import driver_awaited
from provision.walk.job.left import bring_left, left_brought
from provision.walk.job.patience import (
    HOME_WAIT_S,
    admitted_again,
    armed_again,
    gone_too_soon,
    has_gone,
    limit_that_stands,
    listed,
    patiently,
    require_box,
)
from provision.walk.job.tending import tended
from provision.walk.job.training import require_inputs, train
from provision.walk.offers.attempts import Past
from provision.walk.offers.permitted import PermittedPlan, past_of, permitted_plan
from provision.walk.phases import Phases
from provision.walk.renting import Holding, holding
from remote.contract import Phase

BOOT_FACTOR: Final = 3.0  # assumed: of the planned p90, before a box on one's own machines that does not answer is given up


def attempt(run: Run, phases: Phases, plan: Plan) -> End:
    """Take up the box that stands, or ask for one of this plan, and train on it; what is left afterwards is ended.

    Everything between the first and the last second that may bill. Raises ControlLost, and at a second Ctrl-C; else nothing.
    """
    telling, rented = Telling(run), None
    with telling.caught(), ExitStack() as held:
        held.callback(_told, phases.end)  # of the teardown; what ends the box on its way out lies in between
        adopted = _standing_box(run)
        if adopted is None:
            with phases.timed(Phase.PREPARE):
                require_inputs(run)
            _write_down(run, plan)
        with phases.timed(Phase.CREATE) if adopted is None else nullcontext():
            rented = held.enter_context(_rented(run, adopted))
        held.enter_context(left_brought(run))
        if adopted is None:
            strike_out(run.plan.offer, run.places.quotas)
        held.callback(_told, phases.begin, Phase.TEARDOWN)
        with phases.timed(Phase.BOOT):
            shell = _reached(run, rented.box, adopted=adopted is not None)
            held.callback(shell.close)
            held.enter_context(tended(run, shell, rented.box))
            if adopted is not None and run.left_s > 0:
                armed_again(run, rented.box)
            box = _with_own_host_key(run, shell, rented.box, home_wait_s=HOME_WAIT_S if adopted is None else math.inf)
            driver_awaited(run, shell, box)
        train(run, phases, shell, box)
    spared = _was_spared(rented)
    if not spared:
        with telling.caught():
            _end_what_is_left(run)
    unasked = may_have_pushed(run) and not isinstance(telling.end(spared=spared), Trained | Spared)
    with telling.caught():
        meter_pushes(run)
    with telling.caught():  # before what was pushed comes home: that takes long, and may be the end of this controller
        _note_down(run, telling.end(spared=spared, may_have_learned=unasked))
    with telling.caught():
        if unasked:
            unasked = not bring_pushed(run)
    end = telling.end(spared=spared, may_have_learned=unasked)
    with telling.caught():
        confirm(run, phases)
    with telling.caught():
        _note_down(run, end)  # where a disk that was full may have room again: without that line no other offer is tried
    with telling.caught():
        may_have_ended = run.state.opened.lease_s is not None and run.left_s <= 0  # its lease, before the deadline
        if may_have_ended and not isinstance(end, Trained | Stopped | Spared):
            left_open = unasked_store(run, end.said)
            if left_open is not None:
                return left_open
    end = telling.end(spared=spared, may_have_learned=unasked)
    is_asked_again = _why_another(run, end) is not None and run.state.standing is Standing.BETWEEN  # before the next
    if unasked and not is_asked_again:
        return dataclasses.replace(end, said=f"{end.said} {lies_at(run)}".strip())
    return end


def _told(tell: Callable[..., None], *what: Phase) -> None:
    """On the way out a line that the ledger can't take must not hide why: a box with the only copy of a result is spared. Nor
    one that it takes no more: whoever ends the box finds that out, and tells what becomes of its box.
    """
    with suppress(OSError, ControlLost):
        tell(*what)


def _was_spared(rented: Holding | None) -> bool:
    return rented is not None and rented.spared


def _why_another(run: Run, end: End) -> TryAnother | GoOn | None:
    """The end after which another attempt may follow; None where it is no matter of the box. Only a spot machine is taken away
    by right.
    """
    if isinstance(end, Lost) and run.plan.offer.purchase == "spot":
        return TryAnother(end.said, Reason.LOST, Scope.OFFER)
    return end if isinstance(end, TryAnother | GoOn) else None


def _note_down(run: Run, end: End) -> None:
    """In the ledger, where another attempt may follow: this offer, why not, how long it took, what the run has cost so far.

    Before anything else, once it has ended: whoever comes after a controller that died here must know. Nothing where it stands
    there already.
    """
    state, now_s, why = run.state, run.clocks.wall(), _why_another(run, end)
    if state.rental is None or why is None or state.standing is not Standing.OVER:
        return
    run.ledger.append(
        Tried(
            run_id=run.run_id,
            at_s=now_s,
            offer=state.rental.offer.key,
            reason=why.reason,
            scope=why.scope,
            zone=why.zone,
            message=why.said,
            took_s=now_s - state.rental.asked_at_s,
            usd=usd_so_far(state, now_s=now_s),
        )
    )
    if why.reason is Reason.QUOTA:
        today = dt.datetime.fromtimestamp(now_s, tz=dt.UTC).date()
        remember_refused(state.rental.offer, why.said, run.places.quotas, today=today)


def confirm(run: Run, phases: Phases) -> None:
    """Ask once more what carries our tag. Something there, or nobody to ask, takes a clean verdict back."""
    with phases.timed(Phase.CONFIRM):
        teardown = run.state.teardown
        if teardown is None or not teardown.clean:
            return
        owned = listed(run)
        if not owned.nothing:
            renting.take_back(teardown, owned, ledger=run.ledger, clock=run.clocks.wall)


# ── the box ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _write_down(run: Run, plan: Plan) -> None:
    """What the ledger must know before the provider is asked. Raises MissingPart where that provider can't be asked here.

    Raises Refused where a policy forbids it.
    """
    now_s, past = run.clocks.wall(), past_of(run)
    allowed = permitted_plan(run, plan, past)
    plan, state = allowed.plan, run.state
    account = run.make(msgspec.structs.replace(run.claim, provider=plan.offer.provider)).account()
    deadline_at_s, more_time = _deadline(run, allowed, past, now_s=now_s)
    _set_aside(run.folder, number=len(state.rentals))
    _require_no_wish(run)
    run.ledger.append(
        Attempted(
            run_id=run.run_id,
            at_s=now_s,
            offer=plan.offer,
            billing=plan.billing,
            disk_gib=disk_gib(plan.host, plan.billing),
            volume_gib=volume_gib(plan.host) if plan.request.keep.volume_name is not None else 0,
            deadline_at_s=deadline_at_s,
            more_time=more_time,
            account=account,
        )
    )


def _deadline(run: Run, allowed: PermittedPlan, past: Past, *, now_s: float) -> tuple[float, str]:
    """When a box of this plan is to end, wall clock, and the limit that says so.

    The deadline of another offer is its own: what the budget pays at its price, with what is spent taken off. The same offer,
    and any after a lease that ended, has no later one than before, and an earlier one where the dollars end sooner: a policy
    allows fewer by now, or what was made and declined was billed by the hour.
    """
    plan, state = allowed.plan, run.state
    limit = limit_of(plan, past.taken, more_usd=allowed.more_usd)
    is_another = state.rental is not None and state.rental.offer.key != plan.offer.key and not past.a_lease_ended
    as_agreed = state.rental is None and plan.request.budget.max_usd == state.opened.max_usd
    if as_agreed or (not is_another and state.deadline_at_s <= now_s + limit.seconds):
        return state.deadline_at_s, limit_that_stands(run, more_usd=allowed.more_usd)
    return now_s + limit.seconds, limit.longer


def _set_aside(folder: RunFolder, *, number: int) -> None:
    """What the trainer of an earlier attempt has left at home: the next box begins its own."""
    for paper in (folder.job, folder.environment_log, folder.events, folder.log, folder.outcome, folder.ungranted):
        if paper.exists():
            (folder.tries / str(number)).mkdir(parents=True, exist_ok=True, mode=0o700)
            paper.replace(folder.tries / str(number) / paper.name)


def _require_no_wish(run: Run) -> None:
    """Before anything is ordered: a signal may have come while an attempt was ended, or not at all. Raises KeyboardInterrupt
    where somebody has said that the run is to end, as the signal would.
    """
    if end_is_wished(run.folder):
        raise KeyboardInterrupt


def _rented(run: Run, adopted: Box | None) -> AbstractContextManager[Holding]:
    """Raises KeyboardInterrupt where another may not be asked for: its line may have waited for a store."""
    if adopted is None:
        _require_no_wish(run)
    return holding(
        run.plan.offer,
        run.launch,
        run.renting,
        box=adopted,
        spare_on_failure=run.state.opened.keep_box_on_failure,
    )


def _reached(run: Run, box: Box, *, adopted: bool) -> Shell:
    """A box that ran before is waited for; one that never answered in the time of a boot is given up: raises Declined."""
    if adopted:
        return patiently(run, lambda: _connect(run, box))
    try:
        return told_with_console(run, lambda: _connect(run, box))
    except WrongHostKey:
        raise
    except ConnectionFailed as error:
        raise Declined(str(error), reason=Reason.HOST, scope=Scope.OFFER, hint=error.hint) from error


def _connect(run: Run, box: Box) -> Shell:
    """One try, as long as a boot may take. Raises ConnectionFailed, BoxLost or TrainingFailed when the box has gone.

    A host of the user's is asked past the deadline as before.
    """
    key = client_key(run.folder.keys, run_id=run.run_id).private
    lives_s = run.left_s if box.ours else math.inf
    return run.reach.connect(
        box,
        key=key,
        deadline_s=min(lives_s, _boot_s(run)),
        waits=Waits(
            lifetime_s=lives_s,
            while_silent=lambda: require_box(run, box),
            when_refused=lambda: admitted_again(run, box),
        ),
    )


def _boot_s(run: Run) -> float:
    """From running to reachable: what the cloud's row says; elsewhere the planned time, with room."""
    if (wait_s := boot_wait_s(run.plan.offer.provider)) is not None:
        return wait_s
    planned = run.plan.duration.phase_s.get(Phase.BOOT)
    return max(run.reach.least_boot_s, BOOT_FACTOR * planned.p90 if planned else 0.0)


def _with_own_host_key(run: Run, shell: Shell, box: Box, *, home_wait_s: float = math.inf) -> Box:
    """Goes on from what the ledger has of it, whoever began: this controller before a cut, or one that died."""

    def write_down(changed: Box) -> None:
        run.ledger.append(Created(run_id=run.run_id, at_s=run.clocks.wall(), box=changed))

    return patiently(run, lambda: replace_host_key(shell, run.state.box or box, write_down), home_wait_s=home_wait_s)


def _standing_box(run: Run) -> Box | None:
    """The box of an earlier controller, if it still stands; what an unfinished `create` left is ended first.

    Raises BoxLost or TrainingFailed when the box has gone without us, ProvisionError when its remains can't be ended.
    """
    state = run.state
    if state.standing is Standing.UP:
        if has_gone(run):
            bring_left(run)
            _end(run)
            raise gone_too_soon(run)
        return state.box
    if state.standing is Standing.ASKED and not _end(run).clean:
        raise ProvisionError("An earlier attempt left something that could not be ended.", hint=f"rentune down {run.run_id}")
    return None


def _end(run: Run) -> Teardown:
    return renting.end(run.claim, run.renting)


def _end_what_is_left(run: Run) -> None:
    """For an end that came before a box was held: the asking was cut off, or the box of an earlier controller stands."""
    if run.state.standing in (Standing.ASKED, Standing.UP) and run.state.teardown is None:
        _end(run)
