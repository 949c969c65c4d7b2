"""What may be rented instead, where the offer that was agreed to can't be had: the search's other plans, in every region."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Final

import msgspec

from catalogs.hardware import Billing, Offer
from planner.asking.policy import Rule, in_force, matches, refusal
from planner.asking.request import OWN_MACHINES
from planner.estimators.cost import disk_gib, disks_usd_per_s, volume_gib
from planner.plan import CostEstimate, Plan, Range

MOST: Final = 20  # assumed: more than will be tried, whatever they are refused for


def alternatives_of(
    plan: Plan,
    found: Iterable[Plan],
    offers: Iterable[Offer],
    rules: Iterable[Rule],
    *,
    billed: Callable[[Offer], Billing],
) -> tuple[Plan, ...]:
    """The same job elsewhere, cheapest first: the other plans that can be run, and each on equal machines in other regions.

    `billed`: how a machine is at its place. `found`: what the search has ranked; of equal machines it names the cheapest
    only. Nothing stands in for a machine of one's own; what is tight only for what is tight, and a machine of untold RAM, of
    which the order asks for none, only for another.
    """
    if plan.offer.provider in OWN_MACHINES:
        return ()
    market, kept = tuple(offers), in_force(rules, plan.request.overruled)
    fitting = [each for each in (plan, *found) if _can_take_its_place(each, plan)]
    every = [elsewhere for each in fitting for elsewhere in (each, *_in_other_regions(each, market, billed))]
    allowed = [each for each in every if all(refusal(rule, each.offer) is None for rule in kept)]
    by_key = {each.offer.key: each for each in reversed(allowed) if each.offer.key != plan.offer.key}
    return tuple(sorted(by_key.values(), key=lambda each: (each.cost.held_usd.p50, each.offer.key))[:MOST])


def _can_take_its_place(each: Plan, plan: Plan) -> bool:
    ready = each.why_not is None and each.ready
    no_less_known = each.offer.is_stated or each.asks_ram or not plan.offer.is_stated
    return ready and no_less_known and each.offer.provider not in OWN_MACHINES and each.verdict in ("fits", plan.verdict)


def _in_other_regions(plan: Plan, market: Iterable[Offer], billed: Callable[[Offer], Billing]) -> Iterator[Plan]:
    ours, regions = plan.offer, plan.request.where.regions
    for offer in market:
        same = (offer.provider, offer.instance_type, offer.purchase) == (ours.provider, ours.instance_type, ours.purchase)
        told = offer.is_stated or plan.asks_ram or not ours.is_stated
        if same and told and offer.key != ours.key and (not regions or matches(offer.region, regions)):
            billing = billed(offer)
            cost = _at_price(plan, offer.usd_per_hour, billing)
            yield msgspec.structs.replace(plan, offer=offer, billing=billing, cost=cost, catalog_as_of=offer.observed_on)


def _at_price(plan: Plan, usd_per_hour: Decimal, billing: Billing) -> CostEstimate:
    """The same hours at another price: what the machine costs by the hour changes, and its disk where regions differ in it."""
    cost = plan.cost
    disk = cost.disk_usd if billing == plan.billing else _times(cost.billed_s, float(_disks_usd_per_s(plan, billing)))
    factor = float(usd_per_hour / plan.offer.usd_per_hour)
    compute, rework = _times(cost.compute_usd, factor), _times(cost.rework_usd, factor)
    total = _sum(cost.setup_usd, compute, rework, disk, cost.address_usd, cost.egress_usd)
    per_token = cost.usd_per_million_tokens * (total.p50 / cost.total_usd.p50 if cost.total_usd.p50 else 1.0)
    return msgspec.structs.replace(
        cost, compute_usd=compute, rework_usd=rework, disk_usd=disk, total_usd=total, usd_per_million_tokens=per_token
    )


def _disks_usd_per_s(plan: Plan, billing: Billing) -> Decimal:
    kept_gib = volume_gib(plan.host) if plan.request.keep.volume_name is not None else 0
    return disks_usd_per_s(disk_gib(plan.host, billing), kept_gib, billing)


def _times(dollars: Range, factor: float) -> Range:
    return Range(p10=dollars.p10 * factor, p50=dollars.p50 * factor, p90=dollars.p90 * factor)


def _sum(*lines: Range) -> Range:
    return Range(p10=sum(line.p10 for line in lines), p50=sum(line.p50 for line in lines), p90=sum(line.p90 for line in lines))
