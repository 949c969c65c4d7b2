"""GPU memory of one training job, in closed form: a maximum over instants, never a sum."""

from __future__ import annotations

from catalogs.architectures import Architecture
from catalogs.hardware import Gpu
from planner.plan import Verdict, VramEstimate
from planner.stack import Stack
from remote.contract import Strategy, Task


def estimate_vram(
    architecture: Architecture, strategy: Strategy, *, task: Task = "causal_lm", gpu: Gpu | None = None, stack: Stack = Stack()
) -> VramEstimate:
    """GPU memory of the fullest GPU. Raises `Unsupported` for what has no closed form."""
    raise NotImplementedError


def available_bytes(gpu: Gpu | None, gpu_memory_gib: float | None) -> int:
    """What the job may use on one GPU: the stated figure, else what the card's driver reports."""
    raise NotImplementedError


def verdict(vram: VramEstimate, available_bytes: int) -> tuple[Verdict, int]:
    """Whether the job fits, and the bytes to spare (negative: missing)."""
    raise NotImplementedError
