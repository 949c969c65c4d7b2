"""Seconds of one micro-step, term by term: what binds is what the plan should change.

    compute  tokens · (GEMM + attention FLOPs) / achievable matmul
    memory   elementwise and adapter traffic, dequantization, optimizer / memory bandwidth
    host     Python's and the launches' floor, whatever the GPU
    link     gathered, reduced and streamed bytes / link
    t = M + 0.15·m, M and m the larger and the smaller of max(compute + memory, host) and link

FLOPs: 2 per weight forward, 2 per weight for the activations' gradient, 2 more for a trained weight's, 2 more where a
block is computed again (Kaplan et al., arXiv:2001.08361, for the count of 6 per trained weight).
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from catalogs.architectures import Architecture
from catalogs.hardware import Gpu
from planner.estimators import calibration as known
from planner.estimators.memory.step.numerics import fused_kernels
from planner.methods import METHODS, adapted_linears, adapter_params, head_params, saved_module_params, trained_blocks
from planner.plan import Bound
from planner.precision import DTYPE_BYTES, FOUR_BIT, packs_experts, packs_linears
from planner.stack import Stack
from planner.units import GB, GFLOPS, TERA
from remote.contract import Strategy, Task


class StepTime(msgspec.Struct, frozen=True):
    """Seconds of one micro-step on the job's GPUs, and of what comes once per optimizer step."""

    compute_s: float
    memory_s: float
    host_s: float
    link_s: float
    once_s: float  # per optimizer step: reductions and the optimizer itself
    forward_share: float  # what an evaluation costs of the same tokens' training

    @property
    def busy_s(self) -> float:
        """Seconds that the GPU or its feeder needs, the network left out."""
        return max(self.compute_s + self.memory_s, self.host_s)

    @property
    def micro_step_s(self) -> float:
        """One forward and backward. Overlap of computing and communicating is imperfect."""
        larger, smaller = max(self.busy_s, self.link_s), min(self.busy_s, self.link_s)
        return larger + known.IMPERFECT_OVERLAP * smaller

    def step_s(self, accumulation: int) -> float:
        """One optimizer step."""
        return accumulation * self.micro_step_s + self.once_s

    @property
    def bound(self) -> Bound:
        """The term that decides."""
        terms: dict[Bound, float] = {
            "compute": self.compute_s if self.compute_s + self.memory_s >= self.host_s else 0.0,
            "memory": self.memory_s if self.compute_s + self.memory_s >= self.host_s else 0.0,
            "host": self.host_s if self.host_s > self.compute_s + self.memory_s else 0.0,
            "link": self.link_s,
        }
        return max(terms, key=lambda name: terms[name])


class Job(msgspec.Struct, frozen=True):
    """What the terms need."""

    architecture: Architecture
    strategy: Strategy
    stack: Stack
    task: Task
    tokens: float  # per micro-batch of one data-parallel rank
    seq_len: float
    fused: bool

    @property
    def ranks(self) -> int:
        return self.stack.replicas(self.strategy)

    @property
    def recomputes(self) -> int:
        return int(self.strategy.gradient_checkpointing != "off")

    @property
    def passes(self) -> int:
        return 3 + self.recomputes


def step_time(
    architecture: Architecture,
    strategy: Strategy,
    *,
    task: Task,
    gpu: Gpu,
    stack: Stack,
    mean_seq_len: float,
    interconnect: str,
) -> StepTime:
    """Seconds on this card. `mean_seq_len`: tokens per sequence that are computed on, padding included."""
    fused = bool(fused_kernels(strategy, stack)) or stack.name in known.FUSED_STACKS
    job = Job(architecture, strategy, stack, task, strategy.micro_batch_size * mean_seq_len, mean_seq_len, fused)
    bandwidth = known.BANDWIDTH_SHARE * gpu.memory_bandwidth_gb_per_s * GB
    together = job.stack.model_parallel
    link = _link_bytes_per_s(gpu, strategy, interconnect)
    return StepTime(
        compute_s=flops_of(job) / (_achievable_flops(gpu, job) * together),
        memory_s=(_traffic_bytes(job) / together + _dequantized_bytes(job) / together) / bandwidth,
        host_s=_host_s(job),
        link_s=_linked_bytes(job) / link + _fetched_bytes(job) / _host_bytes_per_s(gpu),
        once_s=_step_s(job, gpu, bandwidth) + _reduced_bytes(job) / link,
        forward_share=forward_share(job),
    )


# ── compute ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def active_weights(architecture: Architecture) -> float:
    """Weights of the blocks' matrices that one token meets."""
    return sum(
        part.num_layers * (part.linear_weights_per_block + part.expert_params_per_block - part.idle_params_per_block)
        for part in architecture.parts
    )


@lru_cache  # a search asks for the same job on every card
def flops_of(job: Job) -> float:
    """Floating-point operations of one micro-batch, attention weighted by its lower efficiency."""
    a, strategy = job.architecture, job.strategy
    weights = active_weights(a)
    backward_share = trained_blocks(a, strategy) / a.depth
    per_weight = 2 + (2 + 2 * job.recomputes) * backward_share
    method = METHODS[strategy.method]
    trained = weights * backward_share if "weights" in method.moves else 0.0
    trains_head = method.moves_all or saved_module_params(a, strategy) > 0
    gemm = weights * per_weight + 2 * trained + _head_params(job) * (4 + 2 * trains_head)
    return job.tokens * (gemm + _adapter_params(job) * (6 + 2 * job.recomputes) + _attention(job) * (1 + 2.5 + job.recomputes))


@lru_cache
def forward_share(job: Job) -> float:
    """What a forward pass without gradients costs of a training pass, by operations: about a third where everything trains,
    a half where the base is frozen (its weights get no gradient), less where blocks are recomputed.
    """
    forward = 2 * (active_weights(job.architecture) + _head_params(job) + _adapter_params(job)) + _attention(job)
    return job.tokens * forward / flops_of(job)


def _head_params(job: Job) -> int:
    a = job.architecture
    return a.vocab_size * a.hidden_size if job.task in ("causal_lm", "seq2seq") else head_params(a, job.task)


def _adapter_params(job: Job) -> int:
    return adapter_params(job.architecture, job.strategy) if job.strategy.rank else 0


def _attention(job: Job) -> float:
    """Operations of a forward pass per token, weighted."""
    causal = 1.0 if job.architecture.kind == "decoder" else 2.0
    return known.ATTENTION_PENALTY * causal * 2 * job.seq_len * job.architecture.query_size * job.architecture.depth


def _achievable_flops(gpu: Gpu, job: Job) -> float:
    """Best matmul of this card in the job's dtype."""
    strategy = job.strategy
    flops = gpu.achievable_tflops * TERA * known.COMPUTE_EFFICIENCY
    if job.stack.matmul_dtype != "as_compute":
        return flops * known.LOW_PRECISION_SPEEDUP
    if strategy.autocast == "none" and strategy.param_dtype == "float32" and gpu.fp32_tflops is not None:
        return min(flops, gpu.fp32_tflops * TERA)
    if job.architecture.num_experts:  # narrow experts make small matmuls
        width = job.architecture.intermediate_size
        return flops * width / (width + known.EXPERT_HALF_WIDTH)
    return flops


# ── memory ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _traffic_bytes(job: Job) -> float:
    """Elementwise work on hidden-sized tensors, and the adapters' on inputs and outputs of what they wrap."""
    a = job.architecture
    alpha, beta = (known.ALPHA_FUSED, known.BETA_FUSED) if job.fused else (known.ALPHA_EAGER, known.BETA_EAGER)
    wrapped = 0
    if job.strategy.rank:
        wrapped = sum(times * (linear.in_features + linear.out_features) for linear, times in adapted_linears(a, job.strategy))
    wide = 2 if job.strategy.kbit_upcast != "none" and job.strategy.quant != "none" else 1  # fp32 instead of 16 bits
    return job.tokens * 2 * job.passes * wide * (alpha * a.hidden_size * a.depth + beta * wrapped)


def _dequantized_bytes(job: Job) -> float:
    """Unpacking every weight, forward and backward and again where blocks are recomputed, whatever the tokens."""
    quant = job.strategy.quant
    if quant == "none":
        return 0.0
    kappa = known.KAPPA_GPTQ if quant.startswith(("gptq", "awq")) else known.KAPPA_BITSANDBYTES
    as_linears = job.stack.quantizes_experts(job.architecture.model_type)
    linears, experts = packs_linears(quant), packs_experts(quant, quantized_experts=as_linears)
    packed = sum(
        part.num_layers * (linears * part.linear_weights_per_block + experts * part.expert_params_per_block)
        for part in job.architecture.parts
    )
    return kappa * packed * (2 + job.recomputes)


def _optimizer_bytes(job: Job) -> float:
    """Reading and writing parameters, gradients and states once per step."""
    params = trained_params(job)
    strategy = job.strategy
    item = DTYPE_BYTES[strategy.param_dtype if METHODS[strategy.method].moves_all else strategy.adapter_dtype]
    per_param = known.OPTIMIZER_BYTES_16 if item == 2 else known.OPTIMIZER_BYTES_32
    sharded = job.ranks if strategy.sharding in ("fsdp", "zero1", "zero2", "zero3") else 1
    return per_param * params / sharded / job.stack.model_parallel


def trained_params(job: Job) -> float:
    """Parameters that get a gradient."""
    return adapter_params(job.architecture, job.strategy) + saved_module_params(job.architecture, job.strategy)


# ── host ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _host_s(job: Job) -> float:
    """Python and kernel launches: so much per block and pass, a third of it per wrapped linear, and per expert."""
    a, strategy = job.architecture, job.strategy
    wrapped = sum(times for _, times in adapted_linears(a, strategy)) if strategy.rank else 0
    experts = 0.0 if job.fused else known.HOST_PER_EXPERT * sum(part.num_layers * part.num_experts for part in a.parts)
    per_block = known.HOST_S_FUSED if job.fused else known.HOST_S_EAGER
    return per_block * job.passes * (a.depth + wrapped / 3 + experts) / job.stack.pipeline_parallel_size


# ── link ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _link_bytes_per_s(gpu: Gpu, strategy: Strategy, interconnect: str) -> float:
    """Effective bytes per second between this job's GPUs."""
    if strategy.num_nodes > 1:
        return known.NODE_LINK_GB_PER_S * GB
    if interconnect == "nvlink" and gpu.nvlink_gb_per_s:
        return known.NVLINK_SHARE * gpu.nvlink_gb_per_s / 2 * GB
    return _host_bytes_per_s(gpu)


def _host_bytes_per_s(gpu: Gpu) -> float:
    """Effective bytes per second between the GPU and host memory, in one direction."""
    generation = gpu.pcie_generation or 4
    return known.PCIE_GB_PER_S[min(generation, max(known.PCIE_GB_PER_S))] * gpu.pcie_lanes / 16 * GB


def _fetched_bytes(job: Job) -> float:
    """Bytes per micro-step between a GPU and its host: weights for forward and for backward, where a block is computed again in
    the same visit; checkpoints out and in. What blocks save beyond those is not counted.
    """
    a, strategy = job.architecture, job.strategy
    stored = known.STORED_BYTES_4BIT if strategy.quant in FOUR_BIT else DTYPE_BYTES[strategy.param_dtype]
    weights = 2 * stored * a.num_params / job.ranks if strategy.offload == "params" else 0.0
    weights = 2 * stored * (a.num_params - a.vocab_size * a.hidden_size) if strategy.offload == "stream" else weights
    leave = strategy.gradient_checkpointing == "offloaded" or strategy.activation_offload
    return weights + leave * 2 * 2 * job.tokens * a.hidden_size * a.depth


def _step_s(job: Job, gpu: Gpu, bandwidth: float) -> float:
    """Seconds of the optimizer's step: on the GPU, or on the cores of its host, gradients going there and parameters back."""
    if job.strategy.offload not in ("optimizer", "params"):
        return _optimizer_bytes(job) / bandwidth
    params = trained_params(job) / job.ranks / job.stack.model_parallel
    return params * (2 * 2 / _host_bytes_per_s(gpu) + known.OPTIMIZER_BYTES_HOST / (known.HOST_MEMORY_GB_PER_S * GB))


def _linked_bytes(job: Job) -> float:
    """Bytes per micro-step and GPU: gathered weights, reduced gradients of FSDP, tensor-parallel sums."""
    a, strategy, ranks = job.architecture, job.strategy, job.ranks
    part = (ranks - 1) / ranks
    gathered = 0.0
    if strategy.sharding in ("fsdp", "zero3"):
        stored = known.STORED_BYTES_4BIT if strategy.quant != "none" else 2.0
        visits = 2 + (job.recomputes if strategy.sharding == "zero3" else 0)
        gathered = visits * stored * a.num_params * part
        gathered += 2 * trained_params(job) * part
    if strategy.sharding == "zero2":  # its gradients are in parts, so every micro-step reduces them
        gathered += 2 * trained_params(job) * part
    tensor = job.stack.tensor_parallel_size
    sums = 4 * 2 * job.tokens * a.hidden_size * 2 * a.depth * (tensor - 1) / tensor
    return gathered + sums / job.stack.context_parallel_size


def _reduced_bytes(job: Job) -> float:
    """Bytes per optimizer step and GPU: gradients summed over replicas."""
    if job.strategy.sharding in ("none", "device_map", "fsdp", "zero2", "zero3"):
        return 0.0
    return 2 * 2 * trained_params(job) * (job.ranks - 1) / job.ranks / job.stack.model_parallel


# ── what follows from a step ───────────────────────────────────────────────────────────────────────────────────────────


def tokens_per_step(strategy: Strategy, stack: Stack, mean_seq_len: float) -> float:
    """Tokens that the whole job computes on in one optimizer step."""
    return strategy.micro_batch_size * mean_seq_len * strategy.gradient_accumulation_steps * stack.replicas(strategy)


def run_class(architecture: Architecture, strategy: Strategy, gpu: Gpu, step: StepTime) -> known.RunClass:
    """Which runs this one is like, as far as trusting its estimate goes: the class with the widest spread that applies."""
    applies: dict[known.RunClass, bool] = {
        "link_bound": step.bound == "link",
        "other_card": gpu.architecture not in known.MEASURED_ARCHITECTURES,
        "host_bound": step.bound == "host",
        "full": "weights" in METHODS[strategy.method].moves,
        "experts": architecture.num_experts > 0,
        "several_gpus": strategy.num_gpus > 1,
        "one_gpu": True,
    }
    return next(name for name in known.SPREADS if applies[name])


def cpu_step_time(
    architecture: Architecture, strategy: Strategy, *, task: Task, stack: Stack, mean_seq_len: float, cores: float
) -> StepTime:
    """Seconds of one micro-step on the cores of a machine without a GPU."""
    job = Job(architecture, strategy, stack, task, strategy.micro_batch_size * mean_seq_len, mean_seq_len, fused=False)
    narrow = strategy.autocast != "none" or strategy.param_dtype != "float32"
    gflops = known.CPU_GFLOPS_PER_CORE_BF16 if narrow else known.CPU_GFLOPS_PER_CORE_FP32
    return StepTime(
        compute_s=flops_of(job) / (gflops * GFLOPS * cores),
        memory_s=0.0,
        host_s=_host_s(job),
        link_s=0.0,
        once_s=0.0,
        forward_share=forward_share(job),
    )
