"""The base beside the result, on the same held-out rows."""

from __future__ import annotations

import math
import statistics

from provision.account.receipt.value import LossChange, MetricChange
from remote.contract import Evaluation


def compare(before: Evaluation, after: Evaluation) -> LossChange | None:
    """Paired comparison of two evaluations of the same rows; None when their rows can't be paired."""
    if len(before.row_losses) != len(after.row_losses) or len(before.row_losses) < 2:
        return None
    drops = [old - new for old, new in zip(before.row_losses, after.row_losses, strict=True)]
    return LossChange(
        before=before.mean_loss,
        after=after.mean_loss,
        num_rows=len(drops),
        mean_drop=statistics.fmean(drops),
        standard_error=statistics.stdev(drops) / math.sqrt(len(drops)),
    )


def changes_of(before: Evaluation, after: Evaluation) -> dict[str, MetricChange]:
    """Figure by figure, where both evaluations have it."""
    return {
        name: MetricChange(before=before.metrics[name], after=found)
        for name, found in after.metrics.items()
        if name in before.metrics
    }
