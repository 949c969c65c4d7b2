"""`Job`: what the terms of a step's time need."""

from __future__ import annotations

import msgspec

from catalogs.bases.architectures import Architecture
from planner.estimators.memory.held.offloading import blocks_kept
from planner.estimators.memory.held.weights import Trained, Weights, trained_of, weights_of
from planner.strategy.as_run import as_run, at_rest
from planner.strategy.stack import Stack
from remote.contract import Strategy, Task


class Job(msgspec.Struct, frozen=True):
    """What the terms need. What many of them ask for is worked out once."""

    architecture: Architecture
    strategy: Strategy
    stack: Stack
    task: Task
    tokens: float  # per micro-batch of one data-parallel rank
    seq_len: float
    weights: Weights
    trained: Trained
    ranks: int

    @property
    def fused(self) -> bool:
        return self.strategy.kernels != "eager"

    @property
    def recomputes(self) -> float:
        """The share of the blocks that are computed again: but for the last ones, where they are streamed and said to stay."""
        if self.strategy.gradient_checkpointing == "off":
            return 0
        return 1 - blocks_kept(self.strategy, self.architecture.depth) / self.architecture.depth

    @property
    def passes(self) -> float:
        return 3 + self.recomputes


def timed(architecture: Architecture, strategy: Strategy, stack: Stack, *, task: Task, mean_seq_len: float) -> Job:
    """The job as its stack runs it. `mean_seq_len`: tokens per sequence that are computed on, padding included."""
    strategy = at_rest(as_run(architecture, strategy, stack))
    return Job(
        architecture,
        strategy,
        stack,
        task,
        strategy.micro_batch_size * mean_seq_len,
        mean_seq_len,
        weights_of(architecture, strategy, task=task, stack=stack),
        trained_of(architecture, strategy, task=task),
        stack.replicas(strategy),
    )
