"""Seconds, tokens per second and energy of a job, phase by phase."""

from __future__ import annotations

from catalogs.architectures import Architecture
from catalogs.hardware import Gpu, Offer
from planner.plan import DurationEstimate
from planner.request import DataAsked
from planner.stack import Stack
from remote.contract import Loop, Strategy, Task


def estimate_duration(
    architecture: Architecture,
    strategy: Strategy,
    *,
    gpu: Gpu | None,
    offer: Offer,
    data: DataAsked,
    loop: Loop,
    task: Task = "causal_lm",
    stack: Stack = Stack(),
    reused_environment: bool = False,
    model_on_box: bool = False,
) -> DurationEstimate:
    """Every phase's seconds with p10, p50, p90. `gpu` None: the cores of the box itself train.

    `reused_environment`: the box stack is already installed (the local box). `model_on_box`: nothing is downloaded.
    """
    raise NotImplementedError
