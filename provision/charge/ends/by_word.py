"""The end of a run that nobody can be asked about any more, by the word of whoever has seen that nothing of it is left.

A box that was deleted by hand, at a provider whose token was revoked since, would stay unknown for ever: no list says that it
is gone, and no other look is as good. So a person may say it, once its deadline has passed, and the ledger says who did.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import msgspec

from catalogs.hardware import WhileOff
from provision.account.ledger import Ledger
from provision.account.runs import RunState
from provision.charge.ends.ending import end
from provision.charge.ends.nothing import NothingRented
from provision.charge.finding import find_run
from provision.errors import Refused
from provision.home.installation import owner
from provision.prepare.papers import read_claim
from provision.seam import DEADLINE_GRACE_S, Answer, Claim, InCharge, ResourceEnd, Teardown, seen, unshared
from provision.walk.edges import Edges


def close_by_word(run_id: str, edges: Edges, *, says: Callable[[str], bool]) -> Teardown:
    """End a run in the books alone, if `says` is answered with its id: nothing of it is touched.

    Raises Refused where its deadline and the grace have not passed, where its provider can be asked after all, and where nobody
    has said it.
    """
    state, now_s = find_run(Ledger(edges.places.ledger), run_id), edges.clocks.wall()
    if not state.may_bill:
        raise Refused(f"Nothing of run {run_id} is waited for.", hint=f"rentune down {run_id}")
    if now_s <= state.deadline_at_s + DEADLINE_GRACE_S:
        raise Refused(
            f"The deadline of run {run_id} has not passed, and may end its box yet.", hint=f"Until then: rentune down {run_id}"
        )
    claim = read_claim(edges.places.run(run_id), state)
    listed = seen(lambda: edges.provisioners()(claim).owned(claim))
    if listed.complete is Answer.YES or listed.resources:
        raise Refused(f"{state.provider} can be asked: its word counts.", hint=f"rentune down {run_id}")
    if not says(f"{state.provider} could not be asked: {listed.message}. Type the run's id to say that nothing of it is left"):
        raise Refused("Nobody has said it. Nothing was changed.")
    said = SaidGone(verdict_by_word(state, now_s=now_s))
    return end(run_id, edges.by(lambda _claim: said), discard=True)


def verdict_by_word(state: RunState, *, now_s: float) -> Teardown:
    """Who said it and when, and of each thing that it ends. What its provider bills while it is off has billed until now, as
    far as anybody can tell; anything else until its deadline.
    """
    rental = state.rental
    ends_at_deadline = rental is not None and rental.billing.while_off is not WhileOff.EVERYTHING
    at_s = min(now_s, state.deadline_at_s) if ends_at_deadline else now_s
    known = {each.id: each for each in (state.box.resources if state.box else ())}
    known |= {each.resource.id: each.resource for each in (state.teardown.resources if state.teardown else ())}
    ends = tuple(ResourceEnd(resource=each, gone=Answer.YES, at_s=at_s) for each in known.values() if each.name is None)
    when = dt.datetime.fromtimestamp(now_s, dt.UTC)
    said = f"By the word of {owner()}, {when:%Y-%m-%d %H:%M} UTC"
    words = f"{said}: nothing of it is left at {state.provider}, which could not be asked."
    return msgspec.structs.replace(Teardown.destroyed(state.run_id, words, resources=ends), kept=state.kept)


class SaidGone(NothingRented):
    """Whoever would be asked; the verdict is what was said."""

    def __init__(self, verdict: Teardown) -> None:
        self._verdict = verdict

    def destroy(self, claim: Claim, in_charge: InCharge = unshared) -> Teardown:  # noqa: ARG002 - the seam's form
        return self._verdict


def with_way_out(teardown: Teardown, state: RunState, *, now_s: float) -> Teardown:
    """The teardown with what to do about a run whose end nobody will ever see; nothing is added before deadline and grace."""
    if teardown.verdict != "unknown" or not state.may_bill or now_s <= state.deadline_at_s + DEADLINE_GRACE_S:
        return teardown
    words = (
        f"Its deadline is past. Where {state.provider} can't be asked any more, look there by hand; with nothing left, "
        f"rentune down --gone {state.run_id} closes its books."
    )
    return msgspec.structs.replace(teardown, message=f"{teardown.message} {words}".strip())
