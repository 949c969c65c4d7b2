"""From live tensors to what nvidia-smi shows, and to what the card must have."""

from __future__ import annotations

from typing import NamedTuple

from catalogs.hardware import Gpu
from planner.estimators.calibration import (
    BARE_LOOPS,
    CACHED_BY_BARE_LOOP,
    CACHED_BY_TRAINER,
    CONTEXT_BYTES,
    CONTEXT_BYTES_ELSE,
    CONTEXT_PER_MULTIPROCESSOR,
    MARGIN_SHARE,
    MARGIN_SHARE_FULL,
    MAX_ASSUMED_SHARE,
    NCCL_BYTES,
    TOTAL_SHARE,
    WITHHELD_BYTES,
)
from planner.estimators.memory.closed import Filled
from planner.methods import METHODS
from planner.plan import ByteBasis, Verdict, VramEstimate
from planner.strategy.cuts import cut_of
from planner.units import GIB, MIB
from remote.contract import Strategy


class Outside(NamedTuple):
    """GPU memory that torch's counters never see."""

    context_bytes: int  # CUDA's, with its libraries
    context_basis: ByteBasis
    nccl_bytes: int  # where several processes speak to one another

    @property
    def num_bytes(self) -> int:
        """In all."""
        return self.context_bytes + self.nccl_bytes

    @property
    def assumed_bytes(self) -> int:
        """What of it nobody measured and nothing says."""
        return self.context_bytes if self.context_basis == "assumed" else 0


def outside_of(gpu: Gpu | None, strategy: Strategy) -> Outside:
    """The CUDA context of this card, and NCCL's buffers; layers spread by device_map are one process, which needs none."""
    speaks = strategy.num_gpus > 1 and not cut_of(strategy).spreads_blocks
    num_bytes, basis = context_of(gpu)
    return Outside(num_bytes, basis, NCCL_BYTES if speaks else 0)


def context_of(gpu: Gpu | None) -> tuple[int, ByteBasis]:
    """Bytes of a CUDA context and what they rest on: measured of this card, derived from how many multiprocessors it has, else
    the most that was measured of any, which is assumed of a card that is named.
    """
    if gpu is None:
        return CONTEXT_BYTES_ELSE, "derived"
    if gpu.name in CONTEXT_BYTES:
        return CONTEXT_BYTES[gpu.name], "measured"
    if gpu.multiprocessors is not None and gpu.memory_type is not None:
        return round(CONTEXT_PER_MULTIPROCESSOR[gpu.memory_type] * gpu.multiprocessors), "derived"
    return CONTEXT_BYTES_ELSE, "assumed"


def reserved_bytes(form: Filled, allocated: int, available: int | None) -> int:
    """What the caching allocator holds at most. Near the card's limit it gives cache back instead of failing."""
    scene = form.scene
    logits = form.number(scene.numerics.tokens) * scene.head.width if scene.head.returned_bytes > 0 else 0
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
    """What the job may use on one GPU, its context included: the stated figure, else what torch totals on such a card, else
    what its driver reports less what drivers keep back, else a share of what it is sold with.

    Raises ValueError when neither a GPU nor a figure is given.
    """
    if gpu_memory_gib is not None:
        return round(gpu_memory_gib * GIB)
    if gpu is None:
        raise ValueError("neither a GPU nor a memory figure is given")
    if gpu.torch_memory_gib is not None:
        return round(gpu.torch_memory_gib * GIB)
    if gpu.driver_memory_mib is not None:
        withheld = max(WITHHELD_BYTES.values()) if gpu.memory_type is None else WITHHELD_BYTES[gpu.memory_type]
        return gpu.driver_memory_mib * MIB - withheld
    return as_sold_bytes(gpu.memory_gib)


def as_sold_bytes(memory_gib: float) -> int:
    """What a job may use of any card that is sold with so much."""
    return round(memory_gib * GIB * TOTAL_SHARE)


class Needs(NamedTuple):
    """What of an estimate decides whether a card holds the job."""

    required_bytes: int
    bare_bytes: int  # without any margin
    assumed_bytes: int  # of these, what rests on an assumption

    @property
    def assumed_share(self) -> float:
        """Of all that is judged."""
        return self.assumed_bytes / max(1, self.bare_bytes)

    def beside(self, here: Outside, elsewhere: Outside) -> Needs:
        """These needs with the bytes that lie outside of torch `here` in the place of those `elsewhere`."""
        more, more_assumed = here.num_bytes - elsewhere.num_bytes, here.assumed_bytes - elsewhere.assumed_bytes
        return Needs(self.required_bytes + more, self.bare_bytes + more, self.assumed_bytes + more_assumed)


def needs_of(vram: VramEstimate) -> Needs:
    """What of the estimate is judged."""
    tensors = sum(size for name, size in vram.components.items() if vram.basis.get(name) == "assumed")
    return Needs(vram.required_bytes, bare_bytes(vram), tensors + vram.assumed_outside_bytes)


def verdict(vram: VramEstimate, available_bytes: int) -> tuple[Verdict, int]:
    """As `judged` of what the estimate says."""
    return judged(needs_of(vram), available_bytes)


def judged(needs: Needs, available_bytes: int) -> tuple[Verdict, int]:
    """Whether the job fits, and the bytes to spare beyond what is required (negative: missing).

    "tight": the tensors and the context fit, the margin does not; or too much of the peak is assumed to promise a fit.
    """
    margin = available_bytes - needs.required_bytes
    if margin >= 0:
        return ("tight" if needs.assumed_share > MAX_ASSUMED_SHARE else "fits"), margin
    return ("tight" if needs.bare_bytes <= available_bytes else "does_not_fit"), margin


def bare_bytes(vram: VramEstimate) -> int:
    """What the job takes without any margin: tensors, context, NCCL."""
    return vram.judged_bytes + vram.process_peak_bytes - vram.reserved_peak_bytes


def assumed_share(vram: VramEstimate) -> float:
    """The share of what is judged, tensors, context and NCCL, that rests on an assumption."""
    return needs_of(vram).assumed_share
