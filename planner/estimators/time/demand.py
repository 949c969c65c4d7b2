"""What a job asks of any card in one micro-step: floating-point operations, bytes moved, and Python's seconds.

    compute  tokens · (GEMM + attention FLOPs)
    memory   elementwise and adapter traffic, logits, dequantization
    links    bytes between cards, summed within a machine, and from and to the host

FLOPs: 2 per weight forward, 2 per weight for the activations' gradient, 2 more for a trained weight's, 2 more where a
block is computed again (Kaplan et al., arXiv:2001.08361, for the count of 6 per trained weight).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import msgspec

from catalogs.bases.architectures import Architecture, Linear
from planner.estimators import calibration as known
from planner.estimators.memory.held.optimizers import matrices_of, state_bytes
from planner.estimators.memory.step.numerics import AttentionKernel, attention_kernel
from planner.estimators.time.attention import attention_flops, scored_bytes
from planner.estimators.time.launches import host_s, walked_s
from planner.estimators.time.links import (
    awaited_bytes,
    fetched_bytes,
    linked_bytes,
    read_bytes,
    reduced_bytes,
    summed_bytes,
    waited_bytes,
)
from planner.estimators.time.timed import Job, timed
from planner.methods import (
    METHODS,
    WORK,
    Both,
    Work,
    adapted_linears,
    adapter_params,
    expert_params,
    head_params,
    trained_blocks,
    trains_head,
    work_of,
)
from planner.strategy.cuts import cut_of
from planner.strategy.packed import packed_by_others
from planner.strategy.precision import items_of, packs_experts, packs_linears, quantization_of
from planner.strategy.stack import Stack
from remote.contract import Strategy, Task

SPOKEN: Final[frozenset[Task]] = frozenset({"causal_lm", "seq2seq"})  # tasks that score the whole vocabulary at each token
OF_LORA_BYTES: Final = WORK["lora"].input_bytes  # what β was fitted for
LOGITS_MADE_AGAIN: Final = frozenset({"chunked"})  # losses that multiply by the head once more in backward


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What a job asks of its cards, whichever these are, as long as they have fused attention or all lack it."""

    job: Job
    kernel: AttentionKernel
    flops: Flops
    moved_bytes: float  # per micro-step, through the card's memory
    linked_bytes: float  # per micro-step, between cards
    waited_bytes: float  # of those, what no computing goes on beside
    fetched_bytes: float  # per micro-step, from and to the host
    awaited_bytes: float  # per micro-step, from the host while no computing goes on beside
    read_bytes: float  # per micro-step, from the host's disk
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
        moved_bytes=_traffic_bytes(job) + scored_bytes(job, kernel) + _dequantized_bytes(job) + _made_bytes(job),
        linked_bytes=linked_bytes(job),
        waited_bytes=waited_bytes(job),
        fetched_bytes=fetched_bytes(job),
        awaited_bytes=awaited_bytes(job),
        read_bytes=read_bytes(job),
        summed_bytes=summed_bytes(job),
        reduced_bytes=reduced_bytes(job),
        stepped_bytes=_optimizer_bytes(job),
        orthogonalized_flops=_orthogonalized_flops(job),
        host_s=host_s(job),
        held_s=_held_s(job),
        walked_s=walked_s(job),
        forward_share=forward_share(job),
    )


def streamed_as(demand: Demand, strategy: Strategy) -> Demand:
    """The demand where other blocks reside, or a visit serves others: only what is fetched differs from that of `demand`."""
    otherwise = msgspec.structs.replace(demand.job.strategy, streaming=strategy.streaming)
    job = msgspec.structs.replace(demand.job, strategy=otherwise)
    return msgspec.structs.replace(
        demand, job=job, fetched_bytes=fetched_bytes(job), awaited_bytes=awaited_bytes(job), read_bytes=read_bytes(job)
    )


def kept_as(none: Demand, every: Demand, strategy: Strategy) -> Demand:
    """The same where some blocks that are streamed are not computed again, of what is asked where `none` is kept and where
    `every` one is: what is computed, moved and launched goes by the share of the blocks that are.
    """
    job = msgspec.structs.replace(none.job, strategy=msgspec.structs.replace(none.job.strategy, streaming=strategy.streaming))
    share = 1 - job.recomputes

    def between(name: str) -> float:
        least, most = getattr(every, name), getattr(none, name)
        return float(most + share * (least - most))

    flops = Flops(*(most + share * (least - most) for most, least in zip(_each(none.flops), _each(every.flops), strict=True)))
    forward = none.forward_share * sum(_each(none.flops)) / sum(_each(flops))
    same = msgspec.structs.replace(
        none, job=job, flops=flops, moved_bytes=between("moved_bytes"), host_s=between("host_s"), held_s=between("held_s")
    )
    return msgspec.structs.replace(same, forward_share=forward)


def _each(flops: Flops) -> tuple[float, float, float]:
    return flops.dense, flops.experts, flops.attention


def tokens_per_step(strategy: Strategy, stack: Stack, mean_seq_len: float) -> float:
    """Tokens that the whole job computes on in one optimizer step."""
    return strategy.micro_batch_size * mean_seq_len * strategy.gradient_accumulation_steps * stack.replicas(strategy)


# ── floating-point operations ──────────────────────────────────────────────────────────────────────────────────────────


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
        dense=job.tokens * dense + _hung_flops(job),
        experts=job.tokens * (active_weights(a) - linears) * per_weight,
        attention=job.tokens * attention_flops(job) * (1 + known.ATTENTION_BACKWARD + job.recomputes),
    )


def _hung_flops(job: Job) -> float:
    """What adapters multiply beside their own trained tensors: by updates as large as the weights, or to make these."""
    if _adds_nothing(job):
        return 0.0
    rank, flops = job.strategy.rank or 0, 0.0
    for linear, times, work in _hung(job):
        inputs, outputs = linear.in_features, linear.out_features
        by_tokens = (
            _both(work.products, job) * inputs * outputs
            + _both(work.squares, job) * inputs**2
            + _both(work.thin, job) * rank * (inputs + outputs)
        )
        to_make = (
            _both(work.cubes, job) * inputs**3
            + _both(work.ranked_weights, job) * rank * inputs * outputs
            + _both(work.ranked_squares, job) * rank * inputs**2
        )
        flops += 2 * times * (job.tokens * by_tokens + to_make)
    return flops


def _hung(job: Job) -> Iterator[tuple[Linear, int, Work]]:
    """Each linear with an adapter, how often it occurs, and what the adapter asks there."""
    adapter = METHODS[job.strategy.method].adapter
    if adapter is not None:
        work = work_of(adapter, job.strategy)
        yield from ((linear, times, work) for linear, times in adapted_linears(job.architecture, job.strategy))


def _adds_nothing(job: Job) -> bool:
    """Whether its adapters are LoRA's, or none: of these nothing is looked for, for most plans ask for no others."""
    adapter = METHODS[job.strategy.method].adapter
    return adapter is None or adapter.kind == "lora"


def _both(work: Both, job: Job) -> float:
    """Forward, again where blocks are computed again, and backward."""
    forward, backward = work
    return forward * (1 + job.recomputes) + backward


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


# ── bytes through the memory ───────────────────────────────────────────────────────────────────────────────────────────


def _traffic_bytes(job: Job) -> float:
    """Elementwise work: on hidden-sized tensors, on the MLP's, on logits, and the adapters' on what they wrap."""
    a = job.architecture
    beta = known.BETA_FUSED if job.fused else known.BETA_EAGER
    wrapped = sum(
        times * (work.input_bytes * linear.in_features + work.output_bytes * linear.out_features) / OF_LORA_BYTES
        for linear, times, work in _hung(job)
    )
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


def _made_bytes(job: Job) -> float:
    """Updates as large as the weights, and what they are made of, whatever the tokens."""
    if _adds_nothing(job):
        return 0.0
    return sum(
        times
        * linear.in_features
        * (_both(work.weight_bytes, job) * linear.out_features + _both(work.square_bytes, job) * linear.in_features)
        for linear, times, work in _hung(job)
    )


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
    by_others = packed_by_others(job.architecture)
    group = row.group if by_others is None else by_others.group_of(width)
    stored = row.size(width * width, width, width, group) / width**2
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


# ── Python's seconds ───────────────────────────────────────────────────────────────────────────────────────────────────


def _held_s(job: Job) -> float:
    """Python between FSDP's units. With the first FSDP, peft's policy makes each matrix of an adapter a unit of its own."""
    if cut_of(job.strategy).engine != "fsdp" or job.ranks == 1:
        return 0.0
    wrapped = sum(times for _, times in adapted_linears(job.architecture, job.strategy)) if job.strategy.rank else 0
    units = job.architecture.depth + 2 * wrapped * known.HOST_PER_MATRIX * (job.stack.fsdp_version == 1)
    return known.HOST_S_PER_UNIT * units * job.passes / job.stack.pipeline_parallel_size
