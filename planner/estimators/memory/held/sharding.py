"""How much of what one GPU holds when several share a job."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from catalogs.architectures import Architecture
from planner.estimators.memory.held.weights import Trained, Weights
from planner.precision import DTYPE_BYTES
from planner.stack import Stack
from remote.contract import Strategy

ZERO3_LIVE_PARAMS: Final = 1_000_000_000  # derived: DeepSpeed's default of stage3_max_live_parameters
ZERO_BUCKET_PARAMS: Final = 500_000_000  # derived: DeepSpeed's default of reduce_bucket_size
FSDP_BLOCKS_GATHERED: Final = 2  # derived: FSDP1 gathers the next block while one computes (backward prefetch)


class Share(NamedTuple):
    """One GPU's part. Counts are divisors or bytes."""

    num_layers: int  # blocks whose activations live here
    weights: int  # bytes of frozen and trained base weights at rest here
    gathered: int  # bytes of other GPUs' weights while computing
    added: int  # adapter
    gradients: int
    states: int
    masters: int  # fp32 copies that the sharding keeps of 16-bit parameters
    buckets: int  # communication buffers, there from the start
    gradient_share: int  # a block's gradients are divided by this once they are reduced


def share_of(
    architecture: Architecture, strategy: Strategy, stack: Stack, *, weights: Weights, trained: Trained, states: int
) -> Share:
    """The fullest GPU's part under the strategy's sharding."""
    ranks = stack.replicas(strategy)
    cut_into = strategy.num_gpus if strategy.sharding == "device_map" else stack.pipeline_parallel_size
    layers = math.ceil(architecture.depth / cut_into)
    blocks = layers * weights.blocks // architecture.depth // stack.tensor_parallel_size
    outer = weights.outer // stack.tensor_parallel_size
    fraction = layers / architecture.depth / stack.tensor_parallel_size
    own = Share(
        num_layers=layers,
        weights=blocks + outer,
        gathered=0,
        added=round(trained.added * fraction),
        gradients=round(trained.gradients * fraction),
        states=round(states * fraction),
        masters=0,
        buckets=0,
        gradient_share=1,
    )
    return SHARDINGS[strategy.sharding](own, ranks, strategy, weights, trained)


def _whole(own: Share, _ranks: int, _strategy: Strategy, _weights: Weights, _trained: Trained) -> Share:
    return own


def _ddp(own: Share, ranks: int, _strategy: Strategy, _weights: Weights, _trained: Trained) -> Share:
    """A replica, and reduction buckets as large as the gradients."""
    return own._replace(buckets=own.gradients if ranks > 1 else 0)


def _fsdp(own: Share, ranks: int, strategy: Strategy, weights: Weights, _trained: Trained) -> Share:
    """Everything in equal parts; blocks and the outermost unit are gathered to compute, in 16 bits unless quantized."""
    narrow = 2 / DTYPE_BYTES[strategy.param_dtype] if strategy.autocast != "none" else 1.0
    gathered = round((FSDP_BLOCKS_GATHERED * weights.largest_block + weights.outer) * narrow) if ranks > 1 else 0
    return own._replace(
        weights=own.weights // ranks,
        gathered=gathered,
        added=own.added // ranks,
        gradients=own.gradients // ranks,
        states=own.states // ranks,
        gradient_share=ranks,
    )


def _zero(own: Share, ranks: int, trained: Trained, *, split_gradients: bool) -> Share:
    """ZeRO-1 and -2: replicas, fp32 masters and states in parts (Rajbhandari et al., arXiv:1910.02054)."""
    bucket = 2 * min(ZERO_BUCKET_PARAMS, trained.params) if ranks > 1 else 0
    return own._replace(
        gradients=own.gradients // ranks if split_gradients else own.gradients,
        states=_fp32_states(own, trained) // ranks,
        masters=trained.params * 4 // ranks if trained.item == 2 else 0,
        buckets=bucket,
        gradient_share=ranks if split_gradients else 1,
    )


def _fp32_states(own: Share, trained: Trained) -> int:
    """DeepSpeed keeps states in fp32 whatever the parameters are in."""
    return own.states * 4 // trained.item


def _zero1(own: Share, ranks: int, _strategy: Strategy, _weights: Weights, trained: Trained) -> Share:
    return _zero(own, ranks, trained, split_gradients=False)


def _zero2(own: Share, ranks: int, _strategy: Strategy, _weights: Weights, trained: Trained) -> Share:
    return _zero(own, ranks, trained, split_gradients=True)


def _zero3(own: Share, ranks: int, strategy: Strategy, weights: Weights, trained: Trained) -> Share:
    """ZeRO-2, and the weights in parts: up to a billion parameters are gathered at a time."""
    two = _zero2(own, ranks, strategy, weights, trained)
    per_param = 2 if strategy.quant == "none" else 1
    live = min(ZERO3_LIVE_PARAMS * per_param, own.weights) if ranks > 1 else 0
    return two._replace(weights=own.weights // ranks, gathered=live, added=own.added // ranks)


SHARDINGS: Final = {
    "none": _whole,
    "device_map": _whole,
    "ddp": _ddp,
    "fsdp": _fsdp,
    "zero1": _zero1,
    "zero2": _zero2,
    "zero3": _zero3,
}
