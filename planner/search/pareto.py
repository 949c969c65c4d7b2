"""The plans that no other beats in dollars, in hours and in risk at once. Loaded only where they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from catalogs.catalog import STALE_AFTER_DAYS
from planner.asking.request import OWN_MACHINES
from planner.plan import Plan

# what may go wrong with a plan -> whether it may with this one
RISKS: Final[Mapping[str, Callable[[Plan], bool]]] = {
    "spot": lambda plan: plan.offer.purchase == "spot",
    "memory is tight": lambda plan: plan.verdict == "tight",
    "RAM or cores unknown": lambda plan: not plan.offer.is_stated and not plan.asks_ram,
    "price stale or undated": lambda plan: plan.offer.provider not in OWN_MACHINES and _is_stale(plan),
}


def _is_stale(plan: Plan) -> bool:
    return plan.catalog_as_of is None or (plan.planned_on - plan.catalog_as_of).days > STALE_AFTER_DAYS


def risks(plan: Plan) -> frozenset[str]:
    """What may go wrong, by its words."""
    return frozenset(name for name, holds in RISKS.items() if holds(plan))


def pareto(plans: Iterable[Plan]) -> tuple[Plan, ...]:
    """Those that can be run (of all, where none can) and that no other of them beats: as cheap, as fast (both p50) and with no
    risk that they have not, and better in one of these. Cheapest first.
    """
    plans = tuple(plans)
    asked = tuple(plan for plan in plans if plan.obstacle is None) or plans
    figures = [(plan, plan.cost.held_usd.p50, plan.duration.wall_s.p50, risks(plan)) for plan in asked]
    left = [
        plan
        for plan, usd, wall_s, dangers in figures
        if not any(
            other[1] <= usd and other[2] <= wall_s and other[3] <= dangers and other[1:] != (usd, wall_s, dangers)
            for other in figures
        )
    ]
    return tuple(sorted(left, key=lambda plan: (plan.cost.held_usd.p50, plan.duration.wall_s.p50)))
