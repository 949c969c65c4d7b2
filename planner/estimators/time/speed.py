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
from typing import Final

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.hardware import Gpu
from planner.estimators import calibration as known
from planner.estimators.memory.held.optimizers import matrices_of, state_bytes
from planner.estimators.memory.step.numerics import AttentionKernel, attention_kernel, has_flash
from planner.estimators.time.attention import attention_flops, attention_penalty, scored_bytes, writes_in_fp32
from planner.estimators.time.launches import host_s, walked_s
from planner.estimators.time.links import (
    fetched_bytes,
    host_bytes_per_s,
    inside_bytes_per_s,
    link_bytes_per_s,
    linked_bytes,
    reduced_bytes,
    summed_bytes,
    waited_bytes,
)
from planner.estimators.time.timed import Job, timed
from planner.methods import (
    METHODS,
    adapted_linears,
    adapter_params,
    expert_params,
    head_params,
    trained_blocks,
    trains_head,
)
from planner.plan import Bound
from planner.strategy.cuts import cut_of
from planner.strategy.precision import items_of, packs_experts, packs_linears, quantization_of
from planner.strategy.stack import Stack
from planner.units import GB, GFLOPS, TERA
from remote.contract import Strategy, Task

SPOKEN: Final[frozenset[Task]] = frozenset({"causal_lm", "seq2seq"})  # tasks that score the whole vocabulary at each token
LOGITS_MADE_AGAIN: Final = frozenset({"chunked"})  # losses that multiply by the head once more in backward


class StepTime(msgspec.Struct, frozen=True):
    """Seconds of one micro-step on the job's GPUs, and of what comes once per optimizer step."""

    compute_s: float
    memory_s: float
    host_s: float
    held_s: float  # of Python that the GPU waits for, as it may be two of FSDP's units ahead and no more
    link_s: float  # beside the computing: gathered weights, reduced gradients, streamed weights
    summed_s: float  # between products that wait for it: tensor-parallel sums, and what DeepSpeed gathers
    once_s: float  # per optimizer step: reductions and the optimizer itself
    walked_s: float  # per optimizer step: Python's walk through what is trained, beside the GPU's own part
    forward_share: float  # what an evaluation costs of the same tokens' training

    @property
    def busy_s(self) -> float:
        """Seconds that the GPU or its feeder needs, what goes on beside it left out."""
        return max(self.compute_s + self.memory_s + self.summed_s, self.host_s) + self.held_s

    @property
    def micro_step_s(self) -> float:
        """One forward and backward. Overlap of computing and communicating is imperfect."""
        larger, smaller = max(self.busy_s, self.link_s), min(self.busy_s, self.link_s)
        return larger + known.IMPERFECT_OVERLAP * smaller

    def step_s(self, accumulation: int) -> float:
        """One optimizer step."""
        return accumulation * self.micro_step_s + max(self.once_s, self.walked_s)

    def on_host(self, factor: float) -> StepTime:
        """The same where everything that waits for Python takes so many times as long."""
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
) -> StepTime:
    """Seconds on this card. `mean_seq_len`: tokens per sequence that are computed on, padding included."""
    demand = demand_of(architecture, strategy, stack, task=task, mean_seq_len=mean_seq_len, flash=has_flash(gpu))
    return step_on(gpu, demand, interconnect=interconnect)


def step_on(gpu: Gpu, demand: Demand, *, interconnect: str) -> StepTime:
    """The same of what was asked of cards like this one before: that is most of the work, and alike on a hundred cards."""
    job, bandwidth = demand.job, known.BANDWIDTH_SHARE * gpu.memory_bandwidth_gb_per_s * GB
    inside = inside_bytes_per_s(gpu, interconnect)
    link = link_bytes_per_s(inside, job.strategy)
    gathered_s, together = demand.waited_bytes / link, job.stack.model_parallel
    return StepTime(
        compute_s=_compute_s(demand, gpu) / together,
        memory_s=demand.moved_bytes / together / bandwidth,
        host_s=demand.host_s,
        held_s=demand.held_s,
        link_s=demand.linked_bytes / link - gathered_s + demand.fetched_bytes / host_bytes_per_s(gpu),
        summed_s=demand.summed_bytes / inside + gathered_s,
        once_s=_step_s(demand, gpu, bandwidth) + demand.reduced_bytes / link,
        walked_s=demand.walked_s,
        forward_share=demand.forward_share,
    )


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What a job asks of its cards, whichever these are, as long as they have fused attention or all lack it."""

    job: Job
    kernel: AttentionKernel
    flops: Flops
    moved_bytes: float  # per micro-step, through the card's memory
    linked_bytes: float  # per micro-step, between cards
    waited_bytes: float  # of those, what no computing goes on beside
    fetched_bytes: float  # per micro-step, from and to the host
    summed_bytes: float
    reduced_bytes: float  # per optimizer step
    stepped_bytes: float  # per optimizer step, through the card's memory
    orthogonalized_flops: float  # per optimizer step
    host_s: float
    held_s: float
    walked_s: float  # per optimizer step
    forward_share: float


def demand_of(
    architecture: Architecture, strategy: Strategy, stack: Stack, *, task: Task, mean_seq_len: float, flash: bool
) -> Demand:
    """All terms of a step's time that no rate of a card is in. `flash`: whether the cards have fused attention."""
    job = timed(architecture, strategy, stack, task=task, mean_seq_len=mean_seq_len)
    kernel = attention_kernel(architecture, job.strategy, stack, flash=flash)
    return Demand(
        job=job,
        kernel=kernel,
        flops=_flops_by_kernel(job),
        moved_bytes=_traffic_bytes(job) + scored_bytes(job, kernel) + _dequantized_bytes(job),
        linked_bytes=linked_bytes(job),
        waited_bytes=waited_bytes(job),
        fetched_bytes=fetched_bytes(job),
        summed_bytes=summed_bytes(job),
        reduced_bytes=reduced_bytes(job),
        stepped_bytes=_optimizer_bytes(job),
        orthogonalized_flops=_orthogonalized_flops(job),
        host_s=host_s(job),
        held_s=_held_s(job),
        walked_s=walked_s(job),
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
    linears = sum(part.num_layers * part.linear_weights_per_block for part in a.parts)
    per_head_weight = 4 + 2 * trains_head(a, strategy) + 2 * (strategy.loss in LOGITS_MADE_AGAIN)
    dense = linears * per_weight + _head_params(job) * per_head_weight + _adapter_params(job) * (6 + 2 * job.recomputes)
    return Flops(
        dense=job.tokens * dense,
        experts=job.tokens * (active_weights(a) - linears) * per_weight,
        attention=job.tokens * attention_flops(job) * (1 + known.ATTENTION_BACKWARD + job.recomputes),
    )


@lru_cache
def forward_share(job: Job) -> float:
    """What a forward pass without gradients costs of a training pass, by operations: about a third where everything trains,
    a half where the base is frozen (its weights get no gradient), less where blocks are recomputed.
    """
    forward = 2 * (active_weights(job.architecture) + _head_params(job) + _adapter_params(job)) + attention_flops(job)
    return job.tokens * forward / flops_of(job)


def _head_params(job: Job) -> int:
    a = job.architecture
    return a.vocabulary_size if job.task in SPOKEN else head_params(a, job.task)


def _adapter_params(job: Job) -> int:
    """Trained parameters that each token is multiplied with."""
    if not job.strategy.rank:
        return 0
    return adapter_params(job.architecture, job.strategy) - expert_params(job.architecture, job.strategy)


def _compute_s(demand: Demand, gpu: Gpu) -> float:
    """Seconds of the products on one card. A product of few tokens takes as long as reading its weights does."""
    job, flops, achievable = demand.job, demand.flops, _achievable_flops(gpu)
    least_tokens = achievable * known.NARROW_BYTES / (2 * known.BANDWIDTH_SHARE * gpu.memory_bandwidth_gb_per_s * GB)
    dense = flops.dense * max(1.0, least_tokens / job.tokens)
    if flops.experts:  # narrow experts make small products, and each sees few of the tokens
        a = job.architecture
        own_tokens = job.tokens * a.experts_per_token / a.num_experts
        dense += flops.experts * max(1 + known.EXPERT_HALF_WIDTH / a.intermediate_size, least_tokens / own_tokens)
    penalty = attention_penalty(job, gpu, demand.kernel)
    return dense / _product_flops(gpu, job) + flops.attention * penalty / _score_flops(gpu, demand)


def _achievable_flops(gpu: Gpu) -> float:
    """Best 16-bit matmul of this card."""
    return gpu.achievable_tflops * TERA * known.COMPUTE_EFFICIENCY


def _product_flops(gpu: Gpu, job: Job) -> float:
    """The same of what the job's linears are multiplied in."""
    strategy, flops = job.strategy, _achievable_flops(gpu)
    if job.stack.matmul_dtype != "as_compute":
        has = gpu.compute_capability is None or gpu.compute_capability >= known.LOW_PRECISION_SINCE
        return (
            flops * (known.NVFP4_SPEEDUP if job.stack.matmul_dtype == "nvfp4" else known.LOW_PRECISION_SPEEDUP)
            if has
            else flops
        )
    if strategy.autocast == "none" and strategy.param_dtype == "float32" and gpu.fp32_tflops is not None:
        return min(flops, gpu.fp32_tflops * TERA)
    return flops


def _score_flops(gpu: Gpu, demand: Demand) -> float:
    """The same of what attention is multiplied in: fp32 where all is, and where torch writes it out (sdp_utils_cpp: it widens
    16-bit queries unless told otherwise).
    """
    strategy, flops = demand.job.strategy, _achievable_flops(gpu)
    wide = strategy.autocast == "none" and strategy.param_dtype == "float32"
    if (wide or writes_in_fp32(demand.kernel)) and gpu.fp32_tflops is not None:
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
    own = known.OWN_LOGIT_BYTES if job.strategy.kernels == "eager" else {}
    each = known.LOGIT_BYTES | own
    logits = a.vocab_size * each[job.strategy.loss] if job.task in SPOKEN else 0
    blocks = sum(part.num_layers * _elements_per_block(part, job) for part in a.parts)
    return job.tokens * (2 * job.passes * wide * (blocks + beta * wrapped) + logits)


def _elements_per_block(a: Architecture, job: Job) -> float:
    """Elements read and written per token and pass: norms, rotation and activation as they are written, and the rest."""
    alpha = known.ALPHA_COMPILED if job.strategy.kernels == "compiled" else known.ALPHA
    norm = known.NORM_FUSED if job.fused else known.NORM_EAGER[a.norm]
    rotated = (known.ROTARY_FUSED if job.fused else known.ROTARY_EAGER) * (a.query_size + a.kv_size) if a.rotary else 0.0
    active = known.GATED_MLP if a.gated_mlp else known.PLAIN_MLP
    ffn = a.intermediate_size * max(1, a.experts_per_token)
    return (alpha + 2 * norm) * a.hidden_size + rotated + active * ffn


def _dequantized_bytes(job: Job) -> float:
    """Unpacking every weight, forward and backward and again where blocks are recomputed, whatever the tokens."""
    quant = job.strategy.quant
    if quant == "none":
        return 0.0
    early = (job.stack.release("transformers") or known.KERNELS_SINCE) < known.KERNELS_SINCE
    if early and quant.startswith(("gptq", "awq")):
        per_weight = known.KAPPA_EARLY * (2 + job.recomputes)
    else:
        per_weight = _moved_per_weight(job)
    as_linears = job.stack.quantizes_experts(were_linears=job.architecture.experts_were_linears)
    linears, experts = packs_linears(quant), packs_experts(quant, quantized_experts=as_linears)
    packed = sum(
        part.num_layers * (linears * part.linear_weights_per_block + experts * part.expert_params_per_block)
        for part in job.architecture.parts
    )
    return per_weight * packed


def _moved_per_weight(job: Job) -> float:
    """Bytes per packed weight: read as it is stored, written in 16 bits as far as it is unpacked, and read again as such."""
    strategy, width = job.strategy, job.architecture.hidden_size
    row = quantization_of(strategy.quant, double_quant=strategy.double_quant)
    stored = row.size(width * width, width, width) / width**2
    forward, backward = stored + 2 * row.unpacked_forward, stored + 2 * row.unpacked_backward
    return forward * (1 + job.recomputes) + backward


def _optimizer_bytes(job: Job) -> float:
    """Reading and writing parameters, gradients and states once per step, in proportion to what AdamW moves."""
    item = job.trained.item
    per_param = known.OPTIMIZER_BYTES_16 if item == known.NARROW_BYTES else known.OPTIMIZER_BYTES_32
    states = 2 * state_bytes(job.architecture, job.strategy, job.trained)  # read and written, as the parameters are
    moved, by_adamw = 3 * item * job.trained.params + states, 7 * item
    return per_param * moved / by_adamw / _stepped_apart(job)


def _orthogonalized_flops(job: Job) -> float:
    """Muon's products: five times X·Xᵀ, its square, and their product with X, of each matrix by its shorter side."""
    if job.strategy.optimizer != "muon":
        return 0.0
    flops = 0.0
    for matrix in matrices_of(job.architecture, job.strategy):
        shorter, longer = sorted((matrix.rows, matrix.columns))
        flops += matrix.times * known.NEWTON_SCHULZ_STEPS * 2 * shorter**2 * (2 * longer + shorter)
    return flops / _stepped_apart(job)


def _stepped_apart(job: Job) -> int:
    """GPUs that the optimizer's work is shared among."""
    return (job.ranks if cut_of(job.strategy).states else 1) * job.stack.weights_parallel


def _step_s(demand: Demand, gpu: Gpu, bandwidth: float) -> float:
    """Seconds of the optimizer's step: on the GPU, or on the cores of its host, gradients going there and parameters back."""
    job = demand.job
    if job.strategy.offload not in ("optimizer", "params"):
        return demand.stepped_bytes / bandwidth + demand.orthogonalized_flops / _achievable_flops(gpu)
    params = job.trained.params / job.ranks / job.stack.weights_parallel
    there_and_back = 2 * known.NARROW_BYTES / host_bytes_per_s(gpu)
    return params * (there_and_back + known.OPTIMIZER_BYTES_HOST / (known.HOST_MEMORY_GB_PER_S * GB))


# ── host ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _held_s(job: Job) -> float:
    """Python between FSDP's units. With the first FSDP, peft's policy makes each matrix of an adapter a unit of its own."""
    if cut_of(job.strategy).engine != "fsdp" or job.ranks == 1:
        return 0.0
    wrapped = sum(times for _, times in adapted_linears(job.architecture, job.strategy)) if job.strategy.rank else 0
    units = job.architecture.depth + 2 * wrapped * known.HOST_PER_MATRIX * (job.stack.fsdp_version == 1)
    return known.HOST_S_PER_UNIT * units * job.passes / job.stack.pipeline_parallel_size


# ── what follows from a step ───────────────────────────────────────────────────────────────────────────────────────────


def tokens_per_step(strategy: Strategy, stack: Stack, mean_seq_len: float) -> float:
    """Tokens that the whole job computes on in one optimizer step."""
    return strategy.micro_batch_size * mean_seq_len * strategy.gradient_accumulation_steps * stack.replicas(strategy)


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
