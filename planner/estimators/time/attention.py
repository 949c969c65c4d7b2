"""What attention costs: its operations, how fast its kernel is, and what an eager one writes between its products."""

from __future__ import annotations

from catalogs.bases.architectures import Architecture
from catalogs.hardware import Gpu
from planner.estimators import calibration as known
from planner.estimators.memory.step.numerics import AttentionKernel, is_masked
from planner.estimators.time.timed import Job


def attention_flops(job: Job) -> float:
    """Operations of a forward pass per token, behind a causal mask those of the half that is looked at."""
    causal = 1.0 if job.architecture.kind == "decoder" else 2.0
    return causal * 2 * sum(part.num_layers * part.query_size * _seen(part, job) for part in job.architecture.parts)


def _seen(part: Architecture, job: Job) -> float:
    """Twice the positions that a token behind a causal mask looks at in the mean. A Mamba block scores no pairs of tokens."""
    if part.mixer == "mamba":
        return 0.0
    skips = part.window is not None and job.strategy.attention == "flash_attention_2"  # sdpa's kernels compute and mask
    seen = min(job.seq_len, part.window) if skips and part.window is not None else job.seq_len
    return seen * (2 - seen / job.seq_len)


def attention_penalty(job: Job, gpu: Gpu, kernel: AttentionKernel) -> float:
    """How much longer an operation of attention takes in this kernel on this card than one of a large product."""
    if job.stack.name in known.OWN_ATTENTION_STACKS:
        return known.ATTENTION_PENALTY
    second = known.ATTENTION_PENALTY_BY_CAPABILITY.get(gpu.compute_capability or (), known.ATTENTION_PENALTY)
    first = job.stack.first_flash(job.strategy.attention)
    causal = job.architecture.kind == "decoder"
    whole = 2.0 if causal and (kernel in EAGER or is_masked(job.architecture, job.strategy)) else 1.0  # nothing is skipped
    match kernel:
        case "flash":
            return second if first is None else known.FIRST_FLASH_PENALTY[first] * second
        case "efficient":
            return whole * known.EFFICIENT_ATTENTION_PENALTY * second
        case _:
            return whole


def scored_bytes(job: Job, kernel: AttentionKernel) -> float:
    """Bytes of a micro-batch that attention without a kernel of its own moves: every pair of tokens, head by head."""
    if job.stack.name in known.OWN_ATTENTION_STACKS or kernel not in EAGER:
        return 0.0
    per_pair = known.SCORE_BYTES_FORWARD * (1 + job.recomputes) + known.SCORE_BYTES_BACKWARD
    heads = sum(part.num_layers * part.num_heads for part in job.architecture.parts if part.mixer != "mamba")
    return job.tokens * job.seq_len * heads * per_pair


def writes_in_fp32(kernel: AttentionKernel) -> bool:
    """Whether torch itself writes attention out, for want of a kernel: it widens 16-bit tensors before."""
    return kernel == "mathematics"


EAGER: frozenset[AttentionKernel] = frozenset({"eager", "mathematics"})
