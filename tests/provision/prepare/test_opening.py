"""Before the first dollar: what is on disk, until when a run may live, and what is refused."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.asking.request import Budget
from planner.estimators.cost import round_to_bill
from planner.plan import Plan, Range
from provision.account.ledger import Ledger
from provision.account.runs import Standing
from provision.charge.control import end
from provision.errors import BadInput, Refused
from provision.places import Places
from provision.prepare.inputs import find_base
from provision.prepare.opening import allowed_s, new_run_id, open_run, read_launch, require_time_to_train
from remote.contract import Phase
from tests.doubles.displays import Quiet
from tests.doubles.virtual.lives import Killed, Life, MortalLedger


@pytest.mark.fault("F2", tier="code")
def test_the_intent_is_on_disk_before_anything_is_rented(run_id: str, places: Places, ledger: Ledger, plan: Plan) -> None:
    """Price, billing rule, deadline and the key are there; the folder is nobody else's."""
    state = ledger.runs()[run_id]
    opened = state.opened
    assert (opened.usd_per_hour, opened.billing, opened.provider) == (plan.offer.usd_per_hour, plan.billing, "local")
    folder = places.run(run_id)
    assert folder.root.stat().st_mode & 0o777 == 0o700
    launch = read_launch(folder)
    assert launch.public_key.startswith("ssh-ed25519 ")
    assert (launch.folder, launch.deadline_at_s) == (folder.root, opened.deadline_at_s)


@pytest.mark.fault("F1", tier="code")
def test_a_kill_before_the_intent_is_on_disk_leaves_no_run(plan: Plan, places: Places, ledger: Ledger) -> None:
    """No line, so nothing was asked for and nothing can bill; the next run is opened as if there had been none."""
    base = find_base(plan.request.model)
    with pytest.raises(Killed):
        open_run(plan, base, places=places, ledger=MortalLedger(places.ledger, Life(killed_at=1)), clock=time.time)
    assert ledger.runs() == {}
    assert open_run(plan, base, places=places, ledger=ledger, clock=time.time) in ledger.runs()


@pytest.mark.fault("F2", tier="code")
def test_a_kill_right_after_the_intent_leaves_a_run_that_rented_nothing(plan: Plan, places: Places, ledger: Ledger) -> None:
    """The next command closes it."""
    mortal = MortalLedger(places.ledger, Life(killed_at=2))
    with pytest.raises(Killed):
        open_run(plan, find_base(plan.request.model), places=places, ledger=mortal, clock=time.time)
    [state] = ledger.runs().values()
    assert state.standing is Standing.OPENED
    assert end(state.run_id, places=places, display=Quiet()).clean
    assert ledger.runs()[state.run_id].standing is Standing.OVER


def test_a_state_folder_that_cannot_be_written_is_bad_input(plan: Plan, tmp_path: Path) -> None:
    """Told before anything is rented, with the variable that names another."""
    (tmp_path / "file").touch()
    places = Places(home=tmp_path / "file", cache=tmp_path)
    with pytest.raises(BadInput, match="can't be written to: Not a directory") as refused:
        open_run(plan, find_base(plan.request.model), places=places, ledger=Ledger(places.ledger), clock=time.time)
    assert str(refused.value.hint).startswith("RENTUNE_HOME=")


def test_the_deadline_follows_from_plan_and_budget(plan: Plan) -> None:
    """p90 with slack; never past the hours, never past the money."""
    assert allowed_s(plan) == pytest.approx(16.0 * 1.3 * 1.5 + 600)

    def with_budget(budget: Budget) -> Plan:
        return msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, budget=budget))

    assert allowed_s(with_budget(Budget(max_hours=0.1))) == 360.0
    assert allowed_s(with_budget(Budget(max_usd=Decimal("0.36")))) == pytest.approx(0.95 * 360.0)
    assert allowed_s(with_budget(Budget(max_usd=Decimal(1000), max_hours=1000))) == allowed_s(plan)


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


def test_run_ids_sort_by_time_and_never_meet() -> None:
    """They stand in file names, tags and consoles."""
    ids = [new_run_id(float(at_s)) for at_s in range(0, 100_000, 1000)]
    assert ids == sorted(ids)
    assert len({new_run_id(0.0) for _ in range(50)}) > 40
