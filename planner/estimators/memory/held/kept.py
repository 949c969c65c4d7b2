"""In which dtype an engine keeps what trains, whatever it was made in, and in which one it steps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from planner.estimators.memory.held.weights import FP32, Trained
from planner.strategy.cuts import Engine, cut_of
from planner.strategy.precision import DTYPE_BYTES, FOUR_BIT
from planner.strategy.stack import Stack
from remote.contract import Strategy

Item = Callable[[int, Strategy, Stack], int]  # bytes of a number as it was made -> as it is kept


def _as_made(item: int, _strategy: Strategy, _stack: Stack) -> int:
    return item


def _upcast(item: int, strategy: Strategy, stack: Stack) -> int:
    """derived: accelerate 1.15 casts what trains to fp32 under mixed precision: the second FSDP's parameters in
    `fsdp2_prepare_model`, unless any is packed in 4 bits; the first one's flat parameters in `Accelerator.prepare_model`.
    """
    packed = strategy.quant in FOUR_BIT and stack.fsdp_version == 2
    return FP32 if stack.uses_accelerate and strategy.autocast != "none" and not packed else item


KEPT_BY: Final[dict[Engine, Item]] = {"torch": _as_made, "fsdp": _upcast, "deepspeed": _as_made}


def kept_of(trained: Trained, strategy: Strategy, stack: Stack) -> Trained:
    """What trains as it lies on the GPUs, its gradients with it. Frozen weights stay what they are."""
    item = KEPT_BY[cut_of(strategy).engine](trained.item, strategy, stack)
    more = trained.params * (item - trained.item) if trained.added else 0
    return msgspec.structs.replace(trained, item=item, added=trained.added + more)


def stepped_of(kept: Trained, strategy: Strategy) -> Trained:
    """As the optimizer sees it. derived: DeepSpeed steps fp32 copies of 16-bit parameters (stage_1_and_2.py, stage3.py)."""
    return msgspec.structs.replace(kept, item=FP32) if cut_of(strategy).engine == "deepspeed" else kept


def upcast_bytes(made: Trained, kept: Trained) -> int:
    """By how much weights of the base itself grow when they are kept wider than they were made, and a head beside them is."""
    return 0 if made.added else made.params * (kept.item - made.item) + made.widened


def reduced_item(made: Trained, strategy: Strategy, stack: Stack) -> int:
    """Bytes of a number of a gradient while it is reduced: accelerate asks for the dtype that autocast computes in."""
    narrow = stack.uses_accelerate and strategy.autocast != "none"
    return DTYPE_BYTES[strategy.autocast] if narrow else made.item
