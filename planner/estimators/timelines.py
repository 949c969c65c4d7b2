"""GPU memory over the course of one step, to be drawn: event by event from a trace, instant by instant from the closed form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.hardware import Gpu
from planner.estimators.memory.closed import filled
from planner.estimators.stretches import Stretch, TimeLine
from planner.strategy.stack import Stack
from remote.contract import Strategy, Task

MOST_MICRO_BATCHES: Final = 2  # assumed: the first makes the gradients, the second adds to them; later ones repeat it


def closed_line(architecture: Architecture, strategy: Strategy, *, task: Task, gpu: Gpu | None, stack: Stack) -> TimeLine:
    """The closed form's instants, one point each. Raises Unsupported."""
    form = filled(architecture, strategy, task=task, gpu=gpu, stack=stack)
    instants = {instant: form.components(parts) for instant, (_, parts) in form.by_instant().items()}
    names = dict.fromkeys(name for parts in instants.values() for name in parts)
    return TimeLine(
        engine="closed_form",
        num_events=len(instants),
        stretches=tuple(Stretch(instant=instant, start=at, end=at + 1) for at, instant in enumerate(instants)),
        components={name: tuple(parts.get(name, 0) for parts in instants.values()) for name in names},
        reserved=(),
    )


def traced_line(config: Mapping[str, Any], strategy: Strategy, *, task: Task, gpu: Gpu | None, stack: Stack) -> TimeLine:
    """Every event of a traced step, thinned out; of many micro-batches the first two. Raises Untraceable."""
    from planner.estimators.trace import require_traceable  # these import torch when they are used
    from planner.estimators.trace.timeline import time_line
    from planner.estimators.trace.tracing import traced

    few = min(strategy.gradient_accumulation_steps, MOST_MICRO_BATCHES)
    strategy = msgspec.structs.replace(strategy, gradient_accumulation_steps=few)
    require_traceable(config, strategy, task=task, stack=stack)
    capability = None if gpu is None else gpu.compute_capability
    return time_line(traced(config, strategy, stack=stack, compute_capability=capability))
