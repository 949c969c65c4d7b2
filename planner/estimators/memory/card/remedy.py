"""What to change so that a job fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from catalogs.bases.architectures import Architecture
from planner.estimators.memory.card.levers import LEVERS, steps_of
from planner.strategy.stack import Stack
from remote.contract import Strategy

Fits = Callable[[Strategy, Stack], bool]


def nearest_change(
    architecture: Architecture, strategy: Strategy, stack: Stack, fits: Fits, *, mean_seq_len: float | None = None
) -> str | None:
    """The first change, from the mildest on, after which the job surely fits. None if no single one does.

    `mean_seq_len`: what the case says of it, if anything.
    """
    for words, changed, around in _changes(architecture, strategy, stack, mean_seq_len):
        if fits(changed, around):
            return words
    return None


def _changes(
    architecture: Architecture, strategy: Strategy, stack: Stack, mean_seq_len: float | None
) -> Iterator[tuple[str, Strategy, Stack]]:
    """What a person types, and what the job is then. Evaluation's own batch comes first: it changes nothing that is learned."""
    for words, around in _smaller_evaluations(stack):
        yield words, strategy, around
    for lever in LEVERS:
        for change in steps_of(lever, strategy, architecture, stack, mean_seq_len):
            yield change.words, change.strategy, stack


def _smaller_evaluations(stack: Stack) -> Iterator[tuple[str, Stack]]:
    asked = stack.evaluation
    size = asked.micro_batch_size if asked is not None else None
    while asked is not None and size is not None and size > 1:
        size //= 2
        smaller = msgspec.structs.replace(asked, micro_batch_size=size)
        yield f"evaluation micro_batch_size {size}", msgspec.structs.replace(stack, evaluation=smaller)
