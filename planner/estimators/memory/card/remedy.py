"""The smallest change that would make a job fit, found by estimating the changes one by one."""

from __future__ import annotations

from collections.abc import Iterator

from catalogs.bases.architectures import Architecture
from catalogs.hardware import Gpu
from planner.estimators.memory.card.levers import LEVERS, Change
from planner.estimators.memory.card.process import outside_of, required_bytes
from planner.estimators.memory.closed import filled
from planner.refusals import CaseRefused
from planner.stack import Stack
from remote.contract import Strategy, Task


def nearest_change(
    architecture: Architecture,
    strategy: Strategy,
    *,
    task: Task,
    gpu: Gpu | None,
    stack: Stack,
    available_bytes: int,
) -> str | None:
    """The first change, from the mildest on, after which the job fits. None if no single one does."""
    for words, _, changed in _changes(strategy, architecture, stack):
        try:
            peak = filled(architecture, changed, task=task, gpu=gpu, stack=stack).peak_bytes()
        except CaseRefused:
            continue
        if required_bytes(peak, outside_of(gpu, changed).num_bytes, changed) <= available_bytes:
            return words
    return None


def _changes(strategy: Strategy, architecture: Architecture, stack: Stack) -> Iterator[Change]:
    for lever in LEVERS:
        yield from lever.steps(strategy, architecture, stack)
