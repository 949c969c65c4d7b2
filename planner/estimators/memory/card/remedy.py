"""What to change so that a job fits: what loses least first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from catalogs.bases.architectures import Architecture
from planner.estimators.memory.card.levers import LEVERS, Change, steps_of
from planner.strategy.stack import Stack
from remote.contract import CAPABILITIES, Strategy, Task

ALONE: Final = frozenset({"another method", "more GPUs"})  # another job, or another machine: said by itself


class Judge(NamedTuple):
    """What the changed job needs of one GPU, and whether it surely fits; None and False for what is against the rules."""

    required_bytes: Callable[[Strategy, Stack], int | None]
    fits: Callable[[Strategy, Stack], bool]


def nearest_change(
    architecture: Architecture,
    strategy: Strategy,
    stack: Stack,
    judge: Judge,
    *,
    task: Task = "causal_lm",
    mean_seq_len: float | None = None,
) -> str | None:
    """The change after which the job surely fits that loses least, or several together; None if none does.

    Levers are tried from the mildest on: each alone, then with the milder ones, so that nothing is given up which those
    could have saved. On top of one another come only changes that the trainer can do, unless it can't do the job itself.
    `mean_seq_len`: what the case says of it, if anything.
    """
    for words, around in _smaller_evaluations(stack):  # it changes nothing that is learned
        if judge.fits(strategy, around):
            return words
    lacking = set(CAPABILITIES.missing(strategy, task))
    above = _Pulled(strategy, judge.required_bytes(strategy, stack), ())
    for lever in LEVERS:
        steps = tuple(steps_of(lever, strategy, architecture, stack, mean_seq_len))
        if alone := next((change for change in steps if judge.fits(change.strategy, stack)), None):
            return alone.words
        for change in () if lever.name in ALONE else steps:
            if lacking.issuperset(CAPABILITIES.missing(change.strategy, task)):
                above = _on_top(above, change, stack, judge)
            if judge.fits(above.strategy, stack):
                return _words_of(_needed(strategy, above.changes, stack, judge))
    return None


class _Pulled(NamedTuple):
    """What the levers so far have come to."""

    strategy: Strategy
    required_bytes: int | None
    changes: tuple[Change, ...]


def _on_top(above: _Pulled, change: Change, stack: Stack, judge: Judge) -> _Pulled:
    """One change more, where it still helps. It stands for an earlier one of the same keys."""
    strategy = msgspec.structs.replace(above.strategy, **change.changes)
    required_bytes = judge.required_bytes(strategy, stack)
    if required_bytes is None or (above.required_bytes is not None and required_bytes >= above.required_bytes):
        return above
    kept = tuple(one for one in above.changes if not set(one.changes) <= set(change.changes))
    return _Pulled(strategy, required_bytes, (*kept, change))


def _needed(strategy: Strategy, changes: tuple[Change, ...], stack: Stack, judge: Judge) -> tuple[Change, ...]:
    """Those without which it would not fit; what loses most is left out first."""
    for change in reversed(changes):
        fewer = tuple(one for one in changes if one is not change)
        if judge.fits(_with(strategy, fewer), stack):
            changes = fewer
    return changes


def _with(strategy: Strategy, changes: tuple[Change, ...]) -> Strategy:
    for change in changes:
        strategy = msgspec.structs.replace(strategy, **change.changes)
    return strategy


def _words_of(changes: tuple[Change, ...]) -> str:
    *others, last = (change.words for change in changes)
    return f"{', '.join(others)} and {last} together" if others else last


def _smaller_evaluations(stack: Stack) -> Iterator[tuple[str, Stack]]:
    asked = stack.evaluation
    size = asked.micro_batch_size if asked is not None else None
    while asked is not None and size is not None and size > 1:
        size //= 2
        smaller = msgspec.structs.replace(asked, micro_batch_size=size)
        yield f"evaluation micro_batch_size {size}", msgspec.structs.replace(stack, evaluation=smaller)
