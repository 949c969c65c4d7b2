"""GPU memory over the course of one step, to be drawn: event by event from a trace, instant by instant from the closed form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.hardware import Gpu
from planner.estimators.engine import Engine
from planner.estimators.memory.closed import filled
from planner.plan import Instant
from planner.strategy.stack import Stack
from remote.contract import Strategy, Task

MOST_POINTS: Final = 600  # assumed: more than a screen has columns for
MOST_MICRO_BATCHES: Final = 2  # assumed: the first makes the gradients, the second adds to them; later ones repeat it


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """Points from `start` up to `end`, all in one instant."""

    instant: Instant
    start: int
    end: int


class TimeLine(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes at each point, by component. The components of a point sum to what is allocated there."""

    engine: Engine
    num_events: int  # that were looked at; the points are the fullest among their neighbours
    stretches: tuple[Stretch, ...]
    components: Mapping[str, tuple[int, ...]]
    reserved: tuple[int, ...]  # empty: the closed form knows only its peak

    @property
    def allocated(self) -> tuple[int, ...]:
        """Bytes at each point."""
        return tuple(map(sum, zip(*self.components.values(), strict=True)))


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
