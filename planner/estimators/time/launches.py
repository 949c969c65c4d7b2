"""What the host does in a step, counted in launches of kernels: its seconds follow from that, whatever is tuned.

Counted in transformers' and peft's code, below autograd, with the calls that move nothing left out (a view, a transpose). A
test holds the counts against real traces (`tests/planner/trace/test_launches.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import msgspec

from catalogs.bases.architectures import Activation, Architecture, Layout, Norm
from planner.estimators import calibration as known
from planner.estimators.memory.step.numerics import AttentionKernel, attention_kernel
from planner.estimators.time.timed import Job
from planner.methods import LAUNCHES, METHODS, Launches, adapted_linears, adapter_tensors, leaves_inputs, trained_blocks
from planner.strategy.precision import items_of, packs_linears

# Each forward, and in the backward of what is frozen.
NORMS: Final[Mapping[Norm, Launches]] = {
    "rms": Launches(8, 14),  # derived: to fp32, square, mean, sum, root, product, back, weight
    "rms_fp32": Launches(9, 15),  # derived: the same, the weight in fp32; Gemma adds one to it
    "rms_t5": Launches(7, 13),  # derived: the same without one cast
    "layer": Launches(4, 3),  # derived: one kernel, its input and weights in fp32 under autocast
}
FUSED_NORM: Final = Launches(1, 2)  # derived: one kernel, and a sum over its parts
ROTATION: Final = Launches(10, 14)  # derived: of queries and keys two products, a half turned, joined, a sum
PARTLY_ROTATED: Final = Launches(2, 2)  # derived: joined with what is not
FUSED_ROTATION: Final = Launches(1, 1)  # derived: one kernel
ACTIVATIONS: Final[Mapping[Activation, Launches]] = {
    "silu": Launches(1, 1),  # derived: one kernel
    "gelu": Launches(1, 1),  # derived
    "gelu_tanh": Launches(1, 1),  # derived
    "relu": Launches(1, 1),  # derived
    "gelu_new": Launches(8, 11),  # derived: written out in transformers' activations.py
    "gelu_bloom": Launches(8, 12),  # derived: written out in modeling_bloom.py
}
GATE: Final = Launches(1, 3)  # derived: the product with what is gated, and the sum of both ways' gradients
WRITTEN_OUT: Final = Launches(11, 12)  # derived: eager attention: scores, scale, mask, softmax in fp32, casts, values, copies
CAPPED: Final = Launches(3, 3)  # derived: divided, bent, multiplied
KERNEL: Final = Launches(1, 1)  # derived: any fused attention
MASKED: Final = Launches(5, 3)  # derived: a mask of the kernel's own layout
GROUPED_EXPERTS: Final = Launches(25, 28)  # derived: routed, sorted, multiplied in groups, put back, weighted
SCAN: Final = Launches(40, 60)  # assumed: of a Mamba block, written out in torch
CASTS: Final = Launches(4, 4)  # derived: of what an adapter reads, its two tensors and its result, under autocast
CASTS_OF_INPUT: Final = Launches(2, 2)  # derived: of these, that of the input to fp32 and back to 16 bits
INSERTED: Final = Launches(10, 14)  # derived: two products with biases, an activation, a sum, casts of four tensors
CACHED: Final = Launches(10, 7)  # derived: a prefix is cut out, joined with keys and values, and seen past the mask
NORMS_IN: Final[Mapping[Layout, int]] = {  # derived: norms of a block
    "pre": 2, "post": 2, "sandwich": 4, "after_sublayer": 2, "parallel": 2, "parallel_shared": 1, "pre_cross": 3,
}  # fmt: skip
WRITES_SCORES: Final[frozenset[AttentionKernel]] = frozenset({"eager", "mathematics"})
PROJECTED: Final = frozenset({"query", "key", "value"})  # roles of linears that read the same state

OUTSIDE: Final = Launches(34, 25)  # derived: embedding, positions, last norm, loss, clipping, a fused optimizer
# Of optimizers that walk through their tensors in Python, for each of them.
WALKED: Final[Mapping[str, float]] = {
    "lora_fa": 15 / 2,  # derived: peft's lorafa.py, 15 for each pair
    "adamw_8bit": 6.0,  # assumed: bitsandbytes' own kernel and what it looks up before
    "paged_adamw_8bit": 8.0,  # assumed: the same, fetched ahead
    "paged_adamw_32bit": 8.0,  # assumed: the same
    "lion_8bit": 6.0,  # assumed: as its AdamW
    "muon": 30.0,  # derived: five times three products and two sums, and what stands around them
    "adafactor": 15.0,  # derived: torch's adafactor.py, one tensor after the other
}


class Counted(msgspec.Struct, frozen=True):
    """What the host does: of a micro-batch, forward and backward, and once per optimizer step."""

    launches: float
    blocks_kept: float  # blocks that a checkpoint keeps and takes up again
    linears_unpacked: float  # how often a linear is unpacked
    experts_walked: float  # how often Python multiplies by one expert
    tensors_walked: float  # per optimizer step: launches of a walk through what is trained


def counted(job: Job) -> Counted:
    """What one job makes its host do, whatever the card and however many the tokens."""
    alike = msgspec.structs.replace(job.strategy, micro_batch_size=1, seq_len=1, gradient_accumulation_steps=1)
    return _counted(msgspec.structs.replace(job, strategy=alike, tokens=1.0, seq_len=1.0))


@lru_cache  # a search asks for the same in many sizes and on every card
def _counted(job: Job) -> Counted:
    architecture, strategy = job.architecture, job.strategy
    above = trained_blocks(architecture, strategy) / architecture.depth  # the share of the blocks that backward goes through
    again = job.recomputes * above
    blocks = [_block(part, job).times(part.num_layers) for part in architecture.parts]
    forward, backward = sum(part.forward for part in blocks), sum(part.backward for part in blocks)
    hung = _hung(job)
    packed = sum(part.num_layers * _packed(part) for part in architecture.parts) if packs_linears(strategy.quant) else 0
    walks = not job.fused and not job.stack.groups_experts
    experts = sum(part.num_layers * part.num_experts for part in architecture.parts) if walks else 0
    return Counted(
        launches=OUTSIDE.forward
        + OUTSIDE.backward
        + (1 + again) * (forward + hung.forward)
        + hung.once
        + above * backward
        + hung.backward,
        blocks_kept=again * architecture.depth,
        linears_unpacked=(1 + above + again) * packed,
        experts_walked=job.passes * experts,
        tensors_walked=WALKED.get(strategy.optimizer, 0.0) * _trained_tensors(job),
    )


def host_s(job: Job) -> float:
    """Seconds of Python and of launching, of a micro-batch."""
    found = counted(job)
    launches = (
        found.launches
        + known.CHECKPOINT_LAUNCHES * found.blocks_kept
        + known.PACKED_LAUNCHES * found.linears_unpacked
        + known.LAUNCHES_PER_EXPERT * found.experts_walked
    )
    return known.LAUNCH_S * launches / job.stack.pipeline_parallel_size


def played_s(job: Job) -> float:
    """Seconds that the same launches take where they were recorded (`cuda_graphs`): no Python is between them."""
    found = counted(job)
    return known.PLAYED_LAUNCH_S * (found.launches + known.PACKED_KERNELS * found.linears_unpacked)


def walked_s(job: Job) -> float:
    """Seconds of Python in the optimizer's step, where that walks through what is trained."""
    return known.LAUNCH_S * counted(job).tensors_walked


def _block(part: Architecture, job: Job) -> Launches:
    """One block of the base, forward and backward."""
    pieces = [*_norms(part, job), *_mixer(part, job), *_mlp(part, job), *_linears(part, job), *_sums(part)]
    return Launches(sum(piece.forward for piece in pieces), sum(piece.backward for piece in pieces))


def _norms(part: Architecture, job: Job) -> list[Launches]:
    one = FUSED_NORM if job.fused else NORMS[part.norm]
    in_mixer = 2 * (part.qk_norm != "none" or part.mixer == "latent")
    trained = 2 * ("norms" in METHODS[job.strategy.method].moves)
    return [Launches(one.forward, one.backward + trained)] * (NORMS_IN[part.layout] + in_mixer)


def _mixer(part: Architecture, job: Job) -> list[Launches]:
    """Attention between its linears, or a scan."""
    if part.mixer == "mamba":
        return [SCAN]
    written_out = attention_kernel(part, job.strategy, job.stack, flash=True) in WRITES_SCORES
    pieces = [WRITTEN_OUT if written_out else KERNEL]
    pieces += [CAPPED] * part.attention_softcap + [MASKED] * (job.strategy.padded and not written_out)
    if part.rotary:
        pieces += [FUSED_ROTATION] if job.fused else [ROTATION] + [PARTLY_ROTATED] * (part.rotary_share < 1)
    return pieces


def _mlp(part: Architecture, job: Job) -> list[Launches]:
    grouped = bool(part.num_experts) and (job.fused or job.stack.groups_experts)
    if part.num_experts:
        return [GROUPED_EXPERTS] * grouped
    return [ACTIVATIONS[part.activation], *[GATE] * (part.gated_mlp and not job.fused)]


def _linears(part: Architecture, job: Job) -> list[Launches]:
    """Products of the block; of trained ones the gradient of each tensor as well, and casts of what is kept in fp32."""
    strategy = job.strategy
    moves = METHODS[strategy.method].moves
    items = items_of(strategy)
    wide = strategy.autocast != "none" and strategy.param_dtype == "float32"
    cast = Launches(2, 1) if items.norm > items.weight else Launches(1, 2) if wide else Launches(0, 0)
    return [
        Launches(1 + cast.forward, 1 + cast.backward + ("weights" in moves) + (linear.bias and "biases" in moves))
        for linear in part.linears
    ]


def _sums(part: Architecture) -> list[Launches]:
    """What is added to the stream, and gradients of a state that several linears read."""
    residual = 3 if part.layout == "pre_cross" else 2
    both = residual * (1 + (part.hidden_dropout > 0) + part.scaled_residual)
    together = max(0, sum(linear.role in PROJECTED for linear in part.linears) - 1)
    return [Launches(both, both + together)]


def _packed(part: Architecture) -> int:
    """Linears of a block that are unpacked before they are multiplied."""
    return sum(not linear.kept for linear in part.linears)


def _hung(job: Job) -> Launches:
    """What the adapters on all linears add, and small networks behind some."""
    strategy, method = job.strategy, METHODS[job.strategy.method]
    if method.inserted_behind is not None:
        places = sum(part.num_layers * len(method.inserted_behind(part, strategy)) for part in job.architecture.parts)
        return INSERTED.times(places)
    if method.adapter is None:
        cached = method.prompt is not None and method.prompt.stands_in == "cache"
        return CACHED.times(job.architecture.depth * cached)
    own = LAUNCHES[method.adapter.kind]
    cast = CASTS if strategy.autocast != "none" and strategy.adapter_dtype == "float32" else Launches(0, 0)
    spared = CASTS_OF_INPUT if leaves_inputs(strategy) and strategy.adapter_dtype == "float32" else Launches(0, 0)
    cast = Launches(cast.forward - spared.forward, cast.backward - spared.backward)
    each = Launches(
        own.forward + cast.forward + (strategy.dropout > 0), own.backward + cast.backward + (strategy.dropout > 0), own.once
    )
    return each.times(sum(times for _, times in adapted_linears(job.architecture, strategy)))


def _trained_tensors(job: Job) -> int:
    """Tensors that the optimizer steps: adapters', or those of the blocks that move."""
    if METHODS[job.strategy.method].adapter is not None:
        return sum(times for _, times in adapter_tensors(job.architecture, job.strategy))
    if "weights" not in METHODS[job.strategy.method].moves:
        return 0
    of_blocks = sum(part.num_layers * (len(part.linears) + NORMS_IN[part.layout]) for part in job.architecture.parts)
    return of_blocks * trained_blocks(job.architecture, job.strategy) // job.architecture.depth
