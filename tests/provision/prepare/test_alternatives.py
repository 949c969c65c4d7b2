"""What may take the place of an offer that can't be had: chosen before anything is rented."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from catalogs.hardware import Offer
from planner.asking.policy import Rule
from planner.asking.request import Where
from planner.plan import Plan
from provision.prepare.alternatives import alternatives_of
from tests.provision.plans import exactly, tiny_plan


def plan_at(region: str, usd_per_hour: str = "3.60", *, purchase: str = "on_demand", **changes: Any) -> Plan:
    """A cloud's plan: an hour of compute, ten cents of disk and five of egress."""
    plan = tiny_plan(Path("/model"), Path("/data"))
    offer = msgspec.structs.replace(
        plan.offer,
        provider="cloud",
        region=region,
        instance_type="big",
        purchase=purchase,
        usd_per_hour=Decimal(usd_per_hour),
        hosts="data centre",
    )
    dollars = float(usd_per_hour)
    cost = msgspec.structs.replace(
        plan.cost,
        compute_usd=exactly(dollars),
        disk_usd=exactly(0.10),
        egress_usd=exactly(0.05),
        total_usd=exactly(dollars + 0.15),
    )
    return msgspec.structs.replace(plan, **({"offer": offer, "cost": cost} | changes))


FIRST = plan_at("east")


def taking_its_place(
    plan: Plan, found: tuple[Plan, ...] | list[Plan], market: Iterable[Offer], rules: tuple[Rule, ...]
) -> tuple[Plan, ...]:
    """All billed alike, wherever they are."""
    return alternatives_of(plan, found, market, rules, billed=lambda _: FIRST.billing)


def keys(plans: tuple[Plan, ...]) -> list[str]:
    return [plan.offer.key for plan in plans]


def test_the_same_machine_elsewhere_comes_at_its_own_price() -> None:
    """Compute by the price, disk and egress as before; cheapest job first."""
    market = [plan_at(region, usd).offer for region, usd in (("east", "3.60"), ("west", "4.00"), ("north", "3.80"))]
    found = taking_its_place(FIRST, (), market, ())
    assert keys(found) == ["cloud/north/big/on_demand", "cloud/west/big/on_demand"]
    assert [plan.cost.total_usd.p90 for plan in found] == pytest.approx([3.95, 4.15])
    assert found[0].duration == FIRST.duration


def test_the_same_machine_elsewhere_has_the_disk_of_its_region() -> None:
    """Its price is frozen in the plan, and with it in the ledger; the rest of the rule is its provider's."""
    dearer = msgspec.structs.replace(FIRST.billing, disk_usd_per_gib_month=Decimal(730), minimum_disk_gib=100)
    cost = msgspec.structs.replace(FIRST.cost, billed_s=exactly(3600.0))
    first = msgspec.structs.replace(FIRST, cost=cost)
    [found] = alternatives_of(first, (), [plan_at("west").offer], (), billed=lambda _: dearer)
    assert found.billing == dearer
    assert found.cost.disk_usd.p50 == pytest.approx(100.0)
    assert found.cost.total_usd.p50 == pytest.approx(3.60 + 100.0 + 0.05)


def test_what_the_search_ranked_beside_it_is_one_too() -> None:
    """Where it can be run and is ready here; what is tight only for what is tight."""
    spot = plan_at("east", "1.20", purchase="spot")
    unfit = [
        plan_at("a", verdict="tight"),
        plan_at("b", why_not="not by this version"),
        plan_at("c", missing=("SDK",)),
    ]
    assert keys(taking_its_place(FIRST, (spot, *unfit), (), ())) == ["cloud/east/big/spot"]
    tight = plan_at("east", verdict="tight")
    assert keys(taking_its_place(tight, unfit[:1], (), ())) == ["cloud/a/big/on_demand"]


def test_a_machine_of_untold_ram_takes_no_place_of_one_whose_ram_is_known() -> None:
    """It may have too little; for another of untold RAM it may stand in."""
    untold = plan_at("a", offer=msgspec.structs.replace(plan_at("a").offer, ram_gib=None))
    assert FIRST.offer.is_stated
    assert taking_its_place(FIRST, (untold,), (), ()) == ()
    other = plan_at("b", offer=msgspec.structs.replace(plan_at("b").offer, ram_gib=None))
    assert keys(taking_its_place(untold, (other,), (), ())) == ["cloud/b/big/on_demand"]
    elsewhere = msgspec.structs.replace(plan_at("c").offer, ram_gib=None)
    assert taking_its_place(FIRST, (), [elsewhere], ()) == ()


def test_a_machine_whose_order_asks_for_its_ram_takes_the_place_of_any() -> None:
    """In every region: there is none with less."""
    offer = msgspec.structs.replace(plan_at("a").offer, ram_gib=None)
    asked = plan_at("a", offer=offer, asks_ram=True)
    market = [msgspec.structs.replace(offer, region="b")]
    assert keys(taking_its_place(FIRST, (asked,), market, ())) == ["cloud/a/big/on_demand", "cloud/b/big/on_demand"]


def test_the_wish_for_a_region_and_the_policy_hold_for_them_as_well() -> None:
    """What the first plan may not be, none that takes its place may be."""
    market = [plan_at(region).offer for region in ("eu-north", "eu-south", "us-west")]
    asked = msgspec.structs.replace(FIRST, request=msgspec.structs.replace(FIRST.request, where=Where(regions=("eu-*",))))
    rule = Rule(key="regions", allows=("*-north", "*-west"), said_in="policy.toml", may_be_overruled=False)
    assert keys(taking_its_place(asked, (), market, (rule,))) == ["cloud/eu-north/big/on_demand"]


def test_nothing_takes_the_place_of_a_machine_of_ones_own() -> None:
    """Whoever wants to train at home does not want to pay elsewhere."""
    own = tiny_plan(Path("/model"), Path("/data"))
    assert taking_its_place(own, (FIRST,), [FIRST.offer], ()) == ()
