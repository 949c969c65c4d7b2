"""How long it will take from here, and what has been paid so far."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import fmean
from typing import Final

from remote.contract import JobSpec, Loop, Value, rhythm_of
from remote.data.batches import Shape
from remote.data.tokens import Example

TELLING_STEPS: Final = 20  # assumed: the pace of so many steps is that of those to come
SECONDS_PER_HOUR: Final = 3600


def forecast(
    spec: JobSpec, step_s: Sequence[float], evaluation_s: float, *, steps_left: int, evaluations_left: int
) -> dict[str, float]:
    """By the latest steps and the latest evaluation. Dollars only where the job says a price."""
    left = {"eta_s": fmean(step_s[-TELLING_STEPS:]) * steps_left + evaluation_s * evaluations_left}
    if spec.usd_per_hour is None or spec.billed_since_s is None:
        return left
    return left | {"spent_usd": max(0.0, time.time() - spec.billed_since_s) / SECONDS_PER_HOUR * spec.usd_per_hour}


class Seen(Value, frozen=True, kw_only=True):
    """What the probe took."""

    step_s: float  # of the longest batch
    tokens: int  # of it
    judging_s: float  # of the heaviest batch of held-out rows
    judged_tokens: int  # of it; 0 = there are none
    save_s: float  # of a checkpoint


def forecast_of(
    seen: Seen, loop: Loop, train: Sequence[Example], held_out: Sequence[Example], shape: Shape, num_steps: int
) -> float:
    """Seconds from the first evaluation to the last checkpoint. On the short side: a step of fewer tokens than the longest
    batch is taken to be shorter in proportion, and no time goes into padding, batches and samples.
    """
    mean_tokens = fmean(example.num_tokens for example in train) * shape.sequences_per_step
    train_s = num_steps * seen.step_s * min(1.0, mean_tokens / seen.tokens)
    judging = sum(example.num_tokens for example in held_out) / seen.judged_tokens if seen.judged_tokens else 0.0
    judge_s = (loop.evaluations + 2) * judging * seen.judging_s
    every = rhythm_of(loop)
    per_epoch = len(train) / shape.sequences_per_step
    saves = {"s": train_s, "steps": float(num_steps), "epochs": num_steps / per_epoch}[every.unit] / every.amount
    return train_s + judge_s + min(saves, num_steps) * seen.save_s
