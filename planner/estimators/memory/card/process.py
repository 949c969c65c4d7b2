"""From live tensors to what nvidia-smi shows, and to what the card must have."""

from __future__ import annotations

from catalogs.hardware import Gpu
from planner.estimators.calibration import (
    BARE_LOOPS,
    CACHED_BY_BARE_LOOP,
    CACHED_BY_TRAINER,
    CONTEXT_BYTES,
    CONTEXT_BYTES_ELSE,
    MARGIN_SHARE,
    MARGIN_SHARE_FULL,
    MAX_ASSUMED_SHARE,
    NCCL_BYTES,
)
from planner.estimators.memory.closed import Filled
from planner.methods import METHODS
from planner.plan import Verdict, VramEstimate
from planner.units import GIB, MIB
from remote.contract import Strategy


def outside_bytes(gpu: Gpu | None, num_gpus: int) -> int:
    """GPU memory that torch's counters never see: the CUDA context, and NCCL's buffers when there are several GPUs."""
    context = CONTEXT_BYTES.get(gpu.name, CONTEXT_BYTES_ELSE) if gpu is not None else CONTEXT_BYTES_ELSE
    return context + (NCCL_BYTES if num_gpus > 1 else 0)


def reserved_bytes(form: Filled, allocated: int, available: int | None) -> int:
    """What the caching allocator holds at most. Near the card's limit it gives cache back instead of failing."""
    scene = form.scene
    whole_logits = scene.strategy.loss not in ("liger", "chunked") and scene.head.returned_bytes > 0
    logits = form.number(scene.numerics.tokens) * scene.head.width if whole_logits else 0
    per_logit, of_block = CACHED_BY_BARE_LOOP if scene.stack.name in BARE_LOOPS else CACHED_BY_TRAINER
    cached = round(per_logit * logits + of_block * max(map(form.number, scene.largest_backward_bytes)))
    if available is None:
        return allocated + cached
    return max(allocated, min(allocated + cached, available))


def required_bytes(allocated: int, outside: int, strategy: Strategy) -> int:
    """What the card must have, the cache left out: allocated, a margin, and what lies outside of torch."""
    margin_share = MARGIN_SHARE_FULL if METHODS[strategy.method].moves_all else MARGIN_SHARE
    return round(allocated * (1 + margin_share)) + outside


def available_bytes(gpu: Gpu | None, gpu_memory_gib: float | None) -> int:
    """What the job may use on one GPU: the stated figure, else what the card's driver reports, else what it is sold with.

    Raises ValueError when neither a GPU nor a figure is given.
    """
    if gpu_memory_gib is not None:
        return round(gpu_memory_gib * GIB)
    if gpu is None:
        raise ValueError("neither a GPU nor a memory figure is given")
    if gpu.driver_memory_mib is not None:
        return gpu.driver_memory_mib * MIB
    return round(gpu.memory_gib * GIB * DRIVER_SHARE)


DRIVER_SHARE = 0.98  # assumed: the median of driver figure and memory as sold over the cards whose driver figure is known


def verdict(vram: VramEstimate, available_bytes: int) -> tuple[Verdict, int]:
    """Whether the job fits, and the bytes to spare beyond what is required (negative: missing).

    "tight": the tensors and the context fit, the margin does not; or too much of the peak is assumed to promise a fit.
    """
    margin = available_bytes - vram.required_bytes
    if margin >= 0:
        return ("tight" if assumed_share(vram) > MAX_ASSUMED_SHARE else "fits"), margin
    return ("tight" if bare_bytes(vram) <= available_bytes else "does_not_fit"), margin


def bare_bytes(vram: VramEstimate) -> int:
    """What the job takes without any margin: tensors, context, NCCL."""
    return vram.allocated_peak_bytes + vram.process_peak_bytes - vram.reserved_peak_bytes


def assumed_share(vram: VramEstimate) -> float:
    """The share of the peak whose components rest on an assumption."""
    assumed = sum(size for name, size in vram.components.items() if vram.basis.get(name) == "assumed")
    return assumed / max(1, vram.allocated_peak_bytes)
