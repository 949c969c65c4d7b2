"""Parallel sizes that a base can't be cut into."""

from __future__ import annotations

from collections.abc import Callable

from catalogs.bases.architectures import Architecture
from planner.refusals import CaseError, Unsupported
from planner.strategy.stack import Stack


def require_parallel(architecture: Architecture, stack: Stack) -> None:
    """Raise CaseError for a size that does not come out even, with the largest part of it that does.

    Raises Unsupported for experts that are spread.
    """
    if stack.expert_parallel_size > 1:
        raise _experts_spread(architecture)
    a = architecture
    _require("pipeline_parallel_size", stack.pipeline_parallel_size, f"{a.depth} blocks", lambda size: size <= a.depth)
    heads = f"{a.num_heads} heads, which share {a.num_kv_heads} key heads,"
    _require("tensor_parallel_size", stack.tensor_parallel_size, heads, lambda size: _parts_heads(a, size))


def _parts_heads(architecture: Architecture, size: int) -> bool:
    """Whether so many ranks have equally many heads, each with its key head: several of them, or a copy of one."""
    keys = architecture.num_kv_heads
    return architecture.num_heads % size == 0 and (keys % size == 0 or size % keys == 0)


def _require(key: str, size: int, whole: str, comes_out: Callable[[int], bool]) -> None:
    if not comes_out(size):
        nearest = next(part for part in range(size - 1, 0, -1) if size % part == 0 and comes_out(part))
        raise CaseError(key, f"{whole} can't be cut into {size}", f"{key} {nearest}")


def _experts_spread(architecture: Architecture) -> CaseError | Unsupported:
    if not architecture.num_experts:
        return CaseError("expert_parallel_size", f"{architecture.name} has no experts to spread", "expert_parallel_size 1")
    return Unsupported("expert_parallel_size", "experts spread over GPUs have no estimate yet", "expert_parallel_size 1")
