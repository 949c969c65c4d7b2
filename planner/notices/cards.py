"""What a card itself says about a job on it, in sentences: what its kernels lack, and whose memory it has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from catalogs.hardware import Gpu
from planner.estimators.memory.card.moves import takes_card_as_ram
from planner.estimators.memory.held.optimizers import BITSANDBYTES_OPTIMIZERS
from planner.strategy.precision import BITSANDBYTES
from planner.strategy.stack import PINNED_STACK, Stack
from remote.contract import Strategy
from remote.machine.drivers import unfit_card

BOX_VENDOR: Final = "nvidia"  # the box's pinned stack is built for CUDA
BOX_CPU: Final = "x86_64"  # and for this machine language
STACK: Final = "the trainer's stack is built for"

# To be formatted with `gpu`
NO_KERNELS: Final = "bitsandbytes does not run on {gpu.name}: quant none, or another card"
NO_OPTIMIZER: Final = "bitsandbytes, whose {strategy.optimizer} is, does not run on {gpu.name}: adamw_torch, or another card"
NO_TRITON: Final = "{asked} needs Triton, which compiles for compute capability 7.0 and up, and {gpu.name} has {capability}"
UNSURE_KERNELS: Final = "{gpu.name}: bitsandbytes support is {gpu.bitsandbytes}; quant none needs none"
UNSURE_OPTIMIZER: Final = "{gpu.name}: bitsandbytes support is {gpu.bitsandbytes}; optimizer adamw_torch needs none"
SHARED_MEMORY: Final = "{gpu.name} shares its machine's memory: what the system holds is not taken off"
NOTHING_SAVED: Final = "what is kept in RAM takes as much of {gpu.name}, whose own memory that is"
NOTHING_ASIDE: Final = "nothing can be streamed or kept in RAM beside {gpu.name}: that is the card's own memory"


def no_code_for(gpu: Gpu) -> str | None:
    """Why the trainer's torch can't compute on the card, in one sentence; None where it can."""
    return None if gpu.compute_capability is None else unfit_card(gpu.compute_capability)


def unfit(gpu: Gpu) -> str | None:
    """Why the trainer runs on no machine with such a card, in one sentence; None where it may.

    Derived: NVIDIA sells its superchips with processors of ARM's alone (Grace, Jetson).
    """
    if gpu.vendor != BOX_VENDOR:
        return f"{STACK} {BOX_VENDOR.upper()} cards"
    if (reason := no_code_for(gpu)) is not None:
        return reason
    return f"{STACK} {BOX_CPU}" if gpu.form_factor == "superchip" else None


def has_unsure_kernels(gpu: Gpu) -> bool:
    """Whether bitsandbytes may or may not run there."""
    return gpu.bitsandbytes in ("partial", "build-dependent")


TRITON_SINCE: Final = (7, 0)  # derived: Triton's README, "NVIDIA GPUs (Compute Capability 7.0+)"


def lacking(gpu: Gpu, strategy: Strategy, stack: Stack) -> Iterator[str]:
    """What of a job the card has nothing for, a sentence each: kernels of bitsandbytes or of Triton, RAM beside it.

    The losses in chunks of our own trainer are torch's own operations.
    """
    if takes_card_as_ram(gpu, strategy):
        yield NOTHING_SAVED.format(gpu=gpu)
    if gpu.bitsandbytes == "no" and strategy.quant in BITSANDBYTES:
        yield NO_KERNELS.format(gpu=gpu)
    if gpu.bitsandbytes == "no" and strategy.optimizer in BITSANDBYTES_OPTIMIZERS:
        yield NO_OPTIMIZER.format(gpu=gpu, strategy=strategy)
    capability = gpu.compute_capability
    if capability is None or capability >= TRITON_SINCE:
        return
    said = ".".join(map(str, capability))
    if strategy.kernels != "eager":
        yield NO_TRITON.format(asked=f"kernels {strategy.kernels}", gpu=gpu, capability=said)
    if strategy.loss == "liger" and stack.name != PINNED_STACK.name:
        yield NO_TRITON.format(asked="loss liger", gpu=gpu, capability=said)
