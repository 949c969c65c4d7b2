"""Fewer optimizer steps, where a run is far too long for its money or its hours: that is what most would give up first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final

from planner.search.ranking import Question
from planner.search.told.conceded import Conceded
from planner.search.told.notebook import Over, nearest_of

FAR: Final = 1 / 3  # assumed: of what is needed; above it a larger limit is the nearer remedy
SPARE: Final = (0.85, 0.7, 0.5, 0.3)  # assumed: what of a limit the steps may take; the rest pays what is beside them, at p90
LEAST_STEPS: Final = 10  # assumed: fewer teach nothing


def fewer_steps(question: Question, over: Iterable[Over]) -> Iterator[Conceded]:
    """The job in as many of its steps as the limits pay for on the machine that comes nearest to them, the most first."""
    request, loop = question.request, question.request.loop
    nearest = nearest_of((each for each in over if each.runnable), _most_over)
    share = 1.0 if nearest is None else 1 / _most_over(nearest)
    whole = math.ceil(request.data.num_examples * loop.epochs / question.advice.global_batch_size)
    total = whole if loop.max_steps is None else min(whole, loop.max_steps)
    for spare in SPARE if share <= FAR else ():
        steps = _rounded_down(total * share * spare)
        if steps >= LEAST_STEPS:
            read, of = steps * question.advice.global_batch_size, round(request.data.num_examples * loop.epochs)
            yield Conceded(
                changes={"loop.max_steps": steps},
                words=f"in {steps:,} of {total:,} steps",
                given_up=f"most of the training: {read:,} rows are read, not {of:,}",
            )


def _most_over(each: Over) -> float:
    """How many times the limits it needs, by the one that it breaks most."""
    usd = each.needed_usd / float(each.cap.usd) if each.cap is not None and each.cap.usd else 1.0
    return max(usd, each.needed_s / each.limit_s if each.limit_s else 1.0)


def _rounded_down(number: float) -> int:
    """To two figures, as somebody would type it."""
    if number < 100:
        return int(number)
    digits = len(str(int(number)))
    return int(f"{str(int(number))[:2]}{'0' * (digits - 2)}")
