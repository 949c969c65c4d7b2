"""The best plan for each goal: branch and bound over kinds again, by what the goal counts instead of by dollars."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from catalogs.hardware import Offer
from planner.choice.goals import CHEAPEST, MEASURES, Goal
from planner.plan import Doubts, Rank, rank_of
from planner.search.floors import Floor, Floors
from planner.search.market.offers import Kind
from planner.search.ranking import Found, Measure, Name, Question, doable_floor, on_kind
from planner.search.told.notebook import Notebook

Aim = Callable[[float, float, float], float]  # dollars and seconds of the job, dollars of an hour -> what is to be least


def _aim(goal: Goal) -> Aim:
    return lambda usd, seconds, _usd_per_hour: MEASURES[goal](usd, seconds)


AIMS: Final[Mapping[Goal, Aim]] = {goal: _aim(goal) for goal in MEASURES}


def by_the_hour(_usd: float, _seconds: float, usd_per_hour: float) -> float:
    """What somebody goes by who looks at a price list alone."""
    return usd_per_hour


def rank_by(found: Found, aim: Aim) -> Rank:
    """By what plans that can be run are compared, the lowest first."""
    usd_per_hour = float(found.offer.usd_per_hour)
    return rank_of(found.doubts, aim(found.cost.held_usd.p50, found.duration.wall_s.p50, usd_per_hour))


class Best(NamedTuple):
    """What was found, if anything was, and all that was told in dollars on the way, by name."""

    found: Found | None
    priced: frozenset[Name]


def best(question: Question, kinds: tuple[Kind, ...], floors: Floors, aim: Aim = AIMS[CHEAPEST]) -> Best:
    """Of the plans that this version can run the one with the fewest doubts and, of those, the least of what `aim` counts."""

    def rank_at_best(floor: Floor, offer: Offer) -> Rank:
        surely = Doubts(not question.provider(offer.provider).ready(offer), tight=False)
        return rank_of(surely, aim(floor.usd(offer), floor.wall_s, float(offer.usd_per_hour)))

    found, least, priced = None, None, set[Name]()
    reach = [(kind, doable_floor(kind, question, floors), offers) for kind in kinds if (offers := _rentable(kind, question))]
    for kind, floor, offers in sorted(reach, key=lambda each: min(rank_at_best(each[1], offer) for offer in each[2])):
        wanted = [offer for offer in offers if least is None or rank_at_best(floor, offer) <= least]
        for each, over in on_kind(kind, wanted, question, floors.figures, Notebook(), measure=_measured(aim), only_doable=True):
            priced.add(each.name)
            rank = rank_by(each, aim)
            is_one = each.obstacle is None and over is None
            if is_one and (least is None or found is None or (rank, each.order) < (least, found.order)):
                found, least = each, rank
    return Best(found, frozenset(priced))


def _measured(aim: Aim) -> Measure:
    """By what ways to train on one machine are told apart: an hour there costs the same by each."""
    return MEASURES[CHEAPEST] if aim is by_the_hour else lambda usd, seconds: aim(usd, seconds, 0.0)


def _rentable(kind: Kind, question: Question) -> list[Offer]:
    sellers = ((offer, question.provider(offer.provider)) for offer in kind.offers)
    return [offer for offer, seller in sellers if seller.runnable and seller.is_told(offer)]
