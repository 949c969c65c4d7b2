"""A run whose box was deleted by hand at a cloud that can't be asked any more: its books close by somebody's word."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from provision.account.ledger import Ledger
from provision.account.lines import Created, Ended
from provision.account.runs import RunState
from provision.charge.ends.by_word import close_by_word, verdict_by_word, with_way_out
from provision.errors import ProvisionError, Refused
from provision.home.clocks import Clocks
from provision.home.installation import owner
from provision.home.places import Places
from provision.seam import DEADLINE_GRACE_S, Answer, Box, Claim, Owned, Resource, Teardown
from provision.walk.edges import Edges
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Paper
from tests.provision.plans import attempted

MACHINE = Resource(kind="instance", id="i-1")


class Revoked(Paper):
    """A provider that answers nobody with this token."""

    def owned(self, claim: Claim | None = None) -> Owned:
        raise ProvisionError("Hetzner declined GET /servers: unauthorized")


@pytest.fixture
def overdue_s(run_id: str, ledger: Ledger) -> float:
    """A box was rented and nobody saw it go; a moment after its deadline and the grace."""
    deadline_at_s = time.time() + 60
    ledger.append(attempted(run_id, at_s=time.time(), deadline_at_s=deadline_at_s))
    box = Box(run_id=run_id, provider="local", host="h", port=22, user="me", host_key="k", folder="/b", resources=(MACHINE,))
    ledger.append(Created(run_id=run_id, at_s=time.time(), box=box))
    return deadline_at_s + DEADLINE_GRACE_S + 1


@pytest.fixture
def closed(run_id: str, places: Places) -> Callable[..., Teardown]:
    def close(now_s: float, *, cloud: Paper | None = None, says: Callable[[str], bool] = lambda _: True) -> Teardown:
        clocks, asked = Clocks(wall=lambda: now_s), cloud or Revoked()
        return close_by_word(run_id, Edges(places, Quiet(), make=lambda _: asked, clocks=clocks), says=says)

    return close


def test_the_books_close_and_say_by_whose_word(
    closed: Callable[..., Teardown], overdue_s: float, run_id: str, ledger: Ledger
) -> None:
    """Whoever says it is told first why nobody else can."""
    questions: list[str] = []

    def says(question: str) -> bool:
        questions.append(question)
        return True

    verdict = closed(overdue_s, says=says)
    [question] = questions
    assert question.startswith("local could not be asked: Hetzner declined GET /servers: unauthorized. Type the run's id")
    assert verdict.clean
    assert verdict.message.startswith(f"By the word of {owner()}, ")
    assert [(end.resource.id, end.gone) for end in verdict.resources] == [("i-1", Answer.YES)]
    state = ledger.runs()[run_id]
    assert state.over
    assert state.billed is not None
    assert state.teardown == verdict, "the ledger has the word"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"early": True}, "has not passed"),
        ({"cloud": Paper()}, "can be asked"),
        ({"says": lambda _: False}, "Nobody has said it"),
    ],
    ids=["before its deadline", "a cloud that answers", "another id typed"],
)
def test_no_word_counts_too_early_or_beside_a_clouds_or_unsaid(
    closed: Callable[..., Teardown], overdue_s: float, run_id: str, ledger: Ledger, changes: dict[str, Any], why: str
) -> None:
    asked = dict(changes)
    with pytest.raises(Refused, match=why):
        closed(overdue_s - 2 if asked.pop("early", False) else overdue_s, **asked)
    assert not ledger.runs()[run_id].over


def test_of_a_run_that_is_over_there_is_nothing_to_say(
    closed: Callable[..., Teardown], overdue_s: float, run_id: str, ledger: Ledger
) -> None:
    ledger.append(Ended(run_id=run_id, at_s=time.time(), teardown=Teardown.destroyed(run_id, "")))
    with pytest.raises(Refused, match="is waited for"):
        closed(overdue_s)


@pytest.mark.parametrize(("while_off_bills", "after_s"), [(False, 0.0), (True, 1_000.0)])
def test_it_has_billed_until_its_deadline_or_until_now_where_what_is_off_bills_on(
    overdue_s: float, run_id: str, ledger: Ledger, while_off_bills: bool, after_s: float
) -> None:
    """Nobody knows when it was deleted: the receipt must not show less than the bill."""
    state = billing(ledger.runs()[run_id], while_off_bills=while_off_bills)
    [end] = verdict_by_word(state, now_s=state.deadline_at_s + 1_000.0).resources
    assert end.at_s == state.deadline_at_s + after_s


def billing(state: RunState, *, while_off_bills: bool) -> RunState:
    [rental] = state.rentals
    rule = msgspec.structs.replace(rental.billing, stopped_compute_bills=while_off_bills, stopped_disk_bills=True)
    return msgspec.structs.replace(state, rentals=(msgspec.structs.replace(rental, billing=rule),))


def test_an_end_that_nobody_will_see_is_told_with_its_way_out(overdue_s: float, run_id: str, ledger: Ledger) -> None:
    """Not before its deadline and the grace, and of no end that was seen."""
    state, unseen = ledger.runs()[run_id], Teardown.unknown(run_id, "Hetzner could not be asked.")
    told = with_way_out(unseen, state, now_s=overdue_s)
    assert told.message.endswith(f"with nothing left, rentune down --gone {run_id} closes its books.")
    assert with_way_out(unseen, state, now_s=overdue_s - 2) == unseen
    stands = Teardown.orphaned(run_id, "It is still listed.")
    assert with_way_out(stands, state, now_s=overdue_s) == stands
