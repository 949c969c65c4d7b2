"""What the bytes of each component rest on: derived from code, measured, or assumed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from planner.estimators.memory.step.numerics import FUSED_BY_STACK
from planner.plan import ByteBasis
from planner.strategy.stack import Stack
from remote.contract import Strategy

OF_A_BLOCK: Final = ("activations", "temporaries")  # what a block keeps, and what it needs while it runs


def basis_of(components: Iterable[str], strategy: Strategy, stack: Stack) -> dict[str, ByteBasis]:
    """What each component rests on."""
    assumed = assumed_of(strategy, stack)
    return {name: "assumed" if name in assumed else "derived" for name in components}


def assumed_of(strategy: Strategy, stack: Stack) -> set[str]:
    """The components that are assumed. Most follow from code; not the blocks of kernels whose code nobody read, nor the even
    cut of parallel sizes.
    """
    assumed: set[str] = set()
    if strategy.kernels == "compiled" or (strategy.kernels == "fused" and stack.name not in FUSED_BY_STACK):
        assumed.update(OF_A_BLOCK)
    if stack.model_parallel > 1:
        assumed.update((*OF_A_BLOCK, "logits"))
    return assumed
