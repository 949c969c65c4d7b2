"""Did the training do what it was for? A result that is whole, and no better than its base or without an end, is said to be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from remote.contract import BestBy, Doubt, Evaluation, Sample
from remote.result.samples import Prompt
from remote.training.best import FIGURES, is_better, shown

LEAST_ANSWERS: Final = 2  # assumed: one alone may well be the exception
ROOM: Final = 2  # assumed: an answer that has so many times the tokens of the one in the data, and comes to no end, has none


def doubts_of(
    before: Evaluation | None,
    after: Evaluation | None,
    prompts: Sequence[Prompt],
    samples: Sequence[Sample],
    *,
    sample_tokens: int,
    by: BestBy = "loss",
) -> Iterator[Doubt]:
    """What is to be said of a result, in the order of weight. Where nothing was judged nothing is."""
    if before is not None and after is not None and not is_better(after, before, by):
        yield Doubt(
            kind="no_better",
            message=f"the result is no better than its base: on rows that neither learned from its {FIGURES[by][0]} is "
            f"{shown(after, by)}, the base's {shown(before, by)}; another learning rate or more data may help",
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
