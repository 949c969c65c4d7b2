"""Several machines of one kind are rows of the answer where no single one does the job; of one as many GPUs are used as can
share it.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from catalogs.hardware import Billing, Gpu
from planner.asking.data import stated_data
from planner.asking.policy import Rule
from planner.asking.request import Budget, DataAsked, Where
from planner.choice.goals import GOALS, Goal
from planner.plan import Plan, SearchResult
from planner.report import render_result, words
from planner.report.words import why_none
from planner.search import machines
from tests.planner.builders import ask, make_billing, make_catalog, make_gpu, make_offer, make_request

CARD = make_gpu("Card 80GB", memory_gib=80.0, driver_memory_mib=81_000)
DATA = stated_data(num_examples=1_000, num_tokens=None, tokens_per_example=512)
EIGHT: dict[str, Any] = {
    "gpu": CARD.name,
    "num_gpus": Decimal(8),
    "ram_gib": 2_048.0,
    "instance_type": "eight",
    "usd_per_hour": Decimal(20),
}


def asked(
    *offers: dict[str, Any],
    model: str = "70b",
    billing: Billing | None = None,
    rules: tuple[Rule, ...] = (),
    gpus: tuple[Gpu, ...] = (CARD,),
    **request: Any,
) -> SearchResult:
    """Tuning all weights of a base that no eight cards hold, on machines of eight."""
    sold = (make_offer(**each) for each in offers or (EIGHT,))
    catalog = make_catalog(*sold, gpus=gpus, billing=(billing or make_billing(),))
    training = {"method": "full", "offload": "none"} | request.pop("training", {})
    return ask(make_request(**{"model": model, "data": DATA, "training": training} | request), catalog, rules=rules)


def together(result: SearchResult) -> list[Plan]:
    """On several machines, and nothing else is."""
    assert all(plan.strategy.num_nodes == 1 < other.strategy.num_nodes for plan in result.plans for other in result.several)
    return [*result.several]


def test_the_fewest_machines_that_hold_the_job_are_a_row() -> None:
    """With what they need, take and cost, and what so many GPUs reach; that this version rents one machine is said as well."""
    [plan] = asked().several
    assert (plan.strategy.num_nodes, plan.strategy.num_gpus, plan.verdict) == (2, 16, "fits")
    assert words.machine(plan) == "2 x 8 x Card 80GB"
    assert words.offer(plan) == "2 x cloud north eight"
    assert plan.duration.scaling is not None
    assert 0 < plan.duration.scaling < 1
    hours = plan.cost.billed_s.p50 / 3600
    assert plan.cost.compute_usd.p50 == pytest.approx(2 * 20 * hours, rel=1e-3), "both are paid for, all the time"


def test_their_row_is_told_with_its_scaling_below_the_table() -> None:
    result = asked()
    text = render_result(result, command=None, spelled=lambda field, _: field, explain=False, width=100, colour=False)
    assert "2 x 8 x Card 80GB" in text
    assert re.search(r"of so many times one GPU's speed: 2 x 8 x Card 80GB fsdp \d+%", " ".join(text.split()))
    assert "not yet runnable: this version rents one machine" in text


def test_what_they_are_rejected_for_on_one_machine_is_still_told() -> None:
    """In the sentence of a program's error, too."""
    result = asked()
    assert result.plans == ()
    assert why_none(result).startswith("No plan can be run as asked: no single machine on offer does this job: full bf16")


def test_dollars_of_several_machines_sum_to_their_total_and_one_sends_home_what_was_trained() -> None:
    cost = asked(billing=make_billing(egress_usd_per_gb=Decimal("0.1"))).several[0].cost
    lines = (cost.compute_usd, cost.disk_usd, cost.address_usd, cost.egress_usd, cost.rework_usd, cost.setup_usd)
    assert cost.egress_usd.p50 > 0
    assert sum(line.p50 for line in lines) == pytest.approx(cost.total_usd.p50, abs=1e-5)


def test_of_several_kinds_the_three_cheapest_jobs_are_rows_by_their_dollars_and_none_is_recommended() -> None:
    """Each with its time and dollars from where to where, and with the word that says why it can't be run."""
    kinds = [EIGHT | {"num_gpus": Decimal(number), "instance_type": f"of-{number}"} for number in (8, 4, 2)]
    prices = [EIGHT["usd_per_hour"] * each["num_gpus"] / 8 for each in kinds]
    result = asked(*(each | {"usd_per_hour": price} for each, price in zip(kinds, prices, strict=True)))
    rows = together(result)
    assert 2 <= len(rows) <= 3
    dollars = [plan.cost.held_usd for plan in rows]
    assert [each.p50 for each in dollars] == sorted(each.p50 for each in dollars)
    assert all(each.p50 < each.p90 for each in dollars)
    assert all(plan.duration.wall_s.p50 < plan.duration.wall_s.p90 for plan in rows)
    assert {plan.why_not for plan in rows} == {"not yet runnable: this version rents one machine for a run"}
    assert result.recommended is None


def test_nothing_is_told_of_several_where_one_does() -> None:
    assert together(asked(model="7b")) == []


@pytest.mark.parametrize(
    "wish",
    [{"where": Where(num_gpus=8)}, {"budget": Budget(max_usd=Decimal(1))}, {"budget": Budget(max_hours=0.01)}],
    ids=["so many GPUs", "money", "time"],
)
def test_nor_where_a_wish_is_against_it(wish: dict[str, Any]) -> None:
    assert together(asked(**wish)) == []


def test_what_they_would_need_is_told_where_the_money_is_less() -> None:
    """With the limit that brings their row, no cent more."""
    result = asked(budget=Budget(max_usd=Decimal(1)))
    [beyond] = [each for each in result.rejections if each.reason.startswith("over $1 at p90")]
    needed = beyond.changes["budget.max_usd"]
    assert f"the cheapest, 2 x cloud/north/eight/on_demand, needs a limit of ${needed}" in beyond.reason
    assert together(asked(budget=Budget(max_usd=needed)))
    assert not together(asked(budget=Budget(max_usd=needed - Decimal("0.02"))))


def test_more_of_them_are_looked_at_where_the_fewest_take_too_long() -> None:
    [two] = together(asked(model="70b", data=LONG))
    rows = together(asked(model="70b", data=LONG, budget=Budget(max_hours=0.8 * two.duration.wall_s.p90 / 3600)))
    assert [plan.strategy.num_nodes for plan in rows] == [4]


def test_a_rule_on_an_hour_s_price_holds_for_all_of_them_together() -> None:
    """Each of two machines at $20 is allowed, both are not: $40 an hour would be paid."""
    ours = Rule(key="max_usd_per_hour", allows=Decimal(30), said_in="policy.toml", may_be_overruled=True)
    forbidden = asked(rules=(ours,))
    assert together(forbidden) == []
    [said] = [each for each in forbidden.rejections if each.what == "2 x cloud/north/eight/on_demand"]
    assert said.reason == "over $30 an hour (max_usd_per_hour in policy.toml)"
    assert said.remedy == "--overrule-policy max_usd_per_hour"
    assert together(asked(rules=(msgspec.structs.replace(ours, allows=Decimal(40)),)))


@pytest.mark.parametrize(
    "change", [{"purchase": "spot"}, {"ram_gib": None}, {"ram_gib": 64.0}], ids=["spot", "untold", "little"]
)
def test_nor_of_machines_that_may_not_be_there_at_once_or_may_not_hold_the_base(change: dict[str, Any]) -> None:
    """Of the same machines at two sellers the cheapest that surely does is taken."""
    assert together(asked(EIGHT | change)) == []
    cheap, dear = EIGHT | change | {"instance_type": "cheap"}, EIGHT | {"usd_per_hour": Decimal(25)}
    assert [words.offer(plan) for plan in together(asked(cheap, dear))] == ["2 x cloud north eight"]


@pytest.mark.parametrize(("disk_gib", "told"), [(2_000.0, 0), (5_000.0, 1)])
def test_nor_of_machines_whose_disk_is_too_small(disk_gib: float, told: int) -> None:
    """A machine that comes with its disk has no more of it: what it trains from and writes has to lie there."""
    result = asked(EIGHT | {"local_disk_gib": disk_gib}, billing=make_billing(disk_usd_per_gib_month=None))
    assert len(together(result)) == told


@pytest.mark.parametrize(("sequences", "used"), [(16, 8), (8, 8), (4, 4), (2, 2), (12, 4), (3, 1)])
def test_as_many_gpus_as_a_step_s_sequences_can_be_spread_over(sequences: int, used: int) -> None:
    """Half of a machine's GPUs, or a fourth, where not all can have as many."""
    result = asked(model="3b", training={"method": "lora"}, global_batch_size=sequences)
    assert max(plan.strategy.num_gpus for plan in result.plans) == used


LONG = stated_data(num_examples=200_000, num_tokens=None, tokens_per_example=512)  # each step spreads over all of them
KINDS = tuple(EIGHT | {"num_gpus": Decimal(number), "instance_type": f"of-{number}"} for number in (1, 2, 4, 8))


def spread(*offers: dict[str, Any], goal: Goal, data: DataAsked, max_usd: Decimal | None = None, **other: Any) -> SearchResult:
    """A job that one machine does, and several may do together."""
    training, budget = {"method": "lora"}, Budget(goal=goal, max_usd=max_usd)
    return asked(*offers, model="3b", data=data, training=training, global_batch_size=64, budget=budget, **other)


@pytest.mark.parametrize("goal", GOALS)
def test_where_one_machine_does_the_job_only_who_wants_it_fast_hears_of_several(goal: Goal) -> None:
    """They are never recommended, and each takes a good deal less time than one machine."""
    result = spread(*KINDS, goal=goal, data=LONG)
    alone = result.plans
    assert alone
    assert result.recommended in alone
    rows = together(result)
    assert bool(rows) == (goal == "fastest")
    assert [*result.rows] == sorted((*alone, *rows), key=lambda plan: plan.cost.held_usd.p50), "by dollars among the others"
    alone_s = min(plan.duration.wall_s.p50 for plan in alone)
    assert all(plan.duration.wall_s.p50 <= machines.PAYS_OFF * alone_s for plan in rows)


def test_nor_does_he_where_they_would_not_pay_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines hold a short job too, and spend most of it on what one does as quickly."""
    short = stated_data(num_examples=100, num_tokens=None, tokens_per_example=512)
    assert together(spread(EIGHT, goal="fastest", data=short)) == []
    monkeypatch.setattr(machines, "PAYS_OFF", math.inf)
    assert [plan.strategy.num_nodes for plan in together(spread(EIGHT, goal="fastest", data=short))] == [2]


def test_who_may_spend_more_keeps_sight_of_the_cheapest_several_machines() -> None:
    """Three cards are a little quicker alone, and dear: of several machines the cheap ones stay the cheapest, and pay off."""
    quick = tuple(msgspec.structs.replace(CARD, name=f"Quick {number}", achievable_tflops=105.0) for number in range(3))
    four = EIGHT | {"num_gpus": Decimal(4)}
    dear = (four | {"gpu": gpu.name, "instance_type": gpu.name, "usd_per_hour": Decimal(90)} for gpu in quick)
    sold, gpus = (four, *dear), (CARD, *quick)
    pays = max(plan.cost.held_usd.p90 for plan in together(spread(four, goal="fastest", data=LONG)))
    few = spread(*sold, goal="fastest", data=LONG, gpus=gpus, max_usd=Decimal(math.ceil(pays)))
    many = spread(*sold, goal="fastest", data=LONG, gpus=gpus)
    assert {plan.offer.gpu for plan in few.rows} == {CARD.name}
    cheapest = [min(together(result), key=lambda plan: plan.cost.held_usd.p50) for result in (few, many)]
    assert cheapest[0].name == cheapest[1].name, "with more money the cheapest is still there"


def test_who_wants_it_fast_hears_of_several_machines_that_are_faster() -> None:
    """A long job, of which each step's sequences spread over all of them."""
    assert [plan.strategy.num_nodes for plan in together(spread(EIGHT, goal="fastest", data=LONG))] == [2]


@pytest.mark.parametrize(("num_gpus", "num_nodes", "grown"), [(8, 1, 8), (4, 4, 16)])
def test_a_step_takes_as_many_sequences_as_the_row_s_choices_say(num_gpus: int, num_nodes: int, grown: int) -> None:
    """The few that the planner takes of few rows grow to one on each GPU, and that is said; what a person said stays."""
    few = stated_data(num_examples=40, num_tokens=None, tokens_per_example=512)
    machine = EIGHT | {"num_gpus": Decimal(num_gpus)}
    [plan] = asked(machine, data=few).rows
    strategy = plan.strategy
    sequences = strategy.micro_batch_size * strategy.gradient_accumulation_steps * strategy.num_gpus
    [batch] = [choice for choice in plan.choices if choice.key == "global_batch_size"]
    assert (strategy.num_nodes, batch.value, sequences) == (num_nodes, grown, grown)
    assert batch.reason == f"what comes out in 1 x 1 on {grown} GPUs, of 4"
    assert together(asked(machine, data=few, global_batch_size=4)) == []


def test_the_network_that_is_assumed_between_them_is_said() -> None:
    [plan] = asked().rows
    assert any(said.startswith("network between the machines: 10 Gb/s (2.5 to 100), assumed") for said in plan.assumptions)
