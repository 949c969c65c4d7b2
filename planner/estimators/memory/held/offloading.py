"""What offloading takes off a GPU, and the slots and copies that it leaves there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from catalogs.bases.architectures import Architecture
from planner.estimators.memory.held.share import Share
from planner.estimators.memory.held.weights import Trained, Weights
from planner.methods import trains_embedding, trains_head
from planner.strategy.cuts import cut_of
from remote.contract import Strategy, Streaming

# derived: one block computes while the next arrives; fewer slots would make them take turns
STREAMED: Final = Streaming(num_slots=2, num_resident_blocks=0, num_visits=1, num_blocks_without_recompute=0)


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
    """Embeddings, head and what trains stay; of the frozen blocks so many as reside, and the slots that the others pass."""
    streaming = job.strategy.streaming or STREAMED
    here = streaming.num_slots + streaming.num_resident_blocks
    weights = job.weights
    blocks = min(weights.blocks, here * weights.largest_block)
    loaded = weights.blocks_before_upcast * blocks // max(1, weights.blocks)
    return share._replace(weights=weights.outer + blocks, loaded=weights.outer_before_upcast + loaded)


OFFLOADS: Final[dict[str, Callable[[Share, Leaving], Share]]] = {
    "none": _nothing,
    "optimizer": _optimizer,
    "params": _params,
    "stream": _stream,
}


def streamed_blocks_bytes(job: Leaving) -> int:
    """What of the frozen blocks lies in host memory when they are streamed: those that do not reside on the GPU."""
    resident = (job.strategy.streaming or STREAMED).num_resident_blocks
    return max(0, job.weights.blocks - resident * job.weights.largest_block)


def pinned_bytes(num_bytes: float) -> int:
    """What one pinned tensor takes of the host: torch's caching host allocator rounds each up to a power of two."""
    return 1 << (int(num_bytes) - 1).bit_length() if num_bytes >= 1 else 0
