"""What one pass over the data takes and costs: the number by which somebody decides how many passes to pay for. Pure."""

from __future__ import annotations

from planner.estimators.time.duration import steps_of
from planner.estimators.work import work_of
from planner.plan import Plan
from planner.report.words import span, usd
from planner.strategy.stack import PINNED_STACK
from planner.units import SECONDS_PER_HOUR
from remote.contract import Loop


def epoch_words(plan: Plan) -> str:
    """In one sentence, by the plan's middle figures; evaluations, saves and set-up are in the whole job alone."""
    loop = plan.request.loop
    by_length = loop.row_order == "by_length"
    on_cpu = plan.gpu is None
    work = work_of(plan.request.data, plan.strategy, on_cpu=on_cpu, by_length=by_length, cuda_graphs=loop.cuda_graphs)
    steps = steps_of(plan.strategy, PINNED_STACK, work.num_examples, Loop(epochs=1.0))
    seconds = steps * plan.duration.step_s.p50
    cost = usd(seconds / SECONDS_PER_HOUR * float(plan.offer.usd_per_hour))
    whole = usd(plan.cost.total_usd.p50)
    steps_words = "1 step" if steps == 1 else f"{steps:,} steps"
    return f"on {plan.offer.key} a pass over the data is {steps_words}, {span(seconds)}, {cost}; the whole job {whole}"
