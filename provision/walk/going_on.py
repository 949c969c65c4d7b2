"""The job file that goes on where a run without a result was stopped: from its newest checkpoint, for what was left."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import msgspec

from planner.plan import Plan
from planner.report.job_file import write_job
from provision.watch.view import View
from remote.contract import Loop
from remote.training.schedule import learning_rate, warmup_steps

DIGITS: Final = 4  # assumed: of an epoch; a step of fewer rows than its ten-thousandth is none
RATE_DIGITS: Final = 6  # assumed: significant ones of a learning rate

HEAD: Final = """\
# It goes on with what run {run_id} had learned by step {step:,} of {total_steps:,}: see loop.init_adapter.
# Carried on: the weights, the passes over the data that were left, the rows of a step, and the learning rate from where it
# stood, {warm_up}.
# Begun anew: the optimizer's moments, the order of the rows, held-out losses with the best of them, and the budget.
"""


class Stopped(NamedTuple):
    """Where a training stood."""

    step: int
    total_steps: int
    steps_per_epoch: float


def stopped_at(step: int, plan: Plan, view: View) -> Stopped:
    """By what the trainer has said; where it said nothing, as planned."""
    total_steps = view.num_steps or plan.duration.num_steps
    loop = plan.request.loop
    per_epoch = view.steps_per_epoch or max(1.0, plan.duration.num_steps / loop.epochs)
    return Stopped(step, max(step, total_steps), per_epoch)


def rest_of(loop: Loop, stopped: Stopped) -> Loop:
    """The loop of what was left, one step at least: its passes, its warm-up, and the rate that its next step would have had.

    A constant and a linear schedule go on exactly; a cosine falls to none from where it stood, and is flatter at first.
    """
    step = min(stopped.step, stopped.total_steps - 1)
    left = stopped.total_steps - step
    warm = warmup_steps(loop, stopped.total_steps, stopped.steps_per_epoch)
    rate, cycles = loop.learning_rate, loop.cycles
    if loop.schedule == "cosine_with_restarts":  # each cycle begins with the whole rate
        cycles = max(1, round(cycles * left / stopped.total_steps))
    elif step > warm:
        rate = _rounded(learning_rate(step, stopped.total_steps, loop, steps_per_epoch=stopped.steps_per_epoch))
    still_warms = min(max(0, warm - step), left - 1)
    return msgspec.structs.replace(
        loop,
        epochs=min(loop.epochs, math.ceil(left / stopped.steps_per_epoch * 10**DIGITS) / 10**DIGITS),
        max_steps=None if loop.max_steps is None else left,
        learning_rate=rate,
        cycles=cycles,
        warmup_ratio=0.0,
        warmup_steps=still_warms or None,
        warmup_epochs=None,
    )


def _sequences_per_step(plan: Plan) -> int | None:
    """Steps and rate are for these, so another machine has as many; None where the job says its passes of a step."""
    request, way = plan.request, plan.strategy
    if request.global_batch_size is not None or "gradient_accumulation_steps" in request.training:
        return request.global_batch_size
    return way.micro_batch_size * way.gradient_accumulation_steps * way.num_gpus


def _rounded(rate: float) -> float:
    return float(f"{rate:.{RATE_DIGITS}g}")


def job_that_goes_on(plan: Plan, *, run_id: str, model: str, checkpoint: str, stopped: Stopped) -> str:
    """The file, whose first lines say what is carried on and what begins anew. `model`: as it is found from anywhere."""
    request = plan.request
    loop = msgspec.structs.replace(rest_of(request.loop, stopped), init_adapter=checkpoint)
    said = {*request.said_of_loop, "learning_rate", "warmup_ratio"}
    again = msgspec.structs.replace(
        request, model=model, loop=loop, said_of_loop=tuple(sorted(said)), global_batch_size=_sequences_per_step(plan)
    )
    first, _, rest = write_job(again).partition("\n")
    warm_up = "with what was left of its warm-up" if loop.warmup_steps else "without a warm-up"
    head = HEAD.format(run_id=run_id, step=stopped.step, total_steps=stopped.total_steps, warm_up=warm_up)
    return f"{first}\n{head}{rest}"
