"""What a card itself says about a job on it, in sentences: what its kernels lack, and whose memory it has."""

from __future__ import annotations

from typing import Final

from catalogs.hardware import Gpu
from remote.machine.drivers import unfit_card

BOX_VENDOR: Final = "nvidia"  # the box's pinned stack is built for CUDA
BOX_CPU: Final = "x86_64"  # and for this machine language
STACK: Final = "the trainer's stack is built for"

# To be formatted with `gpu`
NO_KERNELS: Final = "bitsandbytes does not run on {gpu.name}: quant none, or another card"
UNSURE_KERNELS: Final = "{gpu.name}: bitsandbytes support is {gpu.bitsandbytes}; quant none needs none"
SHARED_MEMORY: Final = "{gpu.name} shares its machine's memory: what the system holds is not taken off"
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
