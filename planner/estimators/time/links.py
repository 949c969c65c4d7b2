"""What a micro-step moves over links: between GPUs, between machines, and to and from host memory; and how fast each is."""

from __future__ import annotations

import math
from typing import Final, Literal

from catalogs.hardware import Gpu
from planner.estimators import calibration as known
from planner.estimators.memory.held.offloading import fetched_head_bytes, streamed_blocks, streaming_of, visits_of
from planner.estimators.time.timed import Job
from planner.plan import Range
from planner.strategy.cuts import cut_of
from planner.strategy.precision import DTYPE_BYTES
from planner.units import GB
from remote.contract import Strategy, disk_blocks, parted

Luck = Literal["p10", "p50", "p90"]  # with what of a machine no price list states: p10 with the fast end
GPUS_ON_A_BOARD: Final = 8  # derived: of NVIDIA's HGX and of OAM baseboards; with fewer a part of one is rented


def host_bytes_per_s(gpu: Gpu) -> float:
    """Effective bytes per second between the GPU and host memory, in one direction."""
    if gpu.host_link_gb_per_s is not None:
        return known.NVLINK_SHARE * gpu.host_link_gb_per_s / 2 * GB
    generation = known.SLOWEST_PCIE if gpu.pcie_generation is None else gpu.pcie_generation
    return known.PCIE_GB_PER_S[min(generation, max(known.PCIE_GB_PER_S))] * gpu.pcie_lanes / 16 * GB


def disk_bytes_per_s(provider: str | None = None) -> Range:
    """Bytes per second that the disk of a box ordered there gives back in large pieces, p10 the fast end; of what nobody
    states, and where it is any box, how far disks lie apart.
    """
    return known.ORDERED_DISK_BYTES_PER_S.get(provider or "", known.READ_BYTES_PER_S)


def node_gbit_per_s(gpu: Gpu, num_gpus: int) -> Range:
    """Gb/s between machines with so many of these GPUs each, p10 the fast end, by what such machines are known to have."""
    board_of_eight = num_gpus >= GPUS_ON_A_BOARD and gpu.form_factor != "pcie"
    boards = known.BOARD_OF_EIGHT_GBIT_PER_S if board_of_eight else {}
    return boards.get(gpu.architecture, known.OTHER_GBIT_PER_S)


def inside_bytes_per_s(gpu: Gpu, interconnect: str) -> float:
    """Effective bytes per second between the GPUs of one machine: boards of several (HGX, OAM) are wired, cards where said."""
    wired = interconnect == "nvlink" or (interconnect == "unknown" and gpu.form_factor != "pcie")
    if wired and gpu.nvlink_gb_per_s:
        return known.NVLINK_SHARE * gpu.nvlink_gb_per_s / 2 * GB
    return host_bytes_per_s(gpu)


def link_bytes_per_s(inside: float, strategy: Strategy, gpu: Gpu, *, luck: Luck = "p50") -> float:
    """Between data-parallel ranks. A ring enters each machine once, by all its network cards together."""
    if strategy.num_nodes == 1:
        return inside
    gbit_per_s: float = getattr(node_gbit_per_s(gpu, strategy.num_gpus // strategy.num_nodes), luck)
    return min(inside, gbit_per_s * GB / 8)


def linked_bytes(job: Job) -> float:
    """Bytes per micro-step and GPU that move beside the computing: gathered weights, gradients reduced in parts."""
    strategy = job.strategy
    moved = 0.0
    cut = cut_of(strategy)
    if cut.weights:
        visits = 2 + (job.recomputes if cut.engine == "deepspeed" else 0)
        moved += visits * _gathered_bytes(job)
    if cut.gradients:  # gradients in parts: every micro-step reduces them
        moved += _gradient_bytes(job)
    return moved * _of_others(job)


def waited_bytes(job: Job) -> float:
    """Of those, what no computing goes on beside: DeepSpeed reads ahead by hidden_size² weights, which is less than a matrix of
    an MLP (transformers' "auto" for `stage3_prefetch_bucket_size`).
    """
    cut = cut_of(job.strategy)
    return linked_bytes(job) if cut.weights and cut.engine == "deepspeed" else 0.0


def _gathered_bytes(job: Job) -> float:
    """A rank's weights as they cross a link to be computed with: packed, or in what autocast computes in."""
    strategy = job.strategy
    if strategy.quant != "none" or strategy.autocast == "none":
        return job.weights.before_upcast / job.stack.weights_parallel
    return job.architecture.num_params * DTYPE_BYTES[strategy.autocast] / job.stack.weights_parallel


def _gradient_bytes(job: Job) -> float:
    """A rank's gradients as they are reduced: in their own dtype under DDP; in what autocast computes in by accelerate's FSDP
    and DeepSpeed's engine.
    """
    strategy = job.strategy
    own = cut_of(strategy).engine == "torch" or strategy.autocast == "none"
    item = job.trained.item if own else DTYPE_BYTES[strategy.autocast]
    return job.trained.params * item / job.stack.weights_parallel


def summed_bytes(job: Job) -> float:
    """Bytes per micro-step and GPU of tensor-parallel sums: two per block and direction, and the next product waits."""
    tensor = job.stack.tensor_parallel_size
    summed = job.tokens * job.architecture.hidden_size * known.NARROW_BYTES
    rings = known.SUMS_PER_BLOCK * job.architecture.depth * known.RING_TRIPS * (tensor - 1) / tensor
    return rings * summed / job.stack.context_parallel_size


def fetched_bytes(job: Job) -> float:
    """Bytes per micro-step between a GPU and its host: weights for forward and for backward, where a block is computed again in
    the same visit; checkpoints out and in. What blocks save beyond those is not counted. Of streamed blocks those in slots at
    the turn-around are there already, and one visit may serve several micro-batches.
    """
    a, strategy = job.architecture, job.strategy
    leave = strategy.gradient_checkpointing == "offloaded" or strategy.activation_offload
    held_here = job.stack.context_parallel_size * job.stack.pipeline_parallel_size  # tensor-parallel ranks each keep the whole
    checkpoints = leave * known.NARROW_BYTES * job.tokens * a.hidden_size * a.depth / held_here
    return 2 * (_weights_from_host(job) + checkpoints)


def _weights_from_host(job: Job) -> float:
    match job.strategy.offload:
        case "params":
            return job.weights.before_upcast / job.ranks / job.stack.weights_parallel
        case "stream":
            away = streamed_blocks(job.strategy, job.weights)
            visited = sum(away) - max(away, default=0) * min(len(away), streaming_of(job.strategy).num_slots)
            return visited * _visits_per_micro_batch(job.strategy)
        case _:
            return 0.0


def awaited_bytes(job: Job) -> float:
    """Bytes per micro-step from the host that computing waits for: of a vocabulary that passes by the rows that were asked
    for, and the head for each visit's losses.
    """
    a = job.architecture
    if not (head := fetched_head_bytes(a, job.strategy, job.weights)):
        return 0.0
    rows = job.tokens * (a.embedding_size or a.hidden_size) * job.weights.lm_head_item
    return head * _visits_per_micro_batch(job.strategy) + rows


def read_bytes(job: Job) -> float:
    """Bytes per micro-step that come from the host's disk: of the blocks that wait there, in both directions."""
    if not (number := disk_blocks(job.strategy)):
        return 0.0
    away = streamed_blocks(job.strategy, job.weights)
    share = sum(parted(away, number)[1]) / sum(away)
    return 2 * share * _weights_from_host(job)


def _visits_per_micro_batch(strategy: Strategy) -> float:
    """How often a streamed block comes by for one micro-batch in one direction: less than once where it serves several."""
    passes = strategy.gradient_accumulation_steps
    return math.ceil(passes / visits_of(strategy)) / passes


def reduced_bytes(job: Job) -> float:
    """Bytes per optimizer step and GPU: gradients summed over replicas."""
    if cut_of(job.strategy).gradients:
        return 0.0
    return known.RING_TRIPS * _gradient_bytes(job) * _of_others(job)


def _of_others(job: Job) -> float:
    """The share of a tensor that lies with the others of a ring: replicas, and the ranks that share one context."""
    ring = job.ranks * job.stack.context_parallel_size
    return (ring - 1) / ring
