"""How long a run may live, and what is said of it before anybody agrees to it."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.asking.request import Budget, Keep
from planner.estimators.cost import round_to_bill
from planner.plan import Plan, Range
from provision.errors import Refused
from provision.prepare.limits.deadline import (
    allowed_s,
    deadline_words,
    forsaken_words,
    lease_words,
    overdue_words,
    require_time_to_train,
)
from provision.prepare.limits.outlay import Taken, outlay_of
from provision.seam import DEADLINE_GRACE_S
from remote.contract import MAX_CHECKPOINTS, Phase


def noon_s() -> float:
    """By the clock of this machine, whatever its zone is by then."""
    return time.mktime((2026, 11, 26, 12, 0, 0, 0, 0, -1))


def test_the_deadline_follows_from_plan_and_budget(plan: Plan) -> None:
    """p90 with slack, or the hours that were asked for, be they more or fewer; never past the money."""
    assert allowed_s(plan) == pytest.approx(16.0 * 1.3 * 1.5 + 600)

    def with_budget(budget: Budget) -> Plan:
        return msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, budget=budget))

    assert allowed_s(with_budget(Budget(max_hours=0.1))) == 360.0
    assert allowed_s(with_budget(Budget(max_usd=Decimal("0.36")))) == pytest.approx(0.95 * 360.0)
    assert allowed_s(with_budget(Budget(max_usd=Decimal(1000)))) == allowed_s(plan)
    assert allowed_s(with_budget(Budget(max_usd=Decimal(100000), max_hours=1000))) == 3_600_000.0
    assert allowed_s(with_budget(Budget(max_usd=Decimal("0.36"), max_hours=1000))) == pytest.approx(0.95 * 360.0)


def test_what_a_slow_teardown_may_cost_is_kept_of_a_small_budget(plan: Plan) -> None:
    """Until the box is gone it is billed: of 36 cents at $3.60 an hour one minute and more is not for training."""
    phase_s = plan.duration.phase_s | {
        Phase.TEARDOWN: Range(p10=10, p50=40, p90=100),
        Phase.CONFIRM: Range(p10=1, p50=2, p90=20),
    }
    slow = msgspec.structs.replace(
        plan,
        duration=msgspec.structs.replace(plan.duration, phase_s=phase_s),
        request=msgspec.structs.replace(plan.request, budget=Budget(max_usd=Decimal("0.36"))),
    )
    assert allowed_s(slow) == pytest.approx(360.0 - 120.0 * float(plan.offer.usd_per_hour) / 3.6)


@pytest.mark.parametrize("provider", ["hetzner", "digitalocean"])
@pytest.mark.parametrize(("cap", "usd_per_hour"), [("3.73", "3.39"), ("5.08", "3.39"), ("0.55", "0.50"), ("1.10", "0.50")])
def test_where_this_machine_alone_ends_the_bill_a_hanging_controller_keeps_the_budget_too(
    plan: Plan, provider: str, cap: str, usd_per_hour: str
) -> None:
    """Billed by the begun hour: ended after the deadline and the grace, it is ended in the last hour that is paid."""
    there = msgspec.structs.replace(
        plan,
        offer=msgspec.structs.replace(plan.offer, provider=provider, usd_per_hour=Decimal(usd_per_hour)),
        billing=msgspec.structs.replace(plan.billing, increment_s=3600),
        duration=msgspec.structs.replace(
            plan.duration, phase_s=plan.duration.phase_s | {Phase.TEARDOWN: Range(p10=10, p50=40, p90=180)}
        ),
        request=msgspec.structs.replace(plan.request, budget=Budget(max_usd=Decimal(cap), max_hours=1000)),
    )
    deleted_s = allowed_s(there) + DEADLINE_GRACE_S + 30.0
    assert Decimal(str(round_to_bill(deleted_s, there.billing))) / 3600 * Decimal(usd_per_hour) <= Decimal(cap)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    increment_s=st.sampled_from([1, 60, 3600]),
    minimum_s=st.sampled_from([0, 60, 600, 3600]),
    cents=st.integers(1, 2_000),
    usd_per_hour=st.decimals("0.05", "40", places=2),
)
def test_a_budget_is_kept_in_what_the_provider_bills(
    plan: Plan, increment_s: int, minimum_s: int, cents: int, usd_per_hour: Decimal
) -> None:
    """An hour begun is an hour billed: the box is gone before the one that the money does not reach."""
    billing = msgspec.structs.replace(plan.billing, increment_s=increment_s, minimum_s=minimum_s)
    budget = Budget(max_usd=Decimal(cents) / 100)
    ending = Range(p10=10, p50=40, p90=100)
    capped = msgspec.structs.replace(
        plan,
        billing=billing,
        duration=msgspec.structs.replace(plan.duration, phase_s=plan.duration.phase_s | {Phase.TEARDOWN: ending}),
        offer=msgspec.structs.replace(plan.offer, usd_per_hour=usd_per_hour),
        request=msgspec.structs.replace(plan.request, budget=budget),
    )
    if (left_s := allowed_s(capped)) > 0:
        billed_s = round_to_bill(left_s + ending.p90, billing)
        assert billed_s * float(usd_per_hour) / 3600 <= cents / 100 + 1e-9


def budgeted(plan: Plan, usd: Decimal, **request: Any) -> Plan:
    return msgspec.structs.replace(
        plan, request=msgspec.structs.replace(plan.request, budget=Budget(max_usd=usd, max_hours=1000), **request)
    )


# By the hour: 75 cents of machine, 25 of its address, a dollar of disk, and half a dollar of a volume beside it. A setup fee
# of a dollar; a GB that leaves is a dollar, and the first two are free. The result has 3 GB, a checkpoint 1 GB, made every
# ten minutes.
def full_of_costs(plan: Plan, **request: Any) -> Plan:
    disk, volume = Decimal(730) / 100, Decimal(730) / 20
    return msgspec.structs.replace(
        budgeted(plan, Decimal(20), loop=msgspec.structs.replace(plan.request.loop, checkpoint_every_s=600.0), **request),
        offer=msgspec.structs.replace(plan.offer, usd_per_hour=Decimal("0.75"), setup_usd=Decimal(1)),
        billing=msgspec.structs.replace(
            plan.billing,
            minimum_disk_gib=100,
            disk_usd_per_gib_month=disk,
            volume_usd_per_gib_month=volume,
            egress_usd_per_gb=Decimal(1),
            egress_free_gb=2,
            address_usd_per_hour=Decimal("0.25"),
        ),
        host=msgspec.structs.replace(plan.host, disk_components={"result": 3 * 10**9, "checkpoints": MAX_CHECKPOINTS * 10**9}),
    )


@pytest.mark.parametrize(
    ("request_of", "taken", "hours"),
    [
        ({}, Taken(), (20 - 1 - 1) / 2),
        ({"keep": Keep(volume_name="v")}, Taken(), (20 - 1 - 1) / 2.5),
        ({}, Taken(spent_usd=Decimal(8), sent_bytes={"local": 10**9}), (20 - 8 - 1 - 2) / 2),
        ({}, Taken(pushes=True), (20 - 1 - 1) / (2 + 6)),
    ],
    ids=[
        "machine, address, disk, setup and the result's way home",
        "a volume",
        "what was sent before",
        "checkpoints to a store",
    ],
)
def test_the_money_pays_for_all_that_is_billed(plan: Plan, request_of: dict[str, Any], taken: Taken, hours: float) -> None:
    """Not for the machine alone: each of the others ends it sooner, and the free gigabytes are free once."""
    asked = full_of_costs(plan, **request_of)
    outlay = outlay_of(asked, taken)
    lasts_s = outlay.lasts_s(20 - float(taken.spent_usd))
    assert lasts_s == pytest.approx(hours * 3600)
    assert outlay.usd(lasts_s) == pytest.approx(20 - float(taken.spent_usd))
    reserve_s = 0.05 * 20 / outlay.usd_per_s
    assert allowed_s(asked, taken) == pytest.approx(int(lasts_s) - reserve_s, abs=1.0)
    until = f"${20 - float(taken.spent_usd) - reserve_s * (outlay.usd_per_s + outlay.gb_per_s):.2f}"
    assert until in deadline_words(asked, now_s=noon_s(), taken=taken)


def test_checkpoints_of_a_spot_machine_are_paid_for_as_often_as_they_come_home(plan: Plan) -> None:
    """A GB at a dollar comes home from a machine at 75 cents an hour once in 7.3 hours (derived: √(2 · 1 / 0.05 / 0.75))."""
    asked = full_of_costs(plan)
    spot = msgspec.structs.replace(asked, offer=msgspec.structs.replace(asked.offer, purchase="spot"))
    assert outlay_of(asked).gb_per_s == 0
    assert 1 / outlay_of(spot).gb_per_s == pytest.approx(3600 * (40 / 0.75) ** 0.5)


def test_what_is_free_of_charge_is_not_kept_back(plan: Plan) -> None:
    """Below the free gigabytes nothing is paid for what leaves."""
    asked = full_of_costs(plan)
    free = msgspec.structs.replace(asked, billing=msgspec.structs.replace(asked.billing, egress_free_gb=3))
    assert outlay_of(free).lasts_s(20.0) == pytest.approx((20 - 1) / 2 * 3600)


def test_limits_that_leave_no_time_to_train_are_refused_before_anything_is_rented(plan: Plan) -> None:
    """Start-up, the result's way home and the teardown are planned to take 12 of the 16 seconds."""

    def within(max_hours: float) -> Plan:
        budget = Budget(max_hours=max_hours)
        return msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, budget=budget))

    with pytest.raises(Refused, match=r"limits of this plan leave 11\.0 s, and all but the training, .*, takes 12\.0 s"):
        require_time_to_train(within(11 / 3600))
    require_time_to_train(within(13 / 3600))


def test_where_time_is_not_money_the_deadline_is_patient(plan: Plan) -> None:
    """A machine of one's own may be busy with other work; what is late there costs nothing."""
    free = msgspec.structs.replace(plan, offer=msgspec.structs.replace(plan.offer, usd_per_hour=Decimal(0)))
    assert allowed_s(free) == pytest.approx(16.0 * 1.3 * 1.5 + 7200)


@pytest.mark.parametrize(
    ("budget", "words", "more_time"),
    [
        (
            Budget(),
            "12:10, 10 min 31 s after the start: 1.5 × the plan's 20.8 s (p90), and 10 min 00 s more. $0.63",
            "--max-hours",
        ),
        (
            Budget(max_usd=Decimal("0.36")),
            "12:05, 5 min 42 s after the start: $0.36 at most pays no more",
            "a larger --max-cost",
        ),
        (Budget(max_hours=3), "15:00, 3 h 00 min after the start: --max-hours says so. $10.80", "a larger --max-hours"),
        (Budget(max_hours=30), "2026-11-27 18:00, 30 h 00 min after the start: --max-hours says so.", "a larger --max-hours"),
    ],
)
def test_before_anybody_agrees_the_deadline_is_told_with_its_reason(
    plan: Plan, budget: Budget, words: str, more_time: str
) -> None:
    """When, why then, what it comes to until then, and what would move it."""
    asked = msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, budget=budget))
    told = deadline_words(asked, now_s=noon_s())
    assert told.startswith(words)
    assert told.endswith(f"More time: {more_time}.")


def test_what_has_no_price_is_named_beside_what_is_paid_at_the_most(plan: Plan) -> None:
    told = deadline_words(plan, now_s=noon_s())
    assert " until then at the most, with its disk and what is sent from it." in told
    untold = msgspec.structs.replace(plan, cost=msgspec.structs.replace(plan.cost, unknown=("disk", "egress")))
    told = deadline_words(untold, now_s=noon_s())
    assert " until then at the most, but for disk and egress, of which no price is known." in told


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        ("local", "The box goes with it: it is a process of this machine."),
        ("host", "By 12:10 a watchdog on the host cleans up. Until then `rentune resume RUN` takes the run up again."),
        ("aws", "By 12:10 the box switches itself off, which ends the bill. Until then"),
        ("gcp", "By 12:10 gcp itself deletes the box. Until then"),
        (
            "runpod",
            "By 12:10 the box asks runpod for its own end, which takes its network and its own key; where",
        ),
        ("hetzner", "By 12:10 the box switches itself off, and hetzner bills it until this machine or `rentune down"),
    ],
)
def test_and_what_becomes_of_the_box_where_this_machine_dies(plan: Plan, provider: str, words: str) -> None:
    """Not every cloud stops billing what has switched itself off, and nobody is to think so."""
    rented = msgspec.structs.replace(plan, offer=msgspec.structs.replace(plan.offer, provider=provider))
    assert forsaken_words(rented, now_s=noon_s()).startswith(words)


@pytest.mark.parametrize(
    ("provider", "pushes", "words"),
    [
        ("aws", False, "the box ends itself, which ends the bill. Without --state all that it learned is lost then."),
        ("runpod", True, "What it saved goes to object storage, and `rentune resume RUN` goes on from it."),
        ("host", False, "the trainer saves and stops, and what it saved stays: `rentune resume RUN` goes on from it."),
    ],
)
def test_before_the_yes_a_lease_says_what_becomes_of_what_was_learned(
    plan: Plan, provider: str, pushes: bool, words: str
) -> None:
    """And how long nobody may be there; without a lease nothing is said."""
    taken = Taken(pushes=pushes)
    assert lease_words(plan, taken) is None
    offer = msgspec.structs.replace(plan.offer, provider=provider)
    request = msgspec.structs.replace(plan.request, budget=Budget(lease_hours=2.0, max_hours=2.5))
    told = lease_words(msgspec.structs.replace(plan, offer=offer, request=request), taken) or ""
    assert told.startswith("where nobody is in control for 2 h 00 min the trainer saves and stops")
    assert words in told
    assert ("A finished result waits there for the deadline." in told) == (provider != "host")


def test_before_the_yes_a_lease_that_is_longer_than_the_run_may_take_is_told_as_that(plan: Plan) -> None:
    """It was shown as if it could strike."""
    request = msgspec.structs.replace(plan.request, budget=Budget(lease_hours=3.0, max_hours=2.5))
    told = lease_words(msgspec.structs.replace(plan, request=request))
    assert told == "it can't end the box: the deadline comes first, 2 h 30 min after the start. A shorter one can."


def test_a_plan_says_when_a_run_that_takes_longer_ends_and_what_it_cost_by_then(plan: Plan) -> None:
    """With the seconds that `run` will allow it, and what lengthens them."""
    told = overdue_words(plan)
    assert told.startswith("If it takes longer: 10 min 31 s after the start the box ends itself (1.5 ×")
    usd = outlay_of(plan).usd(round_to_bill(allowed_s(plan), plan.billing))
    assert f"having cost ${usd:.2f} at the most, and what is trained comes home; --max-hours gives more time." in told
    within = msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, budget=Budget(max_hours=1)))
    assert "1 h 00 min after the start the box ends itself (--max-hours says so)" in overdue_words(within)
