"""RAM and disk of the box that trains."""

from __future__ import annotations

from catalogs.architectures import Architecture
from planner.plan import HostEstimate
from planner.stack import Stack
from remote.contract import Strategy, Task


def estimate_host(
    architecture: Architecture,
    strategy: Strategy,
    *,
    num_gpus: int,
    on_cpu: bool,
    task: Task = "causal_lm",
    stack: Stack = Stack(),
    num_checkpoints: int = 2,
) -> HostEstimate:
    """RAM of one node (all ranks on it) and disk of the box, in bytes. `on_cpu`: the model trains in RAM."""
    raise NotImplementedError
