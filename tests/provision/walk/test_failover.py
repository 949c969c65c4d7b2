"""Where the offer can't be had: the next one, within what was agreed to, and never while the last may still bill."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from catalogs.hardware import Offer
from planner.asking.request import Budget
from planner.plan import Plan
from provision.account.ledger import Ledger
from provision.account.lines import AnyLine, Attempted, Created, Ended, PhaseEnded, Tried
from provision.account.receipt.value import Receipt
from provision.charge.attendant import NOBODY_THERE, Attendant
from provision.charge.driving import drive
from provision.errors import BadInput, Declined, Exit, LeaseEnded, ProvisionError, Reason, Refused, Scope
from provision.home.places import Places
from provision.prepare.inputs import find_base
from provision.prepare.opening import Agreed, open_run
from provision.report.page import render_page
from provision.report.tables import tries_table
from provision.seam import Answer, Box, Claim, Launch, Owned, Provisioner, Resource
from provision.walk.books import read_receipt
from provision.walk.driven import read_run
from provision.walk.edges import Edges
from provision.walk.job.patience import more_time
from provision.walk.phases import Display
from provision.walk.run import UNCONFIRMED
from provision.watch.curves import trace_curves
from remote.contract import Phase
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Market
from tests.provision.plans import about, attempted, between_attempts

At = Callable[..., Plan]
Opened = Callable[..., str]
Driven = Callable[..., Receipt]
HERE, THERE, YONDER = (f"aws/{region}/g5/on_demand" for region in ("here", "there", "yonder"))


def full(key: str, scope: Scope = Scope.OFFER) -> Declined:
    return Declined(f"{key} is full.", reason=Reason.CAPACITY, scope=scope)


@pytest.fixture
def at(plan: Plan) -> Callable[..., Plan]:
    """The plan at an offer: at $3.60 an hour, a whole job at a dollar unless it is said otherwise."""

    def made(key: str, usd: float = 1.0, **request: Any) -> Plan:
        provider, region, instance_type, purchase = key.split("/")
        offer = msgspec.structs.replace(
            plan.offer, provider=provider, region=region, instance_type=instance_type, purchase=purchase
        )
        cost = msgspec.structs.replace(plan.cost, total_usd=about(usd))
        asked = msgspec.structs.replace(plan.request, **request)
        return msgspec.structs.replace(plan, offer=offer, cost=cost, request=asked)

    return made


@pytest.fixture
def opened(places: Places, ledger: Ledger) -> Callable[..., str]:
    """A run of the first plan, with the others to take its place."""

    def made(first: Plan, *others: Plan, dearer: bool = False) -> str:
        base = find_base(first.request.model)
        return open_run(
            first, base, places=places, ledger=ledger, clock=time.time, agreed=Agreed(alternatives=others, dearer=dearer)
        )

    return made


@pytest.fixture
def driven(places: Places) -> Callable[..., Receipt]:
    def drive_run(
        run_id: str, market: Provisioner, *, display: Display | None = None, attendant: Attendant = NOBODY_THERE
    ) -> Receipt:
        return drive(run_id, Edges(places, display or Quiet(), make=lambda _claim: market), attendant=attendant)

    return drive_run


@pytest.mark.fault("F9", tier="code")
def test_where_one_is_full_the_next_is_asked(at: At, opened: Opened, driven: Driven, ledger: Ledger) -> None:
    """Cheapest first; each with its own price, rule and region in the ledger before it is asked, each accounted for after."""
    market = Market({key: full(key) for key in (HERE, THERE, YONDER)})
    receipt = driven(opened(at(HERE), at(YONDER, 1.2), at(THERE, 1.1)), market)

    assert market.asked == [HERE, THERE, YONDER]
    assert receipt.exit_code == Exit.FAILED
    assert receipt.ending.message == f"{YONDER} is full. No other offer is left."
    lines = [line for line in ledger.lines() if isinstance(line, Attempted | Ended | Tried)]
    assert [type(line) for line in lines[:9]] == [Attempted, Ended, Tried] * 3
    assert [line.offer.key for line in lines if isinstance(line, Attempted)] == market.asked
    assert [(line.offer, line.reason, line.scope) for line in lines if isinstance(line, Tried)] == [
        (key, Reason.CAPACITY, Scope.OFFER) for key in market.asked
    ]


@pytest.mark.parametrize(("times", "asked"), [(1, [HERE, THERE]), (9, [HERE])])
def test_a_full_disk_keeps_nobody_from_looking_once_more_what_an_attempt_has_left(
    at: At, opened: Opened, driven: Driven, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, times: int, asked: list[str]
) -> None:
    """The reason of an attempt is not written down at first, or never: without it no other offer is asked for."""
    left, append = iter(range(times)), Ledger.append

    def full_disk(self: Ledger, line: AnyLine) -> None:
        if isinstance(line, Tried) and next(left, None) is not None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(self, line)

    monkeypatch.setattr(Ledger, "append", full_disk)
    market = Market({key: full(key) for key in (HERE, THERE)})
    receipt = driven(opened(at(HERE), at(THERE)), market)
    assert (market.asked, receipt.exit_code) == (asked, Exit.FAILED)
    assert receipt.ending.message.startswith(f"{asked[-1]} is full.")
    confirmed = [line for line in ledger.lines() if isinstance(line, PhaseEnded) and line.phase == Phase.CONFIRM]
    assert len(confirmed) == len(asked)


def test_what_nobody_understands_is_cleaned_up_told_word_for_word_and_tried_at_one_other_offer(
    at: At, opened: Opened, driven: Driven
) -> None:
    """Whatever the first left behind is gone before the second is asked; the third never is."""
    odd = {key: Declined(f"{key} said 42.", reason=Reason.UNKNOWN, scope=Scope.OFFER) for key in (HERE, THERE, YONDER)}
    market = Market(odd, leaves=(HERE,))
    receipt = driven(opened(at(HERE), at(THERE, 1.1), at(YONDER, 1.2)), market)
    assert (market.asked, market.boxes) == ([HERE, THERE], {})
    assert [(each.reason, each.message) for each in receipt.tries] == [
        (Reason.UNKNOWN, f"{HERE} said 42."),
        (Reason.UNKNOWN, f"{THERE} said 42."),
    ]
    assert receipt.ending.message == f"{THERE} said 42. What came of 2 offers was not understood, so no more are tried."


def test_a_limit_of_the_account_is_remembered_for_the_next_plan(at: At, opened: Opened, driven: Driven, places: Places) -> None:
    """A machine that was only taken is nothing to remember."""
    limited = Declined("the account may have no more", reason=Reason.QUOTA, scope=Scope.OFFER)
    driven(opened(at(HERE), at(THERE)), Market({HERE: limited, THERE: full(THERE)}))
    kept = json.loads(places.quotas.read_text())
    assert {key: each["name"] for key, each in kept.items()} == {HERE: "the account may have no more"}


def test_where_a_zone_is_full_the_same_offer_is_asked_for_in_the_next(
    at: At, opened: Opened, driven: Driven, ledger: Ledger
) -> None:
    """Each zone is an attempt of its own in the books, and no offer is told of the zones of another."""
    market, display = Market({HERE: full(HERE), THERE: full(THERE)}, zones=("a", "b")), Quiet()
    receipt = driven(opened(at(HERE), at(THERE, 1.1)), market, display=display)

    assert market.asked == [HERE, HERE, HERE, THERE, THERE, THERE]
    tries = [(line.offer, line.scope, line.zone) for line in ledger.lines() if isinstance(line, Tried)]
    assert tries == [
        (key, scope, zone)
        for key in (HERE, THERE)
        for scope, zone in ((Scope.ZONE, "a"), (Scope.ZONE, "b"), (Scope.OFFER, None))
    ]
    assert [each.message for each in receipt.tries][:3] == ["a is full.", "b is full.", f"{HERE} is full."]
    assert sum("in another zone" in note for note in display.notes) == 4


def test_a_saved_plan_without_another_is_tried_in_the_next_zone_too(at: At, opened: Opened, driven: Driven) -> None:
    market = Market({HERE: full(HERE)}, zones=("a",))
    assert driven(opened(at(HERE)), market).exit_code == Exit.FAILED
    assert market.asked == [HERE, HERE]


def test_the_report_lists_every_attempt_in_each_of_its_forms(
    at: At, opened: Opened, driven: Driven, places: Places, plan: Plan
) -> None:
    """Terminal, page and JSON; what was declined and never seen costs nothing."""
    receipt = driven(opened(at(HERE), at(THERE)), Market({HERE: full(HERE, Scope.CLOUD), THERE: full(THERE)}))
    table = tries_table(receipt)
    assert table is not None
    assert table.rows == ((HERE, "capacity", "cloud", "0.00 s", "$0"),)
    assert table.note == f"{HERE} is full."
    assert "<h2>Attempts</h2>" in render_page(receipt, plan, trace_curves([]))
    written = json.loads(places.run(receipt.run_id).receipt.read_text())
    assert [each["reason"] for each in written["tries"]] == ["capacity"]
    assert receipt.metered_usd == 0


@pytest.mark.fault("F4", tier="code")
def test_what_an_attempt_left_is_ended_before_the_next(at: At, opened: Opened, driven: Driven) -> None:
    """An error is not "nothing happened"."""
    market = Market({HERE: full(HERE), THERE: full(THERE)}, leaves=(HERE,))
    assert driven(opened(at(HERE), at(THERE)), market).exit_code == Exit.FAILED
    assert market.asked == [HERE, THERE]
    assert market.boxes == {}


def test_nothing_more_is_bought_while_the_last_may_still_bill(at: At, opened: Opened, driven: Driven) -> None:
    """Exit 3 and the command that ends it; the other offer is never asked."""
    market = Market({HERE: full(HERE), THERE: full(THERE)}, leaves=(HERE,))
    market.stubborn = True
    receipt = driven(opened(at(HERE), at(THERE)), market)
    assert receipt.exit_code == Exit.STILL_BILLS
    assert receipt.teardown is not None
    assert receipt.teardown.command == f"rentune down {receipt.run_id}"
    assert market.asked == [HERE]


def test_what_is_no_refusal_of_the_provider_is_not_tried_elsewhere(at: At, opened: Opened, driven: Driven) -> None:
    """A plugin that is not installed is missing for every offer."""
    market = Market({HERE: ProvisionError("The plugin is not installed.")})
    assert driven(opened(at(HERE), at(THERE)), market).ending.message == "The plugin is not installed."
    assert market.asked == [HERE]


@pytest.mark.fault("F9", tier="code")
def test_the_cap_holds_over_all_attempts(at: At, opened: Opened, driven: Driven) -> None:
    """The next may cost $1.43 at its p90: over the $1.40 that are allowed."""
    budget = Budget(max_usd=Decimal("1.40"))
    market = Market({HERE: full(HERE), THERE: full(THERE)})
    receipt = driven(opened(at(HERE, budget=budget), at(THERE, 1.1, budget=budget)), market)
    assert market.asked == [HERE]
    assert "over $1.4000" in receipt.ending.message


@pytest.mark.parametrize(("agreed", "answer", "asked"), [(False, False, 1), (False, True, 2), (True, False, 2)])
@pytest.mark.fault("F9", tier="code")
def test_a_much_dearer_offer_needs_a_yes(
    at: At, opened: Opened, driven: Driven, agreed: bool, answer: bool, asked: int
) -> None:
    """Beforehand with --dearer, or of somebody who is there to be asked; else the run stops with a sentence."""
    questions: list[str] = []

    def agrees(question: str) -> bool:
        questions.append(question)
        return answer

    market = Market({HERE: full(HERE), THERE: full(THERE)})
    receipt = driven(opened(at(HERE), at(THERE, 1.5), dearer=agreed), market, attendant=Attendant(agrees=agrees))
    assert len(market.asked) == asked
    assert len(questions) == (0 if agreed else 1)
    assert ("--dearer allows it" in receipt.ending.message) == (asked == 1)


class KilledAtNote(Quiet):
    def note(self, sentence: str) -> None:
        if sentence.startswith("Next: "):
            raise SystemExit(9)  # as a kill does, it passes all that waits for an Exception


class KilledAtConfirm(Quiet):
    def phase(self, name: str) -> None:
        if name == "confirm":
            raise SystemExit(9)


@pytest.mark.parametrize("killed", [KilledAtNote, KilledAtConfirm])
def test_a_controller_that_died_between_two_attempts_is_followed_by_one_that_asks_for_the_next(
    killed: type[Quiet], at: At, opened: Opened, driven: Driven, places: Places, ledger: Ledger
) -> None:
    """It reads in the ledger what was tried; nothing is asked for twice, and nothing bought twice."""
    run_id = opened(at(HERE), at(THERE), at(YONDER))
    first = Market({HERE: full(HERE)})

    with pytest.raises(SystemExit):
        driven(run_id, first, display=killed())
    assert ledger.runs()[run_id].standing == "between"
    second = Market({THERE: full(THERE), YONDER: full(YONDER)})
    receipt = driven(run_id, second)
    assert (first.asked, second.asked) == ([HERE], [THERE, YONDER])
    assert [each.offer for each in receipt.tries] == [HERE, THERE, YONDER]


class Unsure(Market):
    """A provider that can't be asked what it has."""

    def owned(self, claim: Claim | None = None) -> Owned:
        return Owned(resources=(), complete=Answer.UNKNOWN, message="No answer.")


@pytest.mark.parametrize(("kind", "leaves"), [(Market, True), (Unsure, False)])
def test_whoever_follows_a_controller_that_died_before_its_last_look_looks_first(
    kind: type[Market], leaves: bool, at: At, opened: Opened, driven: Driven
) -> None:
    """Why an offer came to nothing is written before that look, so that nobody forgets it: that line is no proof."""
    run_id = opened(at(HERE), at(THERE))
    with pytest.raises(SystemExit):
        driven(run_id, Market({HERE: full(HERE)}), display=KilledAtConfirm())
    second = kind({THERE: full(THERE)})
    if leaves:
        second.boxes[run_id] = Resource(kind="instance", id="i-late", run_id=run_id)
    receipt = driven(run_id, second)
    assert second.asked == []
    assert receipt.ending.message == f"{HERE} is full. {UNCONFIRMED}"
    assert receipt.exit_code == Exit.STILL_BILLS


def test_whoever_stops_a_run_between_two_attempts_has_stopped_it(
    at: At, opened: Opened, driven: Driven, places: Places
) -> None:
    """Interrupted and gone; a resume that only closes open books asks for no box."""
    run_id, market = opened(at(HERE), at(THERE)), Market({HERE: full(HERE), THERE: full(THERE)})

    class Stops(Quiet):
        def note(self, sentence: str) -> None:
            if sentence.startswith("Next: "):
                raise KeyboardInterrupt

    places.run(run_id).receipt.mkdir()  # so its books stay open
    assert driven(run_id, market, display=Stops()).exit_code == Exit.INTERRUPTED
    places.run(run_id).receipt.rmdir()
    driven(run_id, market)
    assert market.asked == [HERE]
    assert read_receipt(places.run(run_id)) is not None


def test_the_deadline_of_another_offer_is_what_the_budget_pays_there(
    at: At, opened: Opened, driven: Driven, ledger: Ledger
) -> None:
    """At twice the price the same money lasts half as long."""
    budget = Budget(max_usd=Decimal("0.36"))
    dear = at(THERE, 0.1, budget=budget)
    dear = msgspec.structs.replace(dear, offer=msgspec.structs.replace(dear.offer, usd_per_hour=Decimal("7.20")))
    driven(opened(at(HERE, 0.1, budget=budget), dear), Market({HERE: full(HERE), THERE: full(THERE)}))
    first, second = [line for line in ledger.lines() if isinstance(line, Attempted)]
    assert first.deadline_at_s - first.at_s == pytest.approx(342.0, abs=5.0)
    assert second.deadline_at_s - second.at_s == pytest.approx(171.0, abs=5.0)


def test_the_same_offer_has_no_later_deadline_in_another_zone(at: At, opened: Opened, driven: Driven, ledger: Ledger) -> None:
    """What the first zone took is not given back: nobody has agreed to a later end."""
    receipt = driven(opened(at(HERE), at(THERE, 1.1)), Market({HERE: full(HERE), THERE: full(THERE)}, zones=("a", "b")))
    tries = [line for line in ledger.lines() if isinstance(line, Attempted)]
    first, second, third = (each.deadline_at_s for each in tries if each.offer.key == HERE)
    assert first == second == third == ledger.runs()[receipt.run_id].opened.deadline_at_s


class EndedByLease(Market):
    """Its first box ends by its lease."""

    def up(self, offer: Offer, launch: Launch) -> Box:
        if not self.asked:
            self.asked.append(offer.key)
            raise LeaseEnded("Its lease ended.")
        return super().up(offer, launch)


def test_no_offer_has_a_later_deadline_after_a_lease(
    at: At, opened: Opened, driven: Driven, places: Places, ledger: Ledger
) -> None:
    """Another would have one of its own, and the next lease's another: nobody has agreed to a run without end."""
    run_id = opened(at(HERE), at(THERE, 1.1))
    (places.run(run_id).checkpoints / "step-00000004").mkdir(parents=True)
    market = EndedByLease({HERE: full(HERE), THERE: full(THERE)})
    driven(run_id, market)
    assert market.asked == [HERE, HERE, THERE]
    deadlines = {line.deadline_at_s for line in ledger.lines() if isinstance(line, Attempted)}
    assert deadlines == {ledger.runs()[run_id].opened.deadline_at_s}


@pytest.mark.parametrize(
    ("purchase", "asked", "reasons"),
    [("spot", [THERE], [Reason.LOST, Reason.CAPACITY]), ("on_demand", [], [None])],
)
def test_only_a_spot_machine_that_is_taken_away_is_followed_by_another(
    purchase: str,
    asked: list[str],
    reasons: list[Reason | None],
    at: At,
    opened: Opened,
    driven: Driven,
    ledger: Ledger,
) -> None:
    """It is taken by right. Where one is lost that was to stay, something is wrong that the next would only cost as well."""
    first, market = at(f"aws/here/g5/{purchase}"), Market({THERE: full(THERE)})
    run_id = opened(first, at(THERE))
    box = Box(
        run_id=run_id,
        provider="aws",
        host="192.0.2.1",
        port=22,
        user="u",
        host_key="ssh-ed25519 AAAA",
        folder="/f",
        resources=(Resource(kind="instance", id="i-1", run_id=run_id),),
    )
    now_s = time.time()
    ledger.append(attempted(run_id, first, at_s=now_s, deadline_at_s=now_s + 3600))
    ledger.append(Created(run_id=run_id, at_s=now_s, box=box))
    receipt = driven(run_id, market)
    assert market.asked == asked
    assert [each.reason for each in receipt.tries] == reasons
    assert receipt.ending.message.startswith(
        f"{THERE} is full." if asked else "The box is gone before its deadline, and not by us."
    )


def test_what_was_made_and_declined_is_taken_off_the_deadline_of_the_same_offer(
    at: At, opened: Opened, driven: Driven, ledger: Ledger
) -> None:
    """$12 at $3.60 for each hour begun pay three hours; two machines that never ran have taken one each."""
    first = at(HERE, budget=Budget(max_usd=Decimal(12), max_hours=9))
    by_the_hour = msgspec.structs.replace(first, billing=msgspec.structs.replace(first.billing, increment_s=3600))
    receipt = driven(opened(by_the_hour), Market({HERE: full(HERE)}, leaves=(HERE,), zones=("a", "b")))
    tries = [line for line in ledger.lines() if isinstance(line, Attempted)]
    reserve_s = 0.05 * 12_000
    left_s = [each.deadline_at_s - each.at_s for each in tries]
    assert left_s == pytest.approx([3 * 3600 - reserve_s, 2 * 3600 - reserve_s, 3600 - reserve_s], abs=5.0)
    assert receipt.metered_usd == Decimal("10.80")


def test_each_attempt_is_made_by_its_own_provider(at: At, opened: Opened, places: Places, ledger: Ledger) -> None:
    """And ended by it: the claim names who rented."""
    elsewhere = "hetzner/fsn1/gex44/on_demand"
    markets = {"aws": Market({HERE: full(HERE)}), "hetzner": Market({elsewhere: full(elsewhere)}, leaves=(elsewhere,))}

    def make(claim: Claim) -> Provisioner:
        return markets[claim.provider]

    run_id = opened(at(HERE), at(elsewhere))
    receipt = drive(run_id, Edges(places, Quiet(), make=make))
    assert [market.asked for market in markets.values()] == [[HERE], [elsewhere]]
    assert markets["hetzner"].boxes == {}
    assert receipt.exit_code == Exit.FAILED
    assert ledger.runs()[run_id].provider == "hetzner"


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ('providers = ["gcp"]', "not from gcp (providers in {file})"),
        ("max_usd_per_hour = 0.5", "over $0.5 an hour (max_usd_per_hour in {file})"),
        ("max_usd_per_run = 0.01", "the run may cost $1.30, over $0.01 (max_usd_per_run in {file})"),
    ],
)
def test_a_policy_that_was_tightened_since_holds_when_the_run_is_taken_up(
    at: At, opened: Opened, driven: Driven, places: Places, ledger: Ledger, policy: str, why: str
) -> None:
    """Nobody is asked for a box, nothing stands in for what was agreed to, and the run is left as it was: the file may be
    mended. With the run's own limits it can be taken up then.
    """
    run_id, market = opened(at(HERE), at(THERE)), Market({key: full(key) for key in (HERE, THERE)})
    places.user_policy.write_text(policy)
    with pytest.raises(Refused) as refused:
        driven(run_id, market)
    assert str(refused.value) == (
        f"{HERE} can't be rented any more: {why.format(file=places.user_policy)}. Nothing was rented for run {run_id}."
    )
    assert (market.asked, ledger.runs()[run_id].over) == ([], False)

    places.user_policy.write_text("max_usd_per_hour = 4")
    driven(run_id, market)
    assert market.asked == [HERE, THERE]


def test_a_policy_that_can_not_be_read_any_more_keeps_a_run_from_renting(
    at: At, opened: Opened, driven: Driven, places: Places
) -> None:
    """It may forbid it."""
    run_id, market = opened(at(HERE)), Market({})
    places.user_policy.write_text("providers = [")
    with pytest.raises(BadInput):
        driven(run_id, market)
    assert market.asked == []


def test_an_offer_that_a_policy_forbids_by_now_is_passed_over(at: At, opened: Opened, driven: Driven, places: Places) -> None:
    """The next that is allowed is asked, and where none is left the file and its key are named."""
    run_id = opened(at(HERE), at(THERE, 1.1), at(YONDER, 1.2))

    class Tightened(Market):
        def up(self, offer: Offer, launch: Launch) -> Box:
            places.user_policy.write_text('regions = ["here", "yonder"]')
            return super().up(offer, launch)

    market = Tightened({HERE: full(HERE), YONDER: full(YONDER)})
    receipt = driven(run_id, market)
    assert market.asked == [HERE, YONDER]
    assert receipt.ending.message == (
        f"{YONDER} is full. {THERE} can't be rented any more: not in here or yonder (regions in {places.user_policy})."
    )


def test_what_an_unfinished_asking_left_is_not_asked_for_again_against_a_policy(
    at: At, opened: Opened, driven: Driven, places: Places, ledger: Ledger
) -> None:
    """The controller died over the asking: what stands is ended, and the policy of now is read before a box is asked for."""
    plan, market = at(HERE), Market({})
    run_id = opened(plan)
    now_s = time.time()
    asked = Attempted(run_id=run_id, at_s=now_s, offer=plan.offer, billing=plan.billing, disk_gib=0, deadline_at_s=now_s + 3600)
    ledger.append(asked)
    places.user_policy.write_text('providers = ["gcp"]')
    receipt = driven(run_id, market)
    assert market.asked == []
    assert receipt.ending.message == f"{HERE} can't be rented any more: not from gcp (providers in {places.user_policy})."
    assert ledger.runs()[run_id].over


def test_a_lower_limit_in_a_policy_brings_the_deadline_forward(
    at: At, opened: Opened, driven: Driven, places: Places, ledger: Ledger
) -> None:
    """$3.60 an hour and $1.50 allowed since: 25 minutes, less what is kept back, though the run was opened with $20."""
    run_id = opened(at(HERE, budget=Budget(max_usd=Decimal(20), max_hours=5)))
    places.user_policy.write_text("max_usd_per_run = 1.5")
    driven(run_id, Market({HERE: full(HERE)}))
    (attempted,) = (line for line in ledger.lines() if isinstance(line, Attempted))
    assert 1300 < attempted.deadline_at_s - attempted.at_s < 1500


# ── the limit that set the deadline ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def told(places: Places, ledger: Ledger) -> Callable[[str], str]:
    """What whoever ran out of time is told to type."""

    def of(run_id: str) -> str:
        return more_time(read_run(run_id, Edges(places, Quiet(), make=lambda _claim: Market({})), ledger=ledger))

    return of


def test_dollars_that_an_earlier_box_took_are_named_where_they_end_the_next(
    at: At, opened: Opened, driven: Driven, told: Callable[[str], str]
) -> None:
    """$12 at $3.60 for each hour begun outlast two and a half hours at first, and no more once an hour was paid for nothing."""
    first = at(HERE, budget=Budget(max_usd=Decimal(12), max_hours=2.5))
    by_the_hour = msgspec.structs.replace(first, billing=msgspec.structs.replace(first.billing, increment_s=3600))
    untouched, taxed = opened(by_the_hour), opened(by_the_hour)
    driven(untouched, Market({HERE: full(HERE)}))
    driven(taxed, Market({HERE: full(HERE)}, leaves=(HERE,), zones=("a",)))
    assert told(untouched).endswith("run it again with a larger --max-hours.")
    assert told(taxed).endswith("run it again with a larger --max-cost.")


def test_hours_that_have_passed_are_named_where_they_end_the_next(
    at: At, places: Places, ledger: Ledger, driven: Driven, told: Callable[[str], str]
) -> None:
    """$3 pay 50 minutes, and of an hour and a half only half an hour is left."""
    plan = at(HERE, budget=Budget(max_usd=Decimal(3), max_hours=1.5))
    run_id = open_run(plan, find_base(plan.request.model), places=places, ledger=ledger, clock=lambda: time.time() - 3600)
    assert told(run_id).endswith("run it again with a larger --max-cost.")
    between_attempts(run_id, ledger)
    driven(run_id, Market({HERE: full(HERE)}))
    assert told(run_id).endswith("run it again with a larger --max-hours.")


@pytest.mark.parametrize("agreed_usd", ["20", "1.5"], ids=["lower by now", "planned under it"])
def test_a_policy_is_named_where_its_dollars_set_the_deadline(
    at: At, opened: Opened, driven: Driven, places: Places, told: Callable[[str], str], agreed_usd: str
) -> None:
    """A plan that was made under the policy has its dollars as its own: a larger --max-cost would move nothing."""
    run_id = opened(at(HERE, budget=Budget(max_usd=Decimal(agreed_usd), max_hours=5)))
    places.user_policy.write_text("max_usd_per_run = 1.5")
    driven(run_id, Market({HERE: full(HERE)}))
    assert told(run_id).endswith(f"run it again with a larger max_usd_per_run in {places.user_policy}.")
