"""Seconds of one micro-step, term by term: what binds is what the plan should change.

    compute  tokens · (GEMM + attention FLOPs) / achievable matmul
    memory   elementwise and adapter traffic, logits, dequantization / memory bandwidth
    sums     tensor-parallel sums / link within a machine
    host     Python's and the launches' floor, whatever the GPU
    link     gathered and reduced bytes / link, what comes from host memory / PCIe
    disk     blocks that wait there for want of RAM / what a disk reads
    t = M + 0.15·m, M and m the larger and the smaller of max(compute + memory + sums, host) and max(link, disk)

What is divided by a card's rates here is counted in demand.py, for any card.
"""

from __future__ import annotations

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.hardware import Gpu
from planner.estimators import calibration as known
from planner.estimators.memory.step.numerics import has_flash
from planner.estimators.time.attention import EAGER, attention_penalty, writes_in_fp32
from planner.estimators.time.demand import Demand, demand_of, flops_of, forward_share
from planner.estimators.time.launches import host_s, played_s
from planner.estimators.time.links import Luck, disk_bytes_per_s, host_bytes_per_s, inside_bytes_per_s, link_bytes_per_s
from planner.estimators.time.timed import Job, timed
from planner.plan import Bound
from planner.strategy.stack import Stack
from planner.units import GB, GFLOPS, TERA
from remote.contract import Strategy, Task, has_tf32, ungraphed


class StepTime(msgspec.Struct, frozen=True):
    """Seconds of one micro-step on the job's GPUs, and of what comes once per optimizer step."""

    compute_s: float
    memory_s: float
    host_s: float
    held_s: float  # of Python that the GPU waits for, as it may be two of FSDP's units ahead and no more
    link_s: float  # beside the computing: gathered weights, reduced gradients, streamed weights
    summed_s: float  # between products that wait for it: tensor-parallel sums, and what DeepSpeed gathers, a head from the host
    once_s: float  # per optimizer step: reductions and the optimizer itself
    walked_s: float  # per optimizer step: Python's walk through what is trained, beside the GPU's own part
    forward_share: float  # what an evaluation costs of the same tokens' training
    disk_s: float = 0.0  # beside both: blocks that wait on the host's disk
    stages: int = 1  # of a pipeline: a step's first and last micro-batches find the other stages idle

    @property
    def busy_s(self) -> float:
        """Seconds that the GPU or its feeder needs, what goes on beside it left out."""
        return max(self.compute_s + self.memory_s + self.summed_s, self.host_s) + self.held_s

    @property
    def micro_step_s(self) -> float:
        """One forward and backward. Overlap of computing and communicating is imperfect."""
        arriving_s = max(self.link_s, self.disk_s)
        larger, smaller = max(self.busy_s, arriving_s), min(self.busy_s, arriving_s)
        return larger + known.IMPERFECT_OVERLAP * smaller

    def step_s(self, accumulation: int) -> float:
        """One optimizer step: a pipeline is full once each of its stages has a micro-batch (GPipe, arXiv:1811.06965)."""
        return (accumulation + self.stages - 1) * self.micro_step_s + max(self.once_s, self.walked_s)

    def on_host(self, factor: float) -> StepTime:
        """The step where everything that waits for Python takes `factor` times as long."""
        return msgspec.structs.replace(
            self, host_s=factor * self.host_s, held_s=factor * self.held_s, walked_s=factor * self.walked_s
        )

    @property
    def bound(self) -> Bound:
        """The term that decides."""
        waits = self.host_s > self.compute_s + self.memory_s + self.summed_s
        terms: dict[Bound, float] = {
            "compute": 0.0 if waits else self.compute_s,
            "memory": 0.0 if waits else self.memory_s,
            "host": (self.host_s if waits else 0.0) + self.held_s,
            "link": max(self.link_s, self.summed_s),
            "disk": self.disk_s,
        }
        return max(terms, key=lambda name: terms[name])


def step_time(
    architecture: Architecture,
    strategy: Strategy,
    *,
    task: Task,
    gpu: Gpu,
    stack: Stack,
    mean_seq_len: float,
    interconnect: str,
    tf32: bool = False,
    cuda_graphs: bool = False,
) -> StepTime:
    """Seconds on this card. `mean_seq_len`: tokens per sequence that are computed on, padding included. `tf32`: fp32 products
    in TF32, where the card has it. `cuda_graphs`: what is launched is recorded, where that can be.
    """
    demand = demand_of(architecture, strategy, stack, task=task, mean_seq_len=mean_seq_len, flash=has_flash(gpu))
    return step_on(gpu, demand, interconnect=interconnect, tf32=tf32, cuda_graphs=cuda_graphs)


def step_on(
    gpu: Gpu,
    demand: Demand,
    *,
    interconnect: str,
    tf32: bool = False,
    cuda_graphs: bool = False,
    provider: str | None = None,
    luck: Luck = "p50",
) -> StepTime:
    """The same of what was asked of cards like this one before: that is most of the work, and alike on a hundred cards.
    `provider`: whose disk it is; `luck`: with disks and networks that are as fast or as slow as such are.
    """
    job, bandwidth = demand.job, known.BANDWIDTH_SHARE * gpu.memory_bandwidth_gb_per_s * GB
    inside = inside_bytes_per_s(gpu, interconnect)
    link = link_bytes_per_s(inside, job.strategy, gpu, luck=luck)
    disk: float = getattr(disk_bytes_per_s(provider), luck) * job.strategy.num_nodes / job.strategy.num_gpus  # of one for all
    gathered_s, together = demand.waited_bytes / link, job.stack.model_parallel
    return StepTime(
        compute_s=_compute_s(demand, gpu, tf32=tf32) / together,
        memory_s=demand.moved_bytes / together / bandwidth,
        host_s=played_s(demand.job) if cuda_graphs and not ungraphed(demand.job.strategy, demand.job.task) else demand.host_s,
        held_s=demand.held_s,
        link_s=demand.linked_bytes / link - gathered_s + demand.fetched_bytes / host_bytes_per_s(gpu),
        summed_s=demand.summed_bytes / inside + gathered_s + demand.awaited_bytes / host_bytes_per_s(gpu),
        once_s=_step_s(demand, gpu, bandwidth) + demand.reduced_bytes / link,
        walked_s=demand.walked_s,
        forward_share=demand.forward_share,
        disk_s=demand.read_bytes / disk,
        stages=job.stack.pipeline_parallel_size,
    )


# ── what a card makes of it ────────────────────────────────────────────────────────────────────────────────────────────


def _compute_s(demand: Demand, gpu: Gpu, *, tf32: bool) -> float:
    """Seconds of the products on one card. A product of few tokens takes as long as reading its weights does."""
    job, flops, achievable = demand.job, demand.flops, _achievable_flops(gpu)
    least_tokens = achievable * known.NARROW_BYTES / (2 * known.BANDWIDTH_SHARE * gpu.memory_bandwidth_gb_per_s * GB)
    dense = flops.dense * max(1.0, least_tokens / job.tokens)
    if flops.experts:  # narrow experts make small products, and each sees few of the tokens
        a = job.architecture
        own_tokens = job.tokens * a.experts_per_token / a.num_experts
        dense += flops.experts * max(1 + known.EXPERT_HALF_WIDTH / a.intermediate_size, least_tokens / own_tokens)
    penalty = attention_penalty(job, gpu, demand.kernel)
    return dense / _product_flops(gpu, job, tf32=tf32) + flops.attention * penalty / _score_flops(gpu, demand, tf32=tf32)


def _achievable_flops(gpu: Gpu) -> float:
    """Best 16-bit matmul of this card."""
    return gpu.achievable_tflops * TERA * known.COMPUTE_EFFICIENCY


def _product_flops(gpu: Gpu, job: Job, *, tf32: bool) -> float:
    """The same of what the job's linears are multiplied in."""
    strategy, flops, narrow = job.strategy, _achievable_flops(gpu), job.stack.matmul_dtype
    if gpu.architecture in known.MULTIPLIES_IN.get(narrow, ()):
        return flops * (known.NVFP4_SPEEDUP if narrow == "nvfp4" else known.LOW_PRECISION_SPEEDUP)
    if strategy.autocast == "none" and strategy.param_dtype == "float32":
        return _fp32_flops(gpu, flops, tf32=tf32)
    return flops


def _fp32_flops(gpu: Gpu, flops: float, *, tf32: bool) -> float:
    """The same of fp32 products, of `flops` in 16 bits: in TF32 half of these, where that is more than fp32 itself makes."""
    if gpu.fp32_tflops is None:
        return flops
    in_fp32 = min(flops, gpu.fp32_tflops * TERA)
    in_tf32 = tf32 and gpu.vendor == "nvidia" and has_tf32(gpu.compute_capability)
    return max(in_fp32, known.TF32_SPEED * flops) if in_tf32 else in_fp32


def _score_flops(gpu: Gpu, demand: Demand, *, tf32: bool) -> float:
    """The same of what attention is multiplied in: fp32 where all is, and where torch writes it out (sdp_utils_cpp: it widens
    16-bit queries unless told otherwise). Kernels of attention's own heed no wish for TF32: it is for cuBLAS's products.
    """
    strategy, flops = demand.job.strategy, _achievable_flops(gpu)
    wide = strategy.autocast == "none" and strategy.param_dtype == "float32"
    if wide or writes_in_fp32(demand.kernel):
        return _fp32_flops(gpu, flops, tf32=tf32 and demand.kernel in EAGER)
    return flops


def _step_s(demand: Demand, gpu: Gpu, bandwidth: float) -> float:
    """Seconds of the optimizer's step: on the GPU, or on the cores of its host, gradients going there and parameters back."""
    job = demand.job
    if job.strategy.offload not in ("optimizer", "params"):
        return demand.stepped_bytes / bandwidth + demand.orthogonalized_flops / _achievable_flops(gpu)
    params = job.trained.params / job.ranks / job.stack.weights_parallel
    there_and_back = 2 * known.NARROW_BYTES / host_bytes_per_s(gpu)
    return params * (there_and_back + known.OPTIMIZER_BYTES_HOST / (known.HOST_MEMORY_GB_PER_S * GB))


# ── what the cores of a machine make of it ─────────────────────────────────────────────────────────────────────────────


def cpu_step_time(
    architecture: Architecture, strategy: Strategy, *, task: Task, stack: Stack, mean_seq_len: float, cores: float
) -> StepTime:
    """Seconds of one micro-step on the cores of a machine without a GPU."""
    job = timed(architecture, strategy, stack, task=task, mean_seq_len=mean_seq_len)
    narrow = strategy.autocast != "none" or strategy.param_dtype != "float32"
    gflops = known.CPU_GFLOPS_PER_CORE_BF16 if narrow else known.CPU_GFLOPS_PER_CORE_FP32
    return StepTime(
        compute_s=flops_of(job) / (gflops * GFLOPS * cores),
        memory_s=0.0,
        host_s=host_s(job),
        held_s=0.0,
        link_s=0.0,
        summed_s=0.0,
        once_s=0.0,
        walked_s=0.0,
        forward_share=forward_share(job),
    )
