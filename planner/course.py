"""The course of a case's GPU memory over one step: `estimate --plot`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import msgspec

from catalogs.catalog import Catalog
from planner.asking.case import Case, stack_of, strategy_of
from planner.estimators.engine import Tracing, shape_of
from planner.estimators.memory import available_bytes
from planner.estimators.stretches import TimeLine
from planner.estimators.timelines import closed_line, traced_line
from planner.refusals import Untraceable


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """A time line, and what is to be known about it."""

    line: TimeLine
    model: str
    available_bytes: int | None  # None: the case names no card and no memory
    required_bytes: int | None = None  # of the card: the peak with a margin, and what lies outside of torch; None = not told
    untraced: str | None  # why the closed form's instants are drawn instead of a trace's events; None = they aren't


def course_of(case: Case, catalog: Catalog, *, base: Path | None = None, tracing: Tracing = nullcontext) -> Course:
    """A traced step, event by event; where there is no trace, or the closed form was asked for, its instants.

    Raises as `planner.estimate.estimate` does.
    """
    architecture, strategy, stack = shape_of(case, base), strategy_of(case), stack_of(case)
    gpu = catalog.gpu(case.gpu).gpu if case.gpu is not None else None
    named = gpu is not None or case.gpu_memory_gib is not None
    why = "engine closed_form was asked for"
    line = None
    if case.engine != "closed_form":
        try:
            with tracing():
                line = traced_line(architecture.config, strategy, task=case.task, gpu=gpu, stack=stack)
        except Untraceable as refusal:
            if case.engine == "trace":
                raise
            why = refusal.message
    return Course(
        line=line or closed_line(architecture, strategy, task=case.task, gpu=gpu, stack=stack),
        model=architecture.name,
        available_bytes=available_bytes(gpu, case.gpu_memory_gib) if named else None,
        untraced=None if line is not None else why,
    )
