"""What may be rented instead, where the offer that was agreed to can't be had: the search's other plans, in every region."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Final

import msgspec

from catalogs.hardware import Offer
from planner.asking.policy import Rule, in_force, matches, refusal
from planner.asking.request import OWN_MACHINES
from planner.plan import CostEstimate, Plan, Range

MOST: Final = 20  # assumed: more than will be tried, whatever they are refused for


def alternatives_of(plan: Plan, found: Iterable[Plan], offers: Iterable[Offer], rules: Iterable[Rule]) -> tuple[Plan, ...]:
    """The same job elsewhere, cheapest first: the other plans that can be run, and each on equal machines in other regions.

    `found`: what the search has ranked; of equal machines it names the cheapest only. Nothing stands in for a machine of
    one's own; what is tight only for what is tight, and a machine of untold RAM, of which the order asks for none, only
    for another.
    """
    if plan.offer.provider in OWN_MACHINES:
        return ()
    market, kept = tuple(offers), in_force(rules, plan.request.overruled)
    fitting = [each for each in (plan, *found) if _can_take_its_place(each, plan)]
    every = [elsewhere for each in fitting for elsewhere in (each, *_in_other_regions(each, market))]
    allowed = [each for each in every if all(refusal(rule, each.offer) is None for rule in kept)]
    by_key = {each.offer.key: each for each in reversed(allowed) if each.offer.key != plan.offer.key}
    return tuple(sorted(by_key.values(), key=lambda each: (each.cost.held_usd.p50, each.offer.key))[:MOST])


def _can_take_its_place(each: Plan, plan: Plan) -> bool:
    ready = each.runnable is None and each.ready
    no_less_known = each.offer.is_stated or each.asks_ram or not plan.offer.is_stated
    return ready and no_less_known and each.offer.provider not in OWN_MACHINES and each.verdict in ("fits", plan.verdict)


def _in_other_regions(plan: Plan, market: Iterable[Offer]) -> Iterator[Plan]:
    ours, regions = plan.offer, plan.request.where.regions
    for offer in market:
        same = (offer.provider, offer.instance_type, offer.purchase) == (ours.provider, ours.instance_type, ours.purchase)
        told = offer.is_stated or plan.asks_ram or not ours.is_stated
        if same and told and offer.key != ours.key and (not regions or matches(offer.region, regions)):
            yield msgspec.structs.replace(
                plan, offer=offer, cost=_at_price(plan, offer.usd_per_hour), catalog_as_of=offer.observed_on
            )


def _at_price(plan: Plan, usd_per_hour: Decimal) -> CostEstimate:
    """The same hours at another price: only what the machine itself costs by the hour changes."""
    cost = plan.cost
    factor = float(usd_per_hour / plan.offer.usd_per_hour)
    compute, rework = _times(cost.compute_usd, factor), _times(cost.rework_usd, factor)
    total = _sum(cost.setup_usd, compute, rework, cost.disk_usd, cost.egress_usd)
    per_token = cost.usd_per_million_tokens * (total.p50 / cost.total_usd.p50 if cost.total_usd.p50 else 1.0)
    return msgspec.structs.replace(
        cost, compute_usd=compute, rework_usd=rework, total_usd=total, usd_per_million_tokens=per_token
    )


def _times(dollars: Range, factor: float) -> Range:
    return Range(p10=dollars.p10 * factor, p50=dollars.p50 * factor, p90=dollars.p90 * factor)


def _sum(*lines: Range) -> Range:
    return Range(p10=sum(line.p10 for line in lines), p50=sum(line.p50 for line in lines), p90=sum(line.p90 for line in lines))
