"""The best plan for each goal, what speaks against a plan, and what the price of an hour alone would lead to."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogs.catalog import Catalog, read_catalog
from catalogs.hardware import OWN_LIST, Gpu, Interconnect
from planner.asking.data import stated_data
from planner.asking.request import Budget, Request, Where
from planner.choice.goals import GOALS, MEASURES, Goal
from planner.estimators.time.duration import GPU_STACK
from planner.estimators.time.learned import Seen, machine_of
from planner.plan import PRICE_ONLY, Plan, Provider, QuotaShort
from tests.planner.builders import CLOUD, ask, make_billing, make_catalog, make_gpu, make_offer, make_request

FAST = make_gpu(
    "Card 80GB", memory_gib=80.0, driver_memory_mib=81559, achievable_tflops=776.0, memory_bandwidth_gb_per_s=3350.0
)
CARDS = (make_gpu(), FAST, make_gpu("Card 16GB", memory_gib=16.0, driver_memory_mib=15360))
DATA = stated_data(num_examples=2_000, num_tokens=None, tokens_per_example=512)
LACKING = Provider(name="bare", runnable=True, status="tested", missing=("credentials",))
ELSEWHERE = Provider(name="elsewhere", runnable=False, status="price only")
LONG = stated_data(num_examples=20_000, num_tokens=None, tokens_per_example=512)
SLOW = make_offer(instance_type="slow", usd_per_hour=Decimal("0.50"))
QUICK = make_offer(instance_type="quick", gpu=FAST.name, usd_per_hour=Decimal(40))

EARLIER = st.builds(
    Seen,
    st.just(GPU_STACK),
    st.sampled_from([card.name for card in CARDS]),
    st.sampled_from(["none", "nf4", "int8"]),
    st.sampled_from([machine_of("cloud", "machine-0"), machine_of("elsewhere", "another")]),
    st.floats(-1.6, 1.6),
    st.integers(1, 20),
)
CHEAP = msgspec.structs.replace(QUICK, usd_per_hour=Decimal(1))


def least(plans: Sequence[Plan], goal: Goal) -> tuple[object, ...] | None:
    """The doubts and the figure of the best of these that can be run."""
    every = [plan for plan in plans if plan.why_not is None]
    keys = [(plan.doubts, MEASURES[goal](plan.cost.held_usd.p50, plan.duration.wall_s.p50)) for plan in every]
    return min(keys, default=None)


@settings(max_examples=12)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(CARDS),
            st.integers(1, 2),
            st.integers(10, 900),
            st.sampled_from(["cloud", "elsewhere", "bare"]),
            st.sampled_from([64.0, None]),
        ),
        min_size=1,
        max_size=5,
    ),
    st.lists(EARLIER, max_size=4, unique_by=lambda each: (each.gpu, each.quant, each.machine)),
)
def test_nothing_that_was_passed_over_is_better_for_any_goal(
    machines: list[tuple[Gpu, int, int, str, float | None]], earlier: list[Seen]
) -> None:
    """However few plans are asked for, and whatever earlier runs taught, the best of all machines is shown: as good as when
    each is asked about alone.
    """
    seen = tuple(earlier)
    offers = [
        make_offer(
            provider=provider,
            instance_type=f"machine-{number}",
            gpu=gpu.name,
            num_gpus=Decimal(num_gpus),
            usd_per_hour=Decimal(cents) / 100,
            ram_gib=ram_gib,
        )
        for number, (gpu, num_gpus, cents, provider, ram_gib) in enumerate(machines)
    ]
    request, providers = make_request(model="3b", top=1, data=DATA), (CLOUD, LACKING, ELSEWHERE)
    by_hour = (make_billing("bare", increment_s=3_600),)
    together = ask(request, make_catalog(*offers, gpus=CARDS, billing=by_hour), providers=providers, seen=seen)
    alone = [
        plan
        for each in offers
        for plan in ask(request, make_catalog(each, gpus=CARDS, billing=by_hour), providers=providers, seen=seen).plans
    ]
    for goal in GOALS:
        assert least(together.plans, goal) == least(alone, goal)
    hours = [(plan.doubts, plan.offer.usd_per_hour) for plan in alone if plan.why_not is None]
    hourly = together.by_the_hour
    assert ((hourly.doubts, hourly.offer.usd_per_hour) if hourly else None) == min(hours, default=None)


def taught(gpu: str, quant: str, factor: float, machine: str = machine_of("cloud", "another")) -> Seen:
    """By many runs, which leave no doubt."""
    return Seen(GPU_STACK, gpu, 1, quant, machine, math.log(factor), 20)


def test_a_way_that_earlier_runs_found_faster_is_taken_though_another_is_faster_by_itself() -> None:
    """Each way of holding the weights has its own factor. What does not fit besides is not told: the card does the job."""
    catalog, request = make_catalog(QUICK, gpus=CARDS), make_request(model="3b", data=DATA)
    before = ask(request, catalog)
    after = ask(request, catalog, seen=(taught(FAST.name, "none", 1.6), taught(FAST.name, "nf4", 0.6)))
    assert [plan.strategy.quant for plan in (*before.plans, *after.plans)] == ["none", "nf4"]
    assert after.rejections == before.rejections


@pytest.mark.parametrize(("factor", "taken"), [(1.02, "same"), (0.98, "same"), (0.6, "other")])
def test_a_plan_changes_for_what_earlier_runs_taught_only_where_that_saves_a_good_deal(factor: float, taken: str) -> None:
    """Runs differ by as much among themselves: near a tie each new one would lead to another way."""
    catalog, request = make_catalog(QUICK, gpus=CARDS), make_request(model="3b", data=DATA)
    (before,) = ask(request, catalog).plans
    near = before.duration.step_s.p50 / _step_s(request, catalog, quant="nf4")  # so nf4 takes as long as what was taken
    (after,) = ask(request, catalog, seen=(taught(FAST.name, "none", 1.0), taught(FAST.name, "nf4", near * factor))).plans
    assert before.strategy.quant == "none"
    assert after.strategy.quant == ("none" if taken == "same" else "nf4")


def _step_s(request: Request, catalog: Catalog, *, quant: str) -> float:
    held = msgspec.structs.replace(request, training={"quant": quant})
    return ask(held, catalog).plans[0].duration.step_s.p50


def test_a_machine_is_not_passed_over_for_what_slowed_another_way_there() -> None:
    """What a machine takes at least is reckoned with the least that earlier runs there taught."""
    slowed = taught(SLOW.gpu or "", "none", 1.9), taught(SLOW.gpu or "", "nf4", 0.5)
    quick = msgspec.structs.replace(QUICK, usd_per_hour=Decimal(6))
    request = make_request(model="3b", data=LONG, top=1)
    slow_alone, quick_alone, both = (
        ask(request, make_catalog(*offers, gpus=CARDS), seen=slowed).plans for offers in ((SLOW,), (quick,), (SLOW, quick))
    )
    assert slow_alone[0].cost.total_usd.p50 < quick_alone[0].cost.total_usd.p50
    assert [plan.offer.instance_type for plan in both] == ["slow", "quick"]


def test_a_slow_box_does_not_make_all_later_plans_slow() -> None:
    """Its own plan is as slow as its runs were; the same card at another's, and another card there, take what they took."""
    other = msgspec.structs.replace(SLOW, provider="elsewhere", instance_type="other")
    request, catalog = make_request(model="3b", data=DATA, top=3), make_catalog(SLOW, QUICK, other, gpus=CARDS)
    seen = (taught(SLOW.gpu or "", "none", 4.0, machine_of(SLOW.provider, SLOW.instance_type)),)
    before, after = (
        {plan.offer.instance_type: plan.duration.step_s.p50 for plan in ask(request, catalog, seen=each).plans}
        for each in ((), seen)
    )
    slower = {name: after[name] / before[name] for name in before}
    assert slower["slow"] == pytest.approx(4.0, rel=0.02)
    assert max(slower["other"], slower["quick"]) < 1.15


def test_a_price_that_nobody_states_makes_no_machine_cheaper() -> None:
    """It may be as dear as the dearest that is known: by that it is ranked, and held against a limit of money."""
    known = make_billing(disk_usd_per_gib_month=Decimal(300), minimum_disk_gib=100)
    untold = make_billing("elsewhere", disk_usd_per_gib_month=None, minimum_disk_gib=100)
    alike = msgspec.structs.replace(SLOW, provider="elsewhere", local_disk_gib=None)
    dear = msgspec.structs.replace(SLOW, instance_type="dear", usd_per_hour=Decimal("0.51"))
    can_rent = Provider(name="elsewhere", runnable=True, status="tested")
    market = make_catalog(
        msgspec.structs.replace(alike, usd_per_hour=Decimal("0.52")), dear, gpus=CARDS, billing=(known, untold)
    )
    request = make_request(model="3b", data=DATA)
    plans = ask(request, market, providers=(CLOUD, can_rent)).plans
    assert [plan.offer.provider for plan in plans] == ["cloud", "elsewhere"]
    assert plans[1].cost.total_usd.p50 < plans[0].cost.total_usd.p50 < plans[1].cost.held_usd.p50
    assert (plans[0].cost.unknown, plans[1].cost.unknown) == ((), ("disk",))
    limit = Decimal(str(plans[1].cost.total_usd.p90)) + Decimal("0.01")
    limited = ask(make_request(model="3b", data=DATA, budget=Budget(max_usd=limit)), market, providers=(CLOUD, can_rent))
    assert limited.plans == ()


def test_the_goal_decides_what_is_recommended() -> None:
    """And every goal's best is among the plans, whatever is asked for."""
    catalog = make_catalog(SLOW, QUICK, gpus=CARDS)
    wanted: dict[Goal, str] = {"cheapest": "slow", "fastest": "quick"}
    for goal, machine in wanted.items():
        result = ask(make_request(model="3b", data=DATA, top=1, budget=Budget(goal=goal)), catalog)
        assert result.recommended is not None
        assert result.recommended.offer.instance_type == machine
        assert {plan.offer.instance_type for plan in result.plans} == {"slow", "quick"}


def test_a_machine_that_costs_nothing_is_balanced_only_where_it_is_not_slow() -> None:
    """Its hours count for the least that a card is rented for; it stays the cheapest."""
    for card, expected in ((CARDS[0], "quick"), (FAST, "free")):
        free = msgspec.structs.replace(SLOW, instance_type="free", gpu=card.name, usd_per_hour=Decimal(0))
        result = ask(make_request(model="3b", data=LONG), make_catalog(free, CHEAP, gpus=CARDS))
        cheapest, balanced = result.best("cheapest"), result.best("balanced")
        assert cheapest is not None
        assert balanced is not None
        assert (cheapest.offer.instance_type, balanced.offer.instance_type) == ("free", expected)


def test_of_plans_that_take_nearly_as_long_the_fastest_is_the_cheaper_one() -> None:
    """A job of minutes was most of all a machine's start: one at twenty times the price took seconds less."""
    dear = msgspec.structs.replace(SLOW, instance_type="dear", gpu=FAST.name, usd_per_hour=Decimal(40))
    few = msgspec.structs.replace(DATA, num_examples=20)
    result = ask(make_request(model="3b", data=few, budget=Budget(goal="fastest")), make_catalog(SLOW, dear, gpus=CARDS))
    assert result.recommended is not None
    assert result.recommended.offer.instance_type == "slow"
    quick, slow = (next(p for p in result.plans if p.offer.instance_type == name) for name in ("dear", "slow"))
    assert quick.duration.wall_s.p50 < slow.duration.wall_s.p50 < 1.1 * quick.duration.wall_s.p50


def test_the_fastest_keeps_to_the_budget() -> None:
    """Limits come before goals."""
    request = make_request(model="3b", data=DATA, budget=Budget(max_usd=Decimal(2), goal="fastest"))
    result = ask(request, make_catalog(SLOW, QUICK, gpus=CARDS))
    assert {plan.offer.instance_type for plan in result.plans} == {"slow"}


def test_the_cheapest_hour_is_told_with_what_the_job_would_cost_by_it() -> None:
    """A price list alone leads to the slow card."""
    dear = msgspec.structs.replace(QUICK, usd_per_hour=Decimal("0.60"))
    result = ask(make_request(model="3b", data=DATA), make_catalog(SLOW, dear, gpus=CARDS))
    assert result.recommended is not None
    assert result.by_the_hour is not None
    assert (result.recommended.offer.instance_type, result.by_the_hour.offer.instance_type) == ("quick", "slow")


@pytest.mark.parametrize("unknown", ["ram_gib", "vcpus"])
def test_a_machine_whose_ram_or_cores_nobody_states_is_shown_and_never_recommended(unknown: str) -> None:
    """Nor where there is no other: whatever else is sold or allowed, it may be too small. Why, its status says."""
    cheap = msgspec.structs.replace(SLOW, instance_type="untold", usd_per_hour=Decimal("0.10"), **{unknown: None})
    result = ask(make_request(), make_catalog(cheap, SLOW, gpus=CARDS))
    assert result.recommended is not None
    assert result.recommended.offer.instance_type == "slow"
    assert "untold" in [plan.offer.instance_type for plan in result.plans]
    alone = ask(make_request(), make_catalog(cheap, gpus=CARDS))
    assert (alone.recommended, alone.by_the_hour, alone.ways_out) == (None, None, ())
    assert [plan.why_not for plan in alone.plans] == [untold_words({"ram_gib": "RAM", "vcpus": "cores"}[unknown])]


def untold_words(what: str) -> str:
    """Why such a machine can't be rented, and what would help."""
    return (
        f"{what} unknown: nobody states it, and no order at cloud asks for it; state vcpus and ram_gib in a list of your own"
        " (rentune catalog import), or rent it yourself and use --host"
    )


def test_where_the_order_asks_for_ram_nobody_need_state_it() -> None:
    """No machine with less is got, so the cheaper one is recommended as any other."""
    cheap = msgspec.structs.replace(SLOW, instance_type="untold", usd_per_hour=Decimal("0.10"), ram_gib=None, vcpus=None)
    asking = msgspec.structs.replace(CLOUD, asks_ram=True)
    chosen = ask(make_request(), make_catalog(cheap, SLOW, gpus=CARDS), providers=(asking,)).recommended
    assert chosen is not None
    assert (chosen.offer.instance_type, chosen.asks_ram) == ("untold", True)
    told = ask(make_request(), make_catalog(SLOW, gpus=CARDS), providers=(asking,)).recommended
    assert told is not None
    assert not told.asks_ram


def test_of_one_machine_in_two_regions_the_cheaper_hides_none_whose_ram_is_known() -> None:
    """Where only one region's list states it."""
    cheap = msgspec.structs.replace(SLOW, region="south", usd_per_hour=Decimal("0.10"), ram_gib=None)
    chosen = ask(make_request(), make_catalog(cheap, SLOW, gpus=CARDS)).recommended
    assert chosen is not None
    assert chosen.offer.region == SLOW.region


def test_what_an_account_may_rent_comes_before_what_needs_a_quota_first() -> None:
    """Where a cloud has told it. Of a provider the machine or the region that it admits is recommended, though dearer."""
    short = QuotaShort(name="GPUs", where="north", unit="GPUs", have=0.0, need=1.0, asked_on=dt.date(2026, 11, 24))
    cloud = msgspec.structs.replace(CLOUD, short={SLOW.key: short})
    dear = msgspec.structs.replace(SLOW, instance_type="dear", usd_per_hour=Decimal(2))
    elsewhere = msgspec.structs.replace(SLOW, region="south", usd_per_hour=Decimal(1))
    for other in (dear, elsewhere):
        chosen = ask(make_request(top=1), make_catalog(SLOW, other, gpus=CARDS), providers=(cloud,)).recommended
        assert chosen is not None
        assert chosen.offer.key == other.key


def test_of_a_list_of_ones_own_each_seller_has_its_best_row_whatever_is_cheaper() -> None:
    """Who imported it wants to see it, and first what nothing but renting keeps from being run."""
    dear = msgspec.structs.replace(SLOW, provider="cellar", usd_per_hour=Decimal(50), source=OWN_LIST)
    older = msgspec.structs.replace(dear, gpu="V100-SXM2-16GB", instance_type="older", usd_per_hour=Decimal(40))
    cards = (*CARDS, read_catalog().gpus["V100-SXM2-16GB"])
    plans = ask(make_request(top=1), make_catalog(SLOW, dear, older, gpus=cards)).plans
    assert [(plan.offer.provider, plan.offer.gpu) for plan in plans] == [("cloud", SLOW.gpu), ("cellar", dear.gpu)]
    listed = msgspec.structs.replace(dear, source="elsewhere")
    assert [plan.offer.provider for plan in ask(make_request(top=1), make_catalog(SLOW, listed, gpus=CARDS)).plans] == ["cloud"]


def test_where_a_seller_is_named_that_nobody_can_rent_from_the_answer_is_about_its_machine() -> None:
    """And not about the way out to another's; what cannot be trained on its card comes after what can."""
    mine = msgspec.structs.replace(SLOW, provider="cellar", source=OWN_LIST)
    request = make_request(where=Where(providers=("cellar",)))
    result = ask(request, make_catalog(SLOW, mine, gpus=CARDS))
    assert result.recommended is None
    assert [way.plan.offer.provider for way in result.ways_out] == ["cloud"]
    assert result.rented_by_hand is not None
    assert result.rented_by_hand.offer.provider == "cellar"
    assert ask(make_request(), make_catalog(SLOW, mine, gpus=CARDS)).rented_by_hand is None


def test_what_can_be_begun_now_comes_before_what_needs_credentials_first() -> None:
    """At whatever price; where nothing is ready, the price decides."""
    bare = msgspec.structs.replace(SLOW, provider="bare", instance_type="bare", usd_per_hour=Decimal("0.10"))
    both = ask(make_request(), make_catalog(bare, SLOW, gpus=CARDS), providers=(CLOUD, LACKING)).recommended
    one = ask(make_request(), make_catalog(bare, gpus=CARDS), providers=(LACKING,)).recommended
    assert both is not None
    assert one is not None
    assert (both.offer.instance_type, one.offer.instance_type) == ("slow", "bare")


@settings(max_examples=12)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(CARDS),
            st.integers(1, 2),
            st.integers(10, 900),
            st.sampled_from(["cloud", "elsewhere", "bare"]),
            st.sampled_from([64.0, None]),
        ),
        min_size=2,
        max_size=6,
    )
)
def test_each_seller_and_each_card_that_is_named_has_its_best_row(
    machines: list[tuple[Gpu, int, int, str, float | None]],
) -> None:
    """Who names two compares them, however few plans are asked for: the best of each is as when it is asked about alone."""
    offers = [
        make_offer(
            provider=provider,
            instance_type=f"machine-{number}",
            gpu=gpu.name,
            num_gpus=Decimal(num_gpus),
            usd_per_hour=Decimal(cents) / 100,
            ram_gib=ram_gib,
        )
        for number, (gpu, num_gpus, cents, provider, ram_gib) in enumerate(machines)
    ]
    catalog = make_catalog(*offers, gpus=CARDS, billing=(make_billing("bare", increment_s=3_600),))
    providers = (CLOUD, LACKING, ELSEWHERE)

    def rank(plans: Sequence[Plan]) -> tuple[int, float] | None:
        return min(((standing(plan), plan.cost.held_usd.p50) for plan in plans), default=None)

    def standing(plan: Plan) -> int:
        """What can be run before what somebody has to rent himself, that before what can't be run at all."""
        return 0 if plan.obstacle is None else 1 if plan.is_kept_by(PRICE_ONLY) else 2

    def plans(where: Where) -> tuple[Plan, ...]:
        return ask(make_request(model="3b", top=1, data=DATA, where=where), catalog, providers=providers).plans

    sellers = tuple(dict.fromkeys(offer.provider for offer in offers))
    shown = plans(Where(providers=sellers))
    for seller in sellers:
        assert rank([plan for plan in shown if plan.offer.provider == seller]) == rank(plans(Where(providers=(seller,))))
    cards = tuple(dict.fromkeys(str(offer.gpu) for offer in offers))
    shown = plans(Where(gpus=cards))
    for card in cards:
        assert rank([plan for plan in shown if plan.offer.gpu == card]) == rank(plans(Where(gpus=(card,))))


def test_several_gpus_are_worth_less_than_as_many_alone_and_more_over_a_better_link() -> None:
    """One GPU has nobody to be compared with."""
    card = make_gpu("Card 80GB", memory_gib=80.0, driver_memory_mib=81559, nvlink_gb_per_s=900.0, achievable_tflops=776.0)

    def scaling(link: Interconnect, num_gpus: int) -> float | None:
        offer = make_offer(gpu=card.name, num_gpus=Decimal(num_gpus), interconnect=link)
        request = make_request(
            model="7b", data=DATA, where=Where(num_gpus=num_gpus), training={"sharding": "fsdp"} if num_gpus > 1 else {}
        )
        [plan, *_] = ask(request, make_catalog(offer, gpus=(card,))).plans
        return plan.duration.scaling

    by_pcie, by_nvlink = scaling("pcie", 4), scaling("nvlink", 4)
    assert by_pcie is not None
    assert by_nvlink is not None
    assert 0 < by_pcie < by_nvlink <= 1
    assert scaling("nvlink", 1) is None
