"""Several machines of one kind are named where no single one does the job; of one as many GPUs are used as can share it."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

import pytest

from catalogs.hardware import Billing
from planner.asking.data import stated_data
from planner.asking.request import Budget, DataAsked, Where
from planner.choice.goals import GOALS, Goal
from planner.plan import SearchResult
from planner.search.told import machines
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


def asked(*offers: dict[str, Any], model: str = "70b", billing: Billing | None = None, **request: Any) -> SearchResult:
    """Tuning all weights of a base that no eight cards hold, on machines of eight."""
    sold = (make_offer(**each) for each in offers or (EIGHT,))
    catalog = make_catalog(*sold, gpus=(CARD,), billing=(billing or make_billing(),))
    training = {"method": "full", "offload": "none"} | request.pop("training", {})
    return ask(make_request(**{"model": model, "data": DATA, "training": training} | request), catalog)


def together(result: SearchResult) -> list[dict[str, Any]]:
    """What is told of several machines."""
    return [each.needed for each in result.rejections if "num_machines" in each.needed]


def test_the_fewest_machines_that_hold_the_job_are_named_first() -> None:
    """With what they need, take and cost; that this version rents one is said as well."""
    result = asked()
    assert result.plans == ()
    first = result.rejections[0]
    assert first.what == "2 x cloud eight together (8 x Card 80GB each)"
    assert first.reason.startswith("would do it (full bf16, batch 1x1, 16 GPUs fsdp")
    assert first.reason.endswith("this version rents one machine")
    assert re.search(r"at \d+% of 16 times one GPU's speed", first.reason)
    [figures] = together(result)
    assert figures["num_machines"] == 2
    assert 0 < figures["scaling"] < 1
    assert figures["p50_usd"] > 2 * 20 * figures["p50_hours"] * 0.8, "both are paid for, all the time"


def test_of_several_kinds_the_three_cheapest_jobs_are_told_the_cheapest_first() -> None:
    """Each with its time and dollars from where to where, and with the word that says why it is no plan."""
    kinds = [EIGHT | {"num_gpus": Decimal(number), "instance_type": f"of-{number}"} for number in (8, 4, 2)]
    prices = [EIGHT["usd_per_hour"] * each["num_gpus"] / 8 for each in kinds]
    result = asked(*(each | {"usd_per_hour": price} for each, price in zip(kinds, prices, strict=True)))
    told = together(result)
    assert 2 <= len(told) <= 3
    assert [each["p50_usd"] for each in told] == sorted(each["p50_usd"] for each in told)
    assert all(each["p50_usd"] < each["p90_usd"] and each["p50_hours"] < each["p90_hours"] for each in told)
    reasons = [each.reason for each in result.rejections if "num_machines" in each.needed]
    assert all("; not yet runnable: this version rents one machine" in reason for reason in reasons)


def test_nothing_is_told_of_several_where_one_does() -> None:
    assert together(asked(model="7b")) == []


@pytest.mark.parametrize(
    "wish",
    [{"where": Where(num_gpus=8)}, {"budget": Budget(max_usd=Decimal(1))}, {"budget": Budget(max_hours=0.01)}],
    ids=["so many GPUs", "money", "time"],
)
def test_nor_where_a_wish_is_against_it(wish: dict[str, Any]) -> None:
    assert together(asked(**wish)) == []


@pytest.mark.parametrize(
    "change", [{"purchase": "spot"}, {"ram_gib": None}, {"ram_gib": 64.0}], ids=["spot", "untold", "little"]
)
def test_nor_of_machines_that_may_not_be_there_at_once_or_may_not_hold_the_base(change: dict[str, Any]) -> None:
    """Of the same machines at two sellers the cheapest that surely does is taken."""
    assert together(asked(EIGHT | change)) == []
    cheap, dear = EIGHT | change | {"instance_type": "cheap"}, EIGHT | {"usd_per_hour": Decimal(25)}
    assert "2 x cloud eight together" in asked(cheap, dear).rejections[0].what


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


def spread(*offers: dict[str, Any], goal: Goal, data: DataAsked) -> SearchResult:
    """A job that one machine does, and several may do together."""
    training = {"method": "lora"}
    return asked(*offers, model="3b", data=data, training=training, global_batch_size=64, budget=Budget(goal=goal))


@pytest.mark.parametrize("goal", GOALS)
def test_where_one_machine_does_the_job_only_who_wants_it_fast_hears_of_several(goal: Goal) -> None:
    """They are never recommended. The quickest come first, and each takes a good deal less time than one machine."""
    result = spread(*KINDS, goal=goal, data=LONG)
    assert result.plans
    assert all(plan.strategy.num_nodes == 1 for plan in result.plans)
    hours = [each["p50_hours"] for each in together(result)]
    assert bool(hours) == (goal == "fastest")
    assert hours == sorted(hours)
    alone_hours = min(plan.duration.wall_s.p50 for plan in result.plans) / 3600
    assert all(each <= machines.PAYS_OFF * alone_hours for each in hours)


def test_nor_does_he_where_they_would_not_pay_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines hold a short job too, and spend most of it on what one does as quickly."""
    short = stated_data(num_examples=100, num_tokens=None, tokens_per_example=512)
    assert together(spread(EIGHT, goal="fastest", data=short)) == []
    monkeypatch.setattr(machines, "PAYS_OFF", math.inf)
    assert [each["num_machines"] for each in together(spread(EIGHT, goal="fastest", data=short))] == [2]


def test_who_wants_it_fast_hears_of_several_machines_that_are_faster() -> None:
    """A long job, of which each step's sequences spread over all of them."""
    assert [each["num_machines"] for each in together(spread(EIGHT, goal="fastest", data=LONG))] == [2]
