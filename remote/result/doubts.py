"""Did the training do what it was for? A result that is whole, and no better than its base or without an end, is said to be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from remote.contract import BestBy, Doubt, Evaluation, Sample
from remote.result.samples import Prompt
from remote.training.best import FIGURES, is_better, shown

LEAST_ANSWERS: Final = 2  # assumed: one alone may well be the exception
ERRORS: Final = 2.0  # assumed: standard errors above a half that an AUC must be to say something
ROOM: Final = 2  # assumed: an answer that has so many times the tokens of the one in the data, and comes to no end, has none


def guessed_auc(rows_of_classes: Sequence[int]) -> float:
    """The AUC that one guess in forty exceeds: two standard errors of the rank sum (Mann, Whitney 1947) above a half.

    Of the class with the fewest rows, of which it is the most uncertain. Each must have one.
    """
    fewest, rows = min(rows_of_classes), sum(rows_of_classes)
    return 0.5 + ERRORS * math.sqrt((rows + 1) / (12 * fewest * (rows - fewest)))


def doubts_of(
    before: Evaluation | None,
    after: Evaluation | None,
    prompts: Sequence[Prompt],
    samples: Sequence[Sample],
    *,
    sample_tokens: int,
    by: BestBy = "loss",
    rows_of_classes: Sequence[int] = (),
) -> Iterator[Doubt]:
    """What is to be said of a result, in the order of weight. Where nothing was judged nothing is.

    `rows_of_classes`: of a classification, the held-out rows of each class.
    """
    if before is not None and after is not None and not is_better(after, before, by):
        yield Doubt(
            kind="no_better",
            message=f"the result is no better than its base: on rows that neither learned from its {FIGURES[by][0]} is "
            f"{shown(after, by)}, the base's {shown(before, by)}; another learning rate or more data may help",
        )
    auc = None if after is None else after.metrics.get("auc")
    if auc is not None and auc < (least := guessed_auc(rows_of_classes)):
        yield Doubt(
            kind="guessing",
            message=f"its AUC of {auc:.2f} on {sum(rows_of_classes):,} held-out rows is what a guess may have there (up to "
            f"{least:.2f}): more or clearer rows, or longer training, may help",
        )
    short = [
        sample
        for prompt, sample in zip(prompts, samples, strict=False)
        if prompt.turn_tokens is not None and ROOM * prompt.turn_tokens <= sample_tokens
    ]
    if len(short) >= LEAST_ANSWERS and not any(sample.ended for sample in short):
        yield Doubt(
            kind="endless",
            message=f"none of {len(short)} sample answers ended within {sample_tokens} tokens, where those in the data end "
            f"within {sample_tokens // ROOM}; longer training, or data whose answers end with the model's own mark, may help",
        )
