"""When a loss says that going on is of no use: it no longer falls, or has jumped and stays up. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import Final

from remote.contract import BestBy, Evaluation
from remote.training.best import standing

WINDOW: Final = 50  # assumed: steps whose median is what a loss is held against
LEAST_SEEN: Final = 10  # assumed: before so many a loss falls too fast for a median to mean much
FACTOR: Final = 2.0  # assumed: no batch of a data set is by itself so much harder than half of the others
IN_A_ROW: Final = 3  # assumed: one step may meet a row that is broken


def evaluations_in_vain(evaluations: Sequence[Evaluation], min_delta: float, by: BestBy = "loss") -> int:
    """How many have passed since one was better `by` more than `min_delta`, the one before training left out."""
    best, vain = float("inf"), 0
    for evaluation in evaluations:
        if evaluation.step == 0:
            continue
        stands = standing(evaluation, by)
        if stands < best - min_delta:
            best, vain = stands, 0
        else:
            vain += 1
    return vain


class Spikes:
    """Guards the losses of late. Those of a spike are no measure for the next."""

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._high = 0
        self._told = False

    def saw(self, step: int, loss: float) -> str | None:
        """A sentence, once, where the loss stays far above what it was."""
        usual = median(self._losses) if len(self._losses) >= LEAST_SEEN else None
        if usual is None or loss <= FACTOR * usual:
            self._high = 0
            self._losses.append(loss)
            return None
        self._high += 1
        if self._high < IN_A_ROW or self._told:
            return None
        self._told = True
        return (
            f"the loss jumped: {loss:.3g} at step {step}, above {FACTOR:g} times the {usual:.3g} of the steps before for "
            f"{IN_A_ROW} steps; a lower learning rate, a longer warm-up or a look at the rows there is the usual cure"
        )
