"""Which estimator answers for GPU memory: the closed form, or the trace of a real step."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.hardware import Gpu
from planner.asking.case import EngineAsked
from planner.estimators.memory import estimate_vram
from planner.methods import METHODS
from planner.plan import VramEstimate
from planner.refusals import Unsupported, Untraceable
from planner.stack import Stack
from remote.contract import Strategy, Task

Engine = Literal["closed_form", "trace"]


class Answered(msgspec.Struct, frozen=True):
    """A figure, who gave it, and what is to be said about that."""

    vram: VramEstimate
    engine: Engine
    warnings: tuple[str, ...]
    num_trained: int | None = None  # parameters that got a gradient in a trace; None where the formulas say it


def memory_by(
    asked: EngineAsked,
    architecture: Architecture,
    strategy: Strategy,
    *,
    task: Task,
    gpu: Gpu | None,
    stack: Stack,
    cache: Path | None,
) -> Answered:
    """GPU memory by the engine that was asked for. "auto": the closed form where there is one, else the trace, said aloud.

    Raises Unsupported (of the closed form, unless a trace was asked for). `cache`: a folder for traces, or None.
    """
    if asked == "trace":
        return _traced(architecture, strategy, task, gpu, stack, cache)
    try:
        return Answered(estimate_vram(architecture, strategy, task=task, gpu=gpu, stack=stack), "closed_form", ())
    except Unsupported as refusal:
        if asked == "closed_form":
            raise
        try:
            found = _traced(architecture, strategy, task, gpu, stack, cache)
        except Untraceable as untraceable:
            if METHODS[strategy.method].trainable is None:  # then only a trace could have answered
                raise untraceable from None
            raise refusal from None
        return msgspec.structs.replace(found, warnings=(f"engine: traced, because {refusal.message}",))


def _traced(
    architecture: Architecture, strategy: Strategy, task: Task, gpu: Gpu | None, stack: Stack, cache: Path | None
) -> Answered:
    from planner.estimators.trace import trace_counted  # most estimates need none

    found = trace_counted(architecture.config, strategy, task=task, gpu=gpu, stack=stack, cache=cache)
    return Answered(found.vram, "trace", (), found.num_trained)
