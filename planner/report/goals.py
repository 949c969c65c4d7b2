"""Which of the plans is best for which goal, and what a price list alone would have led to, in two sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from planner.choice.goals import GOALS, Goal
from planner.plan import Plan, SearchResult
from planner.report import words
from planner.report.groups import in_order

DEARER: Final = 1.05  # assumed: below it nobody would call the other one dearer


def goal_lines(result: SearchResult) -> Iterator[str]:
    """Nothing where no plan can be run, and nothing of a price list where it leads to the same."""
    best = {goal: plan for goal in GOALS if (plan := result.best(goal)) is not None}
    if best:
        yield f"Best of what can be run: {', '.join(_picks(result, best))}.{_another(result, best)}"
    cheapest, hourly = best.get("cheapest"), result.by_the_hour
    if cheapest is not None and hourly is not None and hourly.name != cheapest.name:
        yield _hourly(hourly, cheapest)


def _picks(result: SearchResult, best: dict[Goal, Plan]) -> Iterator[str]:
    """Each of these rows with all that it is the best for."""
    for number, plan in enumerate(in_order(result.plans), start=1):
        if goals := [goal for goal, each in best.items() if each is plan]:
            yield f"{' and '.join(goals)} {number} ({_figures(plan)})"


def _figures(plan: Plan) -> str:
    return f"{words.usd(plan.cost.total_usd.p50)}, {words.span(plan.duration.wall_s.p50)}"


def _another(result: SearchResult, best: dict[Goal, Plan]) -> str:
    """The option that makes another of them the recommended one."""
    other = next((goal for goal, plan in best.items() if plan is not result.recommended), None)
    return f" --goal {other} recommends that one." if other is not None else ""


def _hourly(hourly: Plan, cheapest: Plan) -> str:
    """What the cheapest hour makes of the job, beside the cheapest job."""
    ratio = hourly.cost.total_usd.p50 / cheapest.cost.total_usd.p50 if cheapest.cost.total_usd.p50 else 1.0
    dearer = f": {ratio:.1f} times as much" if ratio >= DEARER else ""
    price = f"{words.usd(float(hourly.offer.usd_per_hour))} at {words.offer(hourly)}"
    usd = hourly.cost.total_usd.p50
    cost = f"cost {words.usd(usd)}" if usd else "be free"
    return (
        f"Going by the cheapest hour, {price}, the job would {cost} and take {words.span(hourly.duration.wall_s.p50)}{dearer}."
    )
