"""Which offer is tried next: pure."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from planner.asking.request import Budget
from planner.plan import Plan
from provision.account.lines import Tried
from provision.account.runs import Rental
from provision.errors import Reason, Scope
from provision.walk.offers.attempts import (
    MAX_DECLINED,
    MAX_LOST,
    MAX_ZONES,
    TOO_LATE_TO_RENT,
    Next,
    NoneLeft,
    Past,
    choose,
    idle_leases,
)
from tests.provision.plans import exactly, rental, tiny_plan


def plan_at(place: str, usd: float, **request: Any) -> Plan:
    """A plan at provider/region/type/purchase whose whole job costs so much, and up to twice that at p90."""
    provider, region, instance_type, purchase = place.split("/")
    plan = tiny_plan(Path("/model"), Path("/data"), **request)
    offer = msgspec.structs.replace(
        plan.offer,
        provider=provider,
        region=region,
        instance_type=instance_type,
        purchase=purchase,
        usd_per_hour=Decimal("3.6"),
    )
    total = msgspec.structs.replace(exactly(usd), p90=2 * usd)
    return msgspec.structs.replace(plan, offer=offer, cost=msgspec.structs.replace(plan.cost, total_usd=total))


FIRST = plan_at("aws/east/g5/spot", 1.0)
PLANS = (
    FIRST,
    plan_at("aws/west/g5/spot", 1.02),
    plan_at("aws/east/g6/spot", 1.05),
    plan_at("aws/east/g5/on_demand", 1.1),
    plan_at("aws/west/g6/spot", 1.12),
    plan_at("runpod/eu/a10/on_demand", 1.2),
)


def tried(plan: Plan, scope: Scope | None = Scope.OFFER, reason: Reason = Reason.CAPACITY) -> Rental:
    why = Tried(run_id="r", at_s=1.0, offer=plan.offer.key, reason=reason, scope=scope, message="", took_s=1.0, usd=Decimal(0))
    return rental(plan, started_at_s=0.0, ended_at_s=1.0, tried=why)


def test_the_plan_that_was_agreed_to_comes_first() -> None:
    assert choose(PLANS, Past()) == Next(plan=FIRST)


def test_nothing_is_asked_for_past_the_deadline() -> None:
    """Whoever resumes days later has no time left: a box would be rented to be ended."""
    assert choose(PLANS, Past(left_s=0.0)) == NoneLeft(why=TOO_LATE_TO_RENT)


def test_an_offer_that_is_asked_for_again_keeps_its_deadline_and_another_has_one_of_its_own() -> None:
    past = Past(rentals=(tried(FIRST, Scope.ZONE),), left_s=11.0)
    assert choose(PLANS, past) == Next(plan=PLANS[1])


def test_after_a_lease_every_offer_keeps_the_deadline_that_stood() -> None:
    """Or one that nobody keeps would be followed by another, each with hours of its own."""
    past = Past(rentals=(tried(FIRST, None, Reason.LEASE),), left_s=11.0)
    assert isinstance(choose(PLANS, past), NoneLeft)


@pytest.mark.parametrize(
    ("scope", "following"),
    [
        (Scope.OFFER, "aws/west/g5/spot"),
        (Scope.REGION, "aws/west/g5/spot"),
        (Scope.INSTANCE_TYPE, "aws/east/g6/spot"),
        (Scope.CLOUD, "runpod/eu/a10/on_demand"),
    ],
)
def test_a_scope_rules_out_what_agrees_with_the_offer_in_it(scope: Scope, following: str) -> None:
    """And the cheapest whole job that is left comes next."""
    chosen = choose(PLANS, Past(rentals=(tried(FIRST, scope),)))
    assert isinstance(chosen, Next)
    assert (chosen.plan.offer.key, chosen.question) == (following, None)


def test_a_full_zone_rules_out_no_offer_but_three_of_them_do() -> None:
    """The same offer is asked for in the next zone; also where nothing else may take its place."""
    for plans in (PLANS, (FIRST,)):
        assert choose(plans, Past(rentals=(tried(FIRST, Scope.ZONE),) * (MAX_ZONES - 1))) == Next(plan=FIRST)
    full = Past(rentals=(tried(FIRST, Scope.ZONE),) * MAX_ZONES)
    assert choose(PLANS, full) == Next(plan=PLANS[1])
    assert choose((FIRST,), full) == NoneLeft(why="")


def test_a_lease_that_ended_rules_nothing_out() -> None:
    """The machine was good: whoever is back asks for the same, however often."""
    for plans in (PLANS, (FIRST,)):
        assert choose(plans, Past(rentals=(tried(FIRST, None, Reason.LEASE),) * 4)) == Next(plan=FIRST)


def test_leases_are_counted_between_two_steps_and_what_else_became_of_a_box_does_not_count() -> None:
    """None of two boxes that learned nothing counts after one that did."""
    lease, lost, learned = (True, False), (False, False), (True, True)
    counts, number = [], 0
    for of_lease, has_learned in (learned, lease, lost, lease, learned, lease):
        number = idle_leases(number, of_lease=of_lease, has_learned=has_learned)
        counts.append(number)
    assert counts == [0, 1, 1, 2, 0, 1]


def test_an_offer_counts_once_however_many_of_its_zones_were_full() -> None:
    many = tuple(plan_at(f"aws/region-{number}/g5/spot", 1.0) for number in range(20))
    zones = tuple(tried(plan, Scope.ZONE) for plan in many[: MAX_DECLINED - 1] for _ in range(MAX_ZONES))
    assert choose(many, Past(rentals=zones)) == Next(plan=many[MAX_DECLINED - 1])
    assert choose(many, Past(rentals=(*zones, tried(many[MAX_DECLINED - 1])))) == NoneLeft(
        why=f"{MAX_DECLINED} offers were tried."
    )


def test_what_was_ruled_out_stays_so() -> None:
    """Three refusals: the region, another offer, and the cloud."""
    past = Past(rentals=(tried(FIRST, Scope.REGION), tried(PLANS[1]), tried(PLANS[4], Scope.CLOUD)))
    assert choose(PLANS, past) == Next(plan=PLANS[5])
    assert choose(PLANS[:5], past) == NoneLeft(why="No other offer is left.")


def test_a_machine_of_ones_own_has_no_successor_and_no_word_is_lost_on_it() -> None:
    assert choose((FIRST,), Past(rentals=(tried(FIRST),))) == NoneLeft(why="")


def test_what_is_much_dearer_is_asked_about() -> None:
    """Over a quarter; a quarter is about the same price."""
    past = Past(rentals=(tried(FIRST),))
    assert choose((FIRST, plan_at("aws/west/g5/spot", 1.25)), past) == Next(plan=plan_at("aws/west/g5/spot", 1.25))
    dear = plan_at("aws/west/g5/spot", 1.6)
    assert choose((FIRST, dear), past) == Next(
        plan=dear,
        question="The next offer, aws/west/g5/spot, is planned at $1.60 for the whole job, 60 % more than the first.",
    )


def test_the_budget_counts_what_is_spent_and_the_p90_of_what_comes() -> None:
    """$2.04 may come at p90: with 96 cents spent it is within $3, with 97 it is not."""
    plans = tuple(
        plan_at(place, usd, budget=Budget(max_usd=Decimal(3))) for place, usd in (("a/b/c/spot", 1), ("a/d/c/spot", 1.02))
    )
    assert choose(plans, Past(rentals=(tried(plans[0]),), spent_usd=Decimal("0.96"))) == Next(plan=plans[1])
    assert choose(plans, Past(rentals=(tried(plans[0]),), spent_usd=Decimal("0.97"))) == NoneLeft(
        why="The next, a/d/c/spot, may cost $2.0400: with the $0.9700 that are spent that is over $3.0000."
    )


def test_hours_that_are_gone_are_gone() -> None:
    """Start-up and end are planned to take 12 s."""
    plans = tuple(plan_at(place, 1, budget=Budget(max_hours=0.1)) for place in ("a/b/c/spot", "a/d/c/spot"))
    assert choose(plans, Past(rentals=(tried(plans[0]),), elapsed_s=347.0)) == Next(plan=plans[1])
    assert choose(plans, Past(rentals=(tried(plans[0]),), elapsed_s=349.0)) == NoneLeft(
        why="The next, a/d/c/spot, would not be done within 0.1 hours."
    )


def test_what_is_not_understood_is_asked_for_once_more_and_never_a_third_time() -> None:
    """Whatever else was refused in between: it may be a fault of ours, which every offer would meet."""
    once, between = tried(FIRST, reason=Reason.UNKNOWN), tried(PLANS[1])
    again = tried(PLANS[2], reason=Reason.UNKNOWN)
    assert choose(PLANS, Past(rentals=(once,))) == Next(plan=PLANS[1])
    assert choose(PLANS, Past(rentals=(once, between))) == Next(plan=PLANS[2])
    assert choose(PLANS, Past(rentals=(once, between, again))) == NoneLeft(
        why="What came of 2 offers was not understood, so no more are tried."
    )


def test_it_ends() -> None:
    """After so many refusals, and after so many machines that were taken back."""
    many = tuple(plan_at(f"aws/region-{number}/g5/spot", 1.0) for number in range(20))
    refused = tuple(tried(plan) for plan in many[:MAX_DECLINED])
    assert isinstance(choose(many, Past(rentals=refused[:-1])), Next)
    assert choose(many, Past(rentals=refused)) == NoneLeft(why=f"{MAX_DECLINED} offers were tried.")
    lost = tuple(tried(plan, reason=Reason.LOST) for plan in many[:MAX_LOST])
    assert isinstance(choose(many, Past(rentals=lost[:-1])), Next)
    assert choose(many, Past(rentals=lost)) == NoneLeft(why=f"Machines were taken back {MAX_LOST} times.")


def test_a_checkpoint_goes_on_only_where_the_same_is_trained() -> None:
    """Another rank would not find its weights in it; and what is done already is not paid for again."""
    other = msgspec.structs.replace(PLANS[1], strategy=msgspec.structs.replace(FIRST.strategy, rank=64))
    past = Past(rentals=(tried(FIRST, reason=Reason.LOST),), strategy=FIRST.strategy)
    assert choose((FIRST, other, PLANS[2]), past) == Next(plan=PLANS[2])


def test_of_a_job_that_is_half_done_the_training_costs_half() -> None:
    """Training is 2.6 of 20.8 s at p90: done by four fifths, a tenth of the $2.04 is saved."""
    plans = tuple(
        plan_at(place, usd, budget=Budget(max_usd=Decimal(3))) for place, usd in (("a/b/c/spot", 1), ("a/d/c/spot", 1.02))
    )
    past = Past(rentals=(tried(plans[0], reason=Reason.LOST),), spent_usd=Decimal("1.16"), done_share=0.8)
    assert choose(plans, past) == Next(plan=plans[1])
    assert isinstance(choose(plans, msgspec.structs.replace(past, spent_usd=Decimal("1.17"))), NoneLeft)
