"""Which estimator answers for GPU memory: the closed form, or the trace of a real step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.bases.models import ModelUnknown, TypeNotDescribed, resolve_model
from catalogs.hardware import Gpu
from planner.asking.case import Case, EngineAsked, stack_of, strategy_of
from planner.estimators.memory import estimate_vram
from planner.estimators.memory.refused.support import require_closed_form
from planner.methods import METHODS, trainable_params
from planner.plan import Engine, VramEstimate
from planner.refusals import OTHERWISE, CaseRefused, Unsupported, Untraceable
from planner.strategy.as_built import as_built
from planner.strategy.stack import Stack
from remote.contract import Strategy, Task

Tracing = Callable[[], AbstractContextManager[object]]


class Answered(msgspec.Struct, frozen=True):
    """A figure, who gave it, and what is to be said about that."""

    vram: VramEstimate
    engine: Engine
    warnings: tuple[str, ...]
    num_trained: int | None = None  # parameters that got a gradient in a trace; None where the formulas say it
    num_base: int | None = None  # parameters of the base, as a trace built it; None where nothing was traced


def shape_of(case: Case, base: Path | None) -> Architecture:
    """The architecture that a case names, as its stack builds it, or the outline of one that only a trace can answer for.

    Raises ModelUnknown.
    """
    try:
        return as_built(resolve_model(case.model, base=base), strategy_of(case), stack_of(case))
    except TypeNotDescribed as unknown:
        if case.engine == "closed_form":
            raise ModelUnknown(unknown.message, f"{unknown.hint}; or engine trace") from None
        return unknown.outline


def memory_by(
    asked: EngineAsked,
    architecture: Architecture,
    strategy: Strategy,
    *,
    task: Task,
    gpu: Gpu | None,
    stack: Stack,
    cache: Path | None,
    tracing: Tracing = nullcontext,
) -> Answered:
    """GPU memory by the engine that was asked for. "auto": the closed form where there is one, else the trace, said aloud.

    Raises Unsupported (of the closed form, unless a trace was asked for). `cache`: a folder for traces, or None;
    `tracing`: entered while a step is traced, which takes seconds.
    """

    def traced() -> Answered:
        from planner.estimators.trace import trace_counted  # most estimates need none

        run = msgspec.structs.replace(strategy, attention="eager") if _has_eager_alone(architecture, strategy) else strategy
        found = trace_counted(architecture.config, run, task=task, gpu=gpu, stack=stack, cache=cache, tracing=tracing)
        return Answered(found.vram, "trace", (), found.num_trained, found.num_base)

    if asked == "trace":
        try:
            return traced()
        except Untraceable as untraceable:
            raise _with_a_way_out(untraceable, architecture, strategy, task, stack) from None
    try:
        return Answered(estimate_vram(architecture, strategy, task=task, gpu=gpu, stack=stack), "closed_form", ())
    except Unsupported as refusal:
        if asked == "closed_form":
            raise _or_traced(refusal, architecture, strategy, task, stack) from None
        try:
            found = traced()
        except Untraceable as untraceable:
            if METHODS[strategy.method].trainable is None:  # then only a trace could have answered
                raise _with_a_way_out(untraceable, architecture, strategy, task, stack) from None
            get_them = architecture.outlined and untraceable.hint != OTHERWISE  # what the trace lacks is the only way
            hint = untraceable.hint if get_them else refusal.hint
            raise Unsupported(refusal.key, f"{refusal.message}; {untraceable.message}", hint) from None
        return msgspec.structs.replace(found, warnings=(f"engine: traced, because {refusal.message}",))


def _has_eager_alone(architecture: Architecture, strategy: Strategy) -> bool:
    """Whether transformers would refuse what is asked of attention; the closed form takes it for eager, too, and it is said."""
    return architecture.eager_only and strategy.attention == "sdpa"


def _with_a_way_out(
    untraceable: Untraceable, architecture: Architecture, strategy: Strategy, task: Task, stack: Stack
) -> CaseRefused:
    """The refusal, whose hint sends nobody to a closed form that there is none of."""
    if untraceable.hint != OTHERWISE:
        return untraceable
    if METHODS[strategy.method].trainable is None:
        hint = f"another {untraceable.key}, or a method that has a closed form, such as lora"
        return Untraceable(untraceable.key, untraceable.message, hint)
    try:
        require_closed_form(architecture, strategy, task=task, stack=stack)
        trainable_params(architecture, strategy, task=task)
    except CaseRefused as refusal:
        return type(refusal)(refusal.key, f"{untraceable.message}; {refusal.message}", refusal.hint)
    return untraceable


def _or_traced(refusal: Unsupported, architecture: Architecture, strategy: Strategy, task: Task, stack: Stack) -> Unsupported:
    """The refusal of a closed form, with the trace as one more way out where it is one."""
    from planner.estimators.trace import require_traceable

    with suppress(Untraceable):
        require_traceable(architecture.config, strategy, task=task, stack=stack)
        return Unsupported(refusal.key, refusal.message, f"{refusal.hint}; or engine trace")
    return refusal
