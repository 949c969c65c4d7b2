"""Which of the plans is best for which goal, and what a price list alone would have led to, in two sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from planner.choice.goals import GOALS, MEASURES, Goal
from planner.plan import Plan, SearchResult
from planner.report import words
from planner.report.groups import in_order

DEARER: Final = 1.05  # assumed: below it nobody would call the other one dearer


def goal_lines(result: SearchResult) -> Iterator[str]:
    """Nothing where no plan can be run; of a price list that it leads to the same, where it does."""
    best = {goal: plan for goal in GOALS if (plan := result.best(goal)) is not None}
    if best:
        yield f"Best of what can be run: {', '.join(_picks(result, best))}.{_another(result, best)}"
    if (passed := _passed(result)) is not None:
        yield passed
    cheapest, hourly = best.get("cheapest"), result.by_the_hour
    if cheapest is not None and hourly is not None and hourly.offer.usd_per_hour:
        yield _hourly(hourly, cheapest)


def _picks(result: SearchResult, best: dict[Goal, Plan]) -> Iterator[str]:
    """Each of these rows with all that it is the best for."""
    for number, plan in enumerate(in_order(result.rows), start=1):
        if goals := [goal for goal, each in best.items() if each is plan]:
            *others, last = goals
            named = f"{', '.join(others)} and {last}" if others else last
            yield f"{named} {number} ({_figures(plan)})"


def _figures(plan: Plan) -> str:
    return f"{words.total_at_p50(plan)}, {words.span(plan.duration.wall_s.p50)}"


def _another(result: SearchResult, best: dict[Goal, Plan]) -> str:
    """The option that makes another of them the recommended one."""
    other = next((goal for goal, plan in best.items() if plan is not result.recommended), None)
    return f" --goal {other} recommends that one." if other is not None else ""


LESS: Final[dict[Goal, str]] = {"cheapest": "Cheaper", "fastest": "Faster", "balanced": "Better in dollars and hours together"}


def _passed(result: SearchResult) -> str | None:
    """Which rows would be better by the goal, and what speaks against them; None where nothing is."""
    plan, goal = result.recommended, result.request.budget.goal
    if plan is None:
        return None

    def figure(each: Plan) -> float:
        return MEASURES[goal](each.cost.held_usd.p50, each.duration.wall_s.p50)

    against: dict[str, list[str]] = {}
    for number, each in enumerate(in_order(result.rows), start=1):
        if (each.obstacle is None or words.is_untold(each)) and figure(each) < figure(plan):
            against.setdefault(words.doubt(each, plan), []).append(str(number))
    told = "; ".join(f"{', '.join(numbers)} ({why})" for why, numbers in against.items())
    return f"{LESS[goal]}, and not recommended: {told}." if against else None


def _hourly(hourly: Plan, cheapest: Plan) -> str:
    """What the cheapest hour makes of the job, beside the cheapest job."""
    price = f"{words.usd(float(hourly.offer.usd_per_hour))} at {words.offer(hourly)}"
    if hourly.name == cheapest.name:
        return f"Going by the cheapest hour, {price}, leads to the same plan."
    ratio = hourly.cost.held_usd.p50 / cheapest.cost.held_usd.p50 if cheapest.cost.held_usd.p50 else 1.0
    dearer = f": {ratio:.1f} times as much" if ratio >= DEARER else ""
    cost = f"cost {words.total_at_p50(hourly)}" if hourly.cost.held_usd.p50 else "be free"
    return (
        f"Going by the cheapest hour, {price}, the job would {cost} and take {words.span(hourly.duration.wall_s.p50)}{dearer}."
    )
