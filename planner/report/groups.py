"""Plans by what can be done with them: what fits, is tight, may not suffice, cannot be run yet, is a price alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from planner.plan import NOT_YET, PRICE_ONLY, UNTOLD, YOURS, ObstacleKind, Plan

NOT_KNOWN: Final = "not known to suffice"  # nobody states the machine's RAM or cores
ORDER: Final = (YOURS, "fits", "tight", NOT_KNOWN, NOT_YET, PRICE_ONLY)
WORDS: Final[dict[ObstacleKind, str]] = {YOURS: YOURS, UNTOLD: NOT_KNOWN, NOT_YET: NOT_YET, PRICE_ONLY: PRICE_ONLY}


def grouped(plans: Iterable[Plan]) -> dict[str, list[Plan]]:
    """By the word of the group, in this order; within a group as they come, the cheapest job first. No group is empty."""
    groups: dict[str, list[Plan]] = {word: [] for word in ORDER}
    for plan in plans:
        groups[_word(plan)].append(plan)
    return {word: members for word, members in groups.items() if members}


def in_order(plans: Iterable[Plan]) -> list[Plan]:
    """As the table numbers them."""
    return [plan for members in grouped(plans).values() for plan in members]


def _word(plan: Plan) -> str:
    if plan.obstacle is None:
        return "tight" if plan.verdict == "tight" else "fits"
    return WORDS[plan.obstacle.kind]
