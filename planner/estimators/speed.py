"""Seconds of one micro-step, term by term: what binds is what the plan should change.

    compute  tokens · (GEMM + attention FLOPs) / achievable matmul
    memory   elementwise and adapter traffic, logits, dequantization / memory bandwidth
    sums     tensor-parallel sums / link within a machine
    host     Python's and the launches' floor, whatever the GPU
    link     gathered and reduced bytes / link, what comes from host memory / PCIe
    t = M + 0.15·m, M and m the larger and the smaller of max(compute + memory + sums, host) and link

FLOPs: 2 per weight forward, 2 per weight for the activations' gradient, 2 more for a trained weight's, 2 more where a
block is computed again (Kaplan et al., arXiv:2001.08361, for the count of 6 per trained weight).
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.hardware import Gpu
from planner.as_run import as_run
from planner.estimators import calibration as known
from planner.methods import METHODS, adapted_linears, adapter_params, head_params, saved_module_params, trained_blocks
from planner.plan import Bound
from planner.precision import DTYPE_BYTES, FOUR_BIT, items_of, packs_experts, packs_linears
from planner.stack import Stack
from planner.units import GB, GFLOPS, TERA
from remote.contract import Strategy, Task


class StepTime(msgspec.Struct, frozen=True):
    """Seconds of one micro-step on the job's GPUs, and of what comes once per optimizer step."""

    compute_s: float
    memory_s: float
    host_s: float
    link_s: float  # beside the computing: gathered weights, reduced gradients, streamed weights
    summed_s: float  # between products that wait for it: tensor-parallel sums
    once_s: float  # per optimizer step: reductions and the optimizer itself
    forward_share: float  # what an evaluation costs of the same tokens' training

    @property
    def busy_s(self) -> float:
        """Seconds that the GPU or its feeder needs, what goes on beside it left out."""
        return max(self.compute_s + self.memory_s + self.summed_s, self.host_s)

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
        waits = self.host_s > self.compute_s + self.memory_s + self.summed_s
        terms: dict[Bound, float] = {
            "compute": 0.0 if waits else self.compute_s,
            "memory": 0.0 if waits else self.memory_s,
            "host": self.host_s if waits else 0.0,
            "link": max(self.link_s, self.summed_s),
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

    @property
    def fused(self) -> bool:
        return self.strategy.kernels != "eager"

    @property
    def ranks(self) -> int:
        return self.stack.replicas(self.strategy)

    @property
    def recomputes(self) -> int:
        return int(self.strategy.gradient_checkpointing != "off")

    @property
    def passes(self) -> int:
        return 3 + self.recomputes


def _job(architecture: Architecture, strategy: Strategy, stack: Stack, *, task: Task, mean_seq_len: float) -> Job:
    strategy = as_run(architecture, strategy, stack)
    return Job(architecture, strategy, stack, task, strategy.micro_batch_size * mean_seq_len, mean_seq_len)


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
    job = _job(architecture, strategy, stack, task=task, mean_seq_len=mean_seq_len)
    strategy = job.strategy
    bandwidth = known.BANDWIDTH_SHARE * gpu.memory_bandwidth_gb_per_s * GB
    together = job.stack.model_parallel
    inside = _inside_bytes_per_s(gpu, interconnect)
    link = _link_bytes_per_s(inside, strategy)
    return StepTime(
        compute_s=_compute_s(job, gpu) / together,
        memory_s=(_traffic_bytes(job) / together + _dequantized_bytes(job) / together) / bandwidth,
        host_s=_host_s(job),
        link_s=_linked_bytes(job) / link + _fetched_bytes(job) / _host_bytes_per_s(gpu),
        summed_s=_summed_bytes(job) / inside,
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


def flops_of(job: Job) -> float:
    """Floating-point operations of one micro-batch."""
    flops = _flops_by_kernel(job)
    return flops.dense + flops.experts + flops.attention


class Flops(msgspec.Struct, frozen=True):
    """Operations of one micro-batch by the kind of kernel that does them: each has its own share of the best speed."""

    dense: float
    experts: float
    attention: float


@lru_cache  # a search asks for the same job on every card
def _flops_by_kernel(job: Job) -> Flops:
    a, strategy = job.architecture, job.strategy
    backward_share = trained_blocks(a, strategy) / a.depth
    method = METHODS[strategy.method]
    per_weight = 2 + (2 + 2 * job.recomputes) * backward_share + 2 * backward_share * ("weights" in method.moves)
    trains_head = method.moves_all or saved_module_params(a, strategy) > 0
    linears = sum(part.num_layers * part.linear_weights_per_block for part in a.parts)
    dense = linears * per_weight + _head_params(job) * (4 + 2 * trains_head) + _adapter_params(job) * (6 + 2 * job.recomputes)
    return Flops(
        dense=job.tokens * dense,
        experts=job.tokens * (active_weights(a) - linears) * per_weight,
        attention=job.tokens * _attention(job) * (1 + 2.5 + job.recomputes),
    )


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
    """Operations of a forward pass per token."""
    causal = 1.0 if job.architecture.kind == "decoder" else 2.0
    return causal * 2 * sum(part.num_layers * part.query_size * _seen(part, job) for part in job.architecture.parts)


def _seen(part: Architecture, job: Job) -> float:
    """Twice the positions that a token behind a causal mask looks at in the mean. A Mamba block scores no pairs of tokens."""
    if part.mixer == "mamba":
        return 0.0
    skips = part.window is not None and job.strategy.attention == "flash_attention_2"  # sdpa's kernels compute and mask
    seen = min(job.seq_len, part.window) if skips and part.window is not None else job.seq_len
    return seen * (2 - seen / job.seq_len)


def _compute_s(job: Job, gpu: Gpu) -> float:
    """Seconds of the products on one card."""
    flops = _flops_by_kernel(job)
    weighted = flops.dense + flops.attention * _attention_penalty(job, gpu)
    if flops.experts:  # narrow experts make small products
        weighted += flops.experts * (1 + known.EXPERT_HALF_WIDTH / job.architecture.intermediate_size)
    return weighted / _achievable_flops(gpu, job)


def _attention_penalty(job: Job, gpu: Gpu) -> float:
    own = job.stack.name in known.OWN_ATTENTION_STACKS
    return known.ATTENTION_PENALTY if own else known.ATTENTION_PENALTY_BY_CARD.get(gpu.architecture, known.ATTENTION_PENALTY)


def _achievable_flops(gpu: Gpu, job: Job) -> float:
    """Best matmul of this card in the job's dtype."""
    strategy = job.strategy
    flops = gpu.achievable_tflops * TERA * known.COMPUTE_EFFICIENCY
    if job.stack.matmul_dtype != "as_compute":
        return flops * known.LOW_PRECISION_SPEEDUP
    if strategy.autocast == "none" and strategy.param_dtype == "float32" and gpu.fp32_tflops is not None:
        return min(flops, gpu.fp32_tflops * TERA)
    return flops


# ── memory ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _traffic_bytes(job: Job) -> float:
    """Elementwise work: on hidden-sized tensors, on the MLP's, on logits, and the adapters' on what they wrap."""
    a = job.architecture
    beta = known.BETA_FUSED if job.fused else known.BETA_EAGER
    wrapped = 0
    if job.strategy.rank:
        wrapped = sum(times * (linear.in_features + linear.out_features) for linear, times in adapted_linears(a, job.strategy))
    items = items_of(job.strategy)
    wide = 2 if items.norm > items.weight else 1  # norms and the stream between blocks in fp32 instead of 16 bits
    logits = a.vocab_size * known.LOGIT_BYTES[job.strategy.loss] if job.task == "causal_lm" else 0
    blocks = sum(part.num_layers * _elements_per_block(part, fused=job.fused) for part in a.parts)
    return job.tokens * (2 * job.passes * wide * (blocks + beta * wrapped) + logits)


def _elements_per_block(a: Architecture, *, fused: bool) -> float:
    """Elements read and written per token and pass: norms, rotation and activation as they are written, and the rest."""
    norm = known.NORM_FUSED if fused else known.NORM_EAGER[a.norm]
    rotated = (known.ROTARY_FUSED if fused else known.ROTARY_EAGER) * (a.query_size + a.kv_size) if a.rotary else 0.0
    active = known.GATED_MLP if a.gated_mlp else known.PLAIN_MLP
    ffn = a.intermediate_size * max(1, a.experts_per_token)
    return (known.ALPHA + 2 * norm) * a.hidden_size + rotated + active * ffn


def _dequantized_bytes(job: Job) -> float:
    """Unpacking every weight, forward and backward and again where blocks are recomputed, whatever the tokens."""
    quant = job.strategy.quant
    if quant == "none":
        return 0.0
    early = (job.stack.release("transformers") or known.KERNELS_SINCE) < known.KERNELS_SINCE
    kappa = known.KAPPA_EARLY if early and quant.startswith(("gptq", "awq")) else known.KAPPA
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
    experts = sum(part.num_layers * part.num_experts for part in a.parts)
    own = known.HOST_PER_EXPERT * experts if experts and not job.fused else 0.0
    per_block = known.HOST_S_FUSED if job.fused else known.HOST_S_EAGER
    python = per_block * (a.depth + wrapped / 3 + own)
    if strategy.sharding == "fsdp":  # with the first FSDP, peft's policy makes each matrix of an adapter a unit of its own
        python += known.HOST_S_PER_UNIT * (a.depth + 2 * wrapped * (job.stack.fsdp_version == 1))
    return python * job.passes / job.stack.pipeline_parallel_size


# ── link ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _host_bytes_per_s(gpu: Gpu) -> float:
    """Effective bytes per second between the GPU and host memory, in one direction."""
    generation = gpu.pcie_generation or 4
    return known.PCIE_GB_PER_S[min(generation, max(known.PCIE_GB_PER_S))] * gpu.pcie_lanes / 16 * GB


def _inside_bytes_per_s(gpu: Gpu, interconnect: str) -> float:
    """Effective bytes per second between the GPUs of one machine."""
    if interconnect == "nvlink" and gpu.nvlink_gb_per_s:
        return known.NVLINK_SHARE * gpu.nvlink_gb_per_s / 2 * GB
    return _host_bytes_per_s(gpu)


def _link_bytes_per_s(inside: float, strategy: Strategy) -> float:
    """Between data-parallel ranks. A ring enters each machine once, by all its network cards together."""
    if strategy.num_nodes == 1:
        return inside
    return min(inside, known.NODE_LINK_GB_PER_S * GB * strategy.num_gpus / strategy.num_nodes)


def _linked_bytes(job: Job) -> float:
    """Bytes per micro-step and GPU that move beside the computing: gathered weights, gradients reduced in parts."""
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
    return gathered


def _summed_bytes(job: Job) -> float:
    """Bytes per micro-step and GPU of tensor-parallel sums: two per block and direction, and the next product waits."""
    tensor = job.stack.tensor_parallel_size
    sums = 4 * 2 * job.tokens * job.architecture.hidden_size * 2 * job.architecture.depth * (tensor - 1) / tensor
    return sums / job.stack.context_parallel_size


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
    job = _job(architecture, strategy, stack, task=task, mean_seq_len=mean_seq_len)
    narrow = strategy.autocast != "none" or strategy.param_dtype != "float32"
    gflops = known.CPU_GFLOPS_PER_CORE_BF16 if narrow else known.CPU_GFLOPS_PER_CORE_FP32
    return StepTime(
        compute_s=flops_of(job) / (gflops * GFLOPS * cores),
        memory_s=0.0,
        host_s=_host_s(job),
        link_s=0.0,
        summed_s=0.0,
        once_s=0.0,
        forward_share=forward_share(job),
    )
