"""Which of several evaluations is the best, by what the job is about. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from remote.contract import BestBy, Evaluation
from remote.ends import bad_job

# Of each: what it is called, and how it is written.
FIGURES: Final[Mapping[BestBy, tuple[str, str]]] = {
    "loss": ("loss", "{:.4f}"),
    "accuracy": ("accuracy", "{:.3f}"),
    "macro_f1": ("F1", "{:.3f}"),
    "auc": ("AUC", "{:.3f}"),
}


def shown(evaluation: Evaluation, by: BestBy) -> str:
    """Its figure, as text."""
    return FIGURES[by][1].format(abs(standing(evaluation, by)))


def standing(evaluation: Evaluation, by: BestBy) -> float:
    """How it stands beside the others, less being better. Raises `Ended` (bad job) for a figure that its rows do not give."""
    if by == "loss":
        return evaluation.mean_loss
    if by not in evaluation.metrics:
        raise bad_job(
            f"best_by {by} can't be told: a class has none of the held-out rows, or all; hold out more, or say macro_f1"
        )
    return -evaluation.metrics[by]


def is_better(one: Evaluation, other: Evaluation, by: BestBy) -> bool:
    """Whether `one` is; of two that stand alike the one with the lower loss."""
    return (standing(one, by), one.mean_loss) < (standing(other, by), other.mean_loss)
