"""When the next checkpoint is due. Pure."""

from __future__ import annotations

import math

from remote.contract import Every


def is_due(every: Every, *, step: int, saved_step: int, since_saved_s: float, steps_per_epoch: float) -> bool:
    """Whether one is due after `step`, the last having been made after `saved_step`.

    Steps and epochs are counted from the beginning of the run, so that a run that was interrupted makes them at the same steps.
    """
    if every.unit == "s":
        return since_saved_s >= every.amount
    steps = every.amount * (steps_per_epoch if every.unit == "epochs" else 1.0)
    return math.floor(step / steps + 1e-9) > math.floor(
        saved_step / steps + 1e-9
    )  # 3 × 0.1 is a little less than 0.3 in floats
