"""What offloading takes off a GPU, and the slots and copies that it leaves there."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from catalogs.bases.architectures import Architecture
from planner.estimators.memory.held.share import Share
from planner.estimators.memory.held.weights import Trained, Weights
from planner.methods import trains_embedding, trains_head
from planner.strategy.cuts import cut_of
from planner.strategy.precision import items_of
from remote.contract import BY_TWO_SLOTS, Strategy, Streaming, evenly_spaced, passes_vocabulary


class Leaving(NamedTuple):
    """What the parts follow from."""

    architecture: Architecture
    strategy: Strategy
    weights: Weights
    trained: Trained


def _nothing(share: Share, _job: Leaving) -> Share:
    return share


def _optimizer(share: Share, job: Leaving) -> Share:
    """States, masters and the step are the host's; a gradient too where DeepSpeed has parted them, by way of one buffer."""
    stepped = share._replace(states=0, masters=0, step_scratch=0)
    cut = cut_of(job.strategy)
    if not (cut.gradients and cut.engine == "deepspeed"):  # derived: it copies a reduced gradient to the host at once
        return stepped
    return stepped._replace(gradients=0, buckets=share.buckets + _largest_gradient(job))


def _largest_gradient(job: Leaving) -> int:
    """Bytes of the largest tensor that trains, where that is no small one: a vocabulary matrix."""
    whole = trains_embedding(job.architecture, job.strategy) or trains_head(job.architecture, job.strategy)
    vocabulary = job.trained.stage.of_ends(job.architecture.vocabulary_size)
    return vocabulary * job.trained.item if whole else 0


def _params(share: Share, job: Leaving) -> Share:
    """Weights as well, and with them the gradients: what is left is what has been fetched to compute.

    derived: FSDP's CPUOffload and CPUOffloadPolicy move both and step on the CPU; DeepSpeed asserts that parameters are
    offloaded only together with states (stage3.py).
    """
    return _optimizer(share, job)._replace(weights=0, loaded=0, added=0, gradients=0)


def _stream(share: Share, job: Leaving) -> Share:
    """Embeddings, head (unless these wait as well) and what trains stay, and of the blocks norms, biases and code tables; of
    their matrices so many as reside, and the slots that the others pass.
    """
    weights = job.weights
    blocks = weights.staying + passing_bytes(job.strategy, weights)
    loaded = weights.outer_before_upcast + blocks - (weights.blocks - weights.blocks_before_upcast)
    matrices = sum(vocabulary_bytes(job.architecture, job.strategy, weights))
    as_loaded = matrices * items_of(job.strategy).weight // weights.lm_head_item
    return share._replace(weights=weights.outer - matrices + blocks, loaded=loaded - as_loaded)


OFFLOADS: Final[dict[str, Callable[[Share, Leaving], Share]]] = {
    "none": _nothing,
    "optimizer": _optimizer,
    "params": _params,
    "stream": _stream,
}


def streaming_of(strategy: Strategy) -> Streaming:
    """How blocks pass where they are streamed."""
    return strategy.streaming or BY_TWO_SLOTS


def streamed_plainly(strategy: Strategy) -> Strategy:
    """The strategy with no block resident and a visit for each micro-batch; what is not computed again stays as it was said."""
    if strategy.offload != "stream":
        return strategy
    plain = msgspec.structs.replace(streaming_of(strategy), num_resident_blocks=0, num_visits=1)
    return msgspec.structs.replace(strategy, streaming=plain)


def vocabulary_bytes(architecture: Architecture, strategy: Strategy, weights: Weights) -> tuple[int, ...]:
    """Bytes of embedding and head, which are one where they are tied, where they wait in host memory; the head last."""
    if not passes_vocabulary(strategy):
        return ()
    return (architecture.vocabulary_size * weights.lm_head_item,) * (1 if architecture.tied_embeddings else 2)


def fetched_head_bytes(architecture: Architecture, strategy: Strategy, weights: Weights) -> int:
    """What a loss has on the GPU beside all that stays there: the head, where it waits in host memory."""
    return (0, *vocabulary_bytes(architecture, strategy, weights))[-1]


def keeping(strategy: Strategy, number: int) -> Strategy:
    """The strategy with so many of its streamed blocks keeping what they save."""
    kept = msgspec.structs.replace(streaming_of(strategy), num_blocks_without_recompute=number)
    return msgspec.structs.replace(strategy, streaming=kept)


def visits_of(strategy: Strategy) -> int:
    """How many micro-batches one visit of a block serves, and so how many wait at each block's input."""
    return streaming_of(strategy).num_visits if strategy.offload == "stream" else 1


def blocks_kept(strategy: Strategy, depth: int) -> int:
    """Blocks of `depth` that are not computed again, though the others are."""
    return min(depth, streaming_of(strategy).num_blocks_without_recompute) if strategy.offload == "stream" else 0


def streamed_blocks(strategy: Strategy, weights: Weights) -> tuple[int, ...]:
    """Bytes of each block that lies in host memory and passes through slots, in their order."""
    return _without_resident(weights.travelling, streaming_of(strategy).num_resident_blocks)


@lru_cache  # a search asks for the same of many batches and cards
def _without_resident(travelling: tuple[int, ...], num_resident: int) -> tuple[int, ...]:
    resident = evenly_spaced(len(travelling), min(len(travelling), num_resident))
    return tuple(size for number, size in enumerate(travelling) if number not in resident)


def passing_bytes(strategy: Strategy, weights: Weights) -> int:
    """Of the matrices of streamed blocks what lies on the GPU: those that reside, and the slots that the others pass."""
    away = streamed_blocks(strategy, weights)
    slots = min(streaming_of(strategy).num_slots, len(away)) * max(away, default=0)
    return sum(weights.travelling) - sum(away) + slots


def pinned_bytes(num_bytes: float) -> int:
    """What one pinned tensor takes of the host: torch's caching host allocator rounds each up to a power of two."""
    return 1 << (int(num_bytes) - 1).bit_length() if num_bytes >= 1 else 0
