"""The walk: from the opened line in the ledger to the receipt. It may be entered again wherever a run stands.

prepare      what the box will need is at home
create       a box, held: from here on every way out ends in a teardown
boot         it answers, with the host key that we know
environment  the trainer and its interpreter are there
download     base and data are there
…            the trainer's own phases, followed by their events
fetch        adapter, outcome and log come home, hashes compared
teardown     the box is ended
confirm      the provider lists nothing of this run; from here another offer may be tried
receipt      planned against metered
"""

from __future__ import annotations

from typing import Final

from planner.plan import Plan
from provision.account.lines import Tried
from provision.account.receipt.value import EndedBy, Receipt
from provision.account.runs import Standing
from provision.clouds.whose import other_account_words
from provision.errors import Reason, Scope
from provision.home.checkpoints import steps_at_home
from provision.home.wish import end_is_wished
from provision.walk import renting
from provision.walk.attempt import attempt, confirm
from provision.walk.books import close_books, with_books_open
from provision.walk.driven import Run
from provision.walk.end import STOPPED, End, Failed, GoOn, LeftOpen, Stopped, Telling, Trained
from provision.walk.job.at_home import adapter_home, read_outcome
from provision.walk.job.carrying import (
    bring_pushed,
    brought_or_lies_at,
    lies_at,
    may_have_pushed,
    meter_pushes,
    unasked_store,
)
from provision.walk.job.left import bring_left
from provision.walk.job.patience import has_gone
from provision.walk.offers.attempts import MAX_LEASES, Next, NoneLeft, choose, idle_leases
from provision.walk.offers.permitted import past_of, permitted
from provision.walk.phases import Phases
from remote.contract import Phase

UNTOLD: Final = "The box was ended and the books were not closed then: why there is no result is not known any more."
LEASES_ENDED: Final = f"So ended {MAX_LEASES} boxes of this controller's without a step more, and no other is asked for."
UNCONFIRMED: Final = "The last attempt is not seen to have left nothing, so no other offer is asked for."


def walk(run: Run) -> Receipt:
    """Go on from where the run stands, to its receipt. The caller holds the run's lock.

    What fails is told in the receipt, after the teardown. Raises ControlLost alone: another machine has the run.
    """
    phases = Phases(run.run_id, run.ledger, run.display, clocks=run.clocks, crash_point=run.crash_point)
    telling, end = Telling(run), None
    with telling.caught():
        end = _settled(run, phases)
    if isinstance(end, LeftOpen):
        return with_books_open(run, message=end.said, interrupted=end.interrupted)
    with telling.caught():
        _conclude(run)
    end = end or telling.end()
    return close_books(run, message=end.said, interrupted=isinstance(end, Stopped), ended_by=end.ended_by)


def _settled(run: Run, phases: Phases) -> End | None:
    """Attempt after attempt, until one ends in a way that another box would not change. None where all was over before.

    What an attempt left is ended, and seen to be gone, before the next; where that can't be seen nothing more is bought.
    """
    meter_pushes(run)
    state = run.state
    if state.standing is Standing.UP and state.box is not None and state.box.shares_files and has_gone(run):
        bring_left(run)
    if state.standing is Standing.OVER:
        confirm(run, phases)
        if read_outcome(run.folder):
            return None
        return Failed(UNTOLD if bring_pushed(run) else f"{UNTOLD} {lies_at(run)}")
    if _result_is_home(run):
        return _ended(run, phases)
    tried = state.rental.tried if state.rental else None
    said, ended_by = _told_by(tried)
    if state.standing is Standing.BETWEEN:  # whoever wrote that may have died before anybody had seen that nothing is left
        confirm(run, phases)
        if run.state.standing is not Standing.BETWEEN:
            return Failed(_in_words(said, UNCONFIRMED, brought_or_lies_at(run)))
    num_idle_leases, learned, of_lease = 0, _newest_step(run), False
    while True:
        if run.state.standing in (Standing.OPENED, Standing.BETWEEN) and end_is_wished(run.folder):
            return Stopped(_in_words(said, STOPPED, brought_or_lies_at(run)), ended_by=ended_by)
        if run.state.standing is Standing.BETWEEN and (ends := _without_learned(run, said)) is not None:
            return ends
        before, learned = learned, _newest_step(run)  # only now: what was pushed may have come home just before
        num_idle_leases = idle_leases(num_idle_leases, of_lease=of_lease, has_learned=learned > before)
        if num_idle_leases >= MAX_LEASES:
            return Failed(f"{said} {LEASES_ENDED}", ended_by="lease")
        plan = _next(run) if run.state.standing in (Standing.OPENED, Standing.BETWEEN) else run.plan
        if isinstance(plan, str):
            return Failed(_in_words(said, plan), ended_by=ended_by)
        end = attempt(run, phases, plan)
        if isinstance(end, Stopped | LeftOpen) or run.state.standing is not Standing.BETWEEN or _result_is_home(run):
            return end
        said, ended_by, of_lease = end.said, end.ended_by, isinstance(end, GoOn)


def _in_words(*said: str) -> str:
    """What is to be said, each once."""
    return " ".join(dict.fromkeys(filter(None, said)))


def _newest_step(run: Run) -> int:
    """Of the checkpoints at home; 0 = there is none."""
    return max(steps_at_home(run.folder.checkpoints), default=0)


def _told_by(tried: Tried | None) -> tuple[str, EndedBy | None]:
    """Why the last attempt came to nothing, and what ended its box."""
    if tried is None:
        return "", None
    return tried.message, "lease" if tried.reason is Reason.LEASE else None


def _without_learned(run: Run, said: str) -> End | None:
    """Bring home what the boxes before have pushed. How it ends where the next one would begin from the first step, though a
    store that is away may hold more, or though a lease ended the last one; None where another box may be asked for.
    """
    if may_have_pushed(run):
        if (left_open := unasked_store(run, said)) is not None:
            return left_open
    else:
        bring_pushed(run)
    rental = run.state.rental
    of_lease = rental is not None and rental.tried is not None and rental.tried.reason is Reason.LEASE
    nothing = of_lease and not steps_at_home(run.folder.checkpoints)
    return Failed(said, ended_by="lease") if nothing else None


def result_is_elsewhere(run: Run) -> bool:
    """Whether the last box is gone, and its result came home and is not here: another machine has it, or it was moved."""
    outcome, state = read_outcome(run.folder), run.state
    gone = state.standing in (Standing.BETWEEN, Standing.OVER)
    return gone and state.fetched and outcome is not None and outcome.trained and adapter_home(run, outcome) is None


def forbidden(run: Run) -> str | None:
    """Why nothing may be rented for a run that has no box and would ask for one; None where it may, or need not.

    Raises BadInput for a policy that can't be read.
    """
    if run.state.standing not in (Standing.OPENED, Standing.BETWEEN) or _result_is_home(run):
        return None
    past = past_of(run)
    allowed = permitted(run, past)
    under_rules = choose(allowed.plans, past, allowed.refused)
    at_all = isinstance(choose(run.plans, past), Next)
    return under_rules.why if at_all and isinstance(under_rules, NoneLeft) else None


def rented_elsewhere(run: Run) -> str | None:
    """That its last box is in another account than the credentials here are of; None where it is not, or nobody knows.

    From here that box would look gone, and another would be asked for beside it.
    """
    rental = run.state.rental
    if rental is None or rental.account is None:
        return None
    return other_account_words(run.state.provider, run.run_id, rental.account, run.provisioner.account(), command="resume")


def _result_is_home(run: Run) -> bool:
    outcome = read_outcome(run.folder)
    return outcome is not None and outcome.trained and adapter_home(run, outcome) is not None


def _ended(run: Run, phases: Phases) -> End:
    """Nothing is trained for that is at home, whatever became of the box; what is left of it is ended."""
    if run.state.standing in (Standing.ASKED, Standing.UP):
        with phases.timed(Phase.TEARDOWN):
            renting.end(run.claim, run.renting)
        confirm(run, phases)
    return Trained("")


def _conclude(run: Run) -> None:
    """Say in the ledger that no box is asked for any more, where none is there: whoever resumes then only closes the books."""
    state = run.state
    if state.standing is Standing.OPENED:
        renting.end_unrented(run.run_id, ledger=run.ledger, clock=run.clocks.wall)
    elif state.standing is Standing.BETWEEN and state.teardown is not None:
        renting.give_up(state.teardown, ledger=run.ledger, clock=run.clocks.wall)


def _next(run: Run) -> Plan | str:
    """The plan to try, or why there is none. Where it costs much more somebody must have agreed."""
    if result_is_elsewhere(run):
        return "The result came home on another machine."
    past = past_of(run)
    allowed = permitted(run, past)
    chosen = choose(allowed.plans, past, allowed.refused)
    if isinstance(chosen, NoneLeft):
        return chosen.why
    question = chosen.question
    if question is not None and not run.state.opened.dearer and not run.agrees(f"{question} Go on with it?"):
        return f"{question} It was not taken: --dearer allows it."
    if (last := run.state.rental) is not None:
        steps = steps_at_home(run.folder.checkpoints)
        scope = last.tried.scope if last.tried is not None else None
        zone = ", in another zone" if chosen.plan.offer.key == last.offer.key and scope is Scope.ZONE else ""
        where = f", going on from step {steps[-1]}" if steps else ""
        run.display.note(f"Next: {chosen.plan.offer.key}{zone}, planned at ${chosen.plan.cost.total_usd.p50:.2f}{where}.")
    return chosen.plan
