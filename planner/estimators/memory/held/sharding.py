"""How much of what one GPU holds when several share a job, or when host memory takes a part of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

from catalogs.bases.architectures import Architecture
from planner.estimators.memory.held.kept import kept_of, reduced_item, stepped_of, upcast_bytes
from planner.estimators.memory.held.offloading import OFFLOADS, Leaving
from planner.estimators.memory.held.optimizers import states_on_gpu_bytes, step_scratch_bytes
from planner.estimators.memory.held.share import Share, Stage
from planner.estimators.memory.held.weights import FP32, Trained, Weights, trained_in_block, trained_of, weights_of
from planner.methods import of_task
from planner.strategy.cuts import cut_of
from planner.strategy.precision import DTYPE_BYTES, FOUR_BIT
from planner.strategy.stack import Stack
from remote.contract import Strategy, Task

# derived: DeepSpeed's default of reduce_bucket_size (runtime/zero/config.py). It makes the bucket whole however little trains:
# `torch.empty(int(self.reduce_bucket_size))` in stage_1_and_2.py, and alike in stage3.py. A second one comes with overlap_comm,
# which is off by default below stage 3, whose bucket is one. What stages 1 and 2 gather goes into the parameters' own flat
# tensor (`all_gather_into_tensor_dp_groups`), so there is no bucket of that kind.
ZERO_BUCKET_PARAMS: Final = 500_000_000
ZERO3_LIVE_PARAMS: Final = 1_000_000_000  # derived: its default of stage3_max_live_parameters
# derived: FSDP gathers the next block while one computes: FSDP1 by its rate limiter, FSDP2 by its copy-out buffer
FSDP_BLOCKS_GATHERED: Final = 2


class Job(NamedTuple):
    """What the parts follow from."""

    architecture: Architecture
    strategy: Strategy
    stack: Stack
    weights: Weights  # of the part that the GPU computes
    trained: Trained  # as it is made and computed with
    kept: Trained  # as it lies here between steps
    ranks: int  # data-parallel ones

    @property
    def in_parts(self) -> bool:
        """Whether weights that are cut have to be fetched to compute: from other ranks, or from host memory."""
        return self.ranks > 1 or self.strategy.offload == "params"


class Held(NamedTuple):
    """What the fullest GPU computes with, its own or fetched, and how much of it lies there all along."""

    weights: Weights
    trained: Trained  # as it is kept
    share: Share


def held_of(architecture: Architecture, strategy: Strategy, *, task: Task, stack: Stack) -> Held:
    """The part of the model that the fullest GPU computes, and its share of that under the strategy's sharding and offload."""
    architecture = of_task(architecture, task)
    stage = stage_of(architecture, strategy, stack)
    weights = weights_of(architecture, strategy, task=task, stack=stack).on(stage)
    trained = trained_of(architecture, strategy, task=task).on(stage)
    kept = kept_of(trained, strategy, stack)
    return Held(weights, kept, _share_of(Job(architecture, strategy, stack, weights, trained, kept, stack.replicas(strategy))))


def stage_of(architecture: Architecture, strategy: Strategy, stack: Stack) -> Stage:
    """Layers are spread by device_map and pipelines, matrices by tensor parallelism (assumed: evenly)."""
    spread_over = strategy.num_gpus if cut_of(strategy).spreads_blocks else stack.pipeline_parallel_size
    return Stage(math.ceil(architecture.depth / spread_over), architecture.depth, stack.tensor_parallel_size)


def _share_of(job: Job) -> Share:
    """What lies on the GPU of the part that it computes."""
    architecture, strategy, weights, kept = job.architecture, job.strategy, job.weights, job.kept
    stepped = stepped_of(kept, strategy)
    own = Share(
        num_layers=kept.stage.num_layers,
        weights=weights.blocks + weights.outer + upcast_bytes(job.trained, kept),
        loaded=weights.before_upcast,
        gathered=0,
        added=kept.added,
        gradients=kept.gradients,
        states=states_on_gpu_bytes(architecture, strategy, stepped, job.stack),
        masters=0,
        buckets=0,
        step_scratch=step_scratch_bytes(architecture, strategy, stepped),
        gradient_share=1,
        gradient_widened=kept.item // job.trained.item,
    )
    shared = SHARES[strategy.sharding](own, job)
    return OFFLOADS[strategy.offload](shared, Leaving(architecture, strategy, weights, kept))


# ── one function per sharding: what a GPU would hold alone, and what it holds ──────────────────────────────────────────


def _whole(own: Share, job: Job) -> Share:
    """All of it; from host memory it comes unit by unit, as under FSDP."""
    return own._replace(gathered=_units(job) if job.in_parts and job.strategy.offload == "params" else 0)


def _ddp(own: Share, job: Job) -> Share:
    """A replica, and reduction buckets as large as the gradients."""
    return own._replace(buckets=own.gradients if job.ranks > 1 else 0)


def _units(job: Job) -> int:
    """Blocks and the outermost unit as they are gathered to compute, in 16 bits unless quantized."""
    narrow = 2 / DTYPE_BYTES[job.strategy.param_dtype] if job.strategy.autocast != "none" else 1.0
    return round((FSDP_BLOCKS_GATHERED * job.weights.largest_block + job.weights.outer) * narrow)


def _fsdp(own: Share, job: Job) -> Share:
    """Everything in equal parts, units gathered."""
    ranks = job.ranks
    return own._replace(
        weights=own.weights // ranks,
        loaded=own.loaded // ranks,
        gathered=_units(job) if job.in_parts else 0,
        added=own.added // ranks,
        gradients=own.gradients // ranks,
        states=own.states // ranks,
        step_scratch=own.step_scratch // ranks,
        buckets=_reduced_unit(job) if ranks > 1 and job.stack.fsdp_version == 2 else 0,
        gradient_share=ranks,
    )


def _reduced_unit(job: Job) -> int:
    """FSDP2 copies a unit's gradients into one tensor to reduce them (`foreach_reduce` in torch's _fsdp_collectives.py).

    The largest unit's: a block's, or the outermost one's, which holds what trains outside the blocks and is the last. Before
    its turn comes, the head's gradient waits whole for it, in the same room.
    """
    in_block = trained_in_block(job.architecture, job.strategy, job.trained)
    return max(in_block, job.trained.outer_params) * reduced_item(job.trained, job.strategy, job.stack)


def _zero_one(own: Share, job: Job) -> Share:
    """Replicas; fp32 masters, states and their step in parts (Rajbhandari et al., arXiv:1910.02054); a bucket."""
    masters = FP32 * job.trained.params if job.trained.item < FP32 else 0
    return own._replace(
        states=own.states // job.ranks,
        masters=masters // job.ranks,
        buckets=ZERO_BUCKET_PARAMS * job.trained.item,
        step_scratch=(own.step_scratch + masters) // job.ranks,  # its gradients are copied to fp32 first
    )


def _zero_two(own: Share, job: Job) -> Share:
    """The gradients in parts as well."""
    return _zero_one(own, job)._replace(gradients=own.gradients // job.ranks, gradient_share=job.ranks)


def _zero_three(own: Share, job: Job) -> Share:
    """And the weights: a billion numbers of what they are stored in are gathered at a time, or the largest module."""
    stored = max(2, DTYPE_BYTES[job.strategy.quant_storage]) if job.strategy.quant in FOUR_BIT else 2
    live = min(max(ZERO3_LIVE_PARAMS * stored, job.weights.outer), own.weights) if job.in_parts else 0
    return _zero_two(own, job)._replace(
        weights=own.weights // job.ranks, loaded=own.loaded // job.ranks, gathered=live, added=own.added // job.ranks
    )


SHARES: Final[dict[str, Callable[[Share, Job], Share]]] = {
    "none": _whole,
    "device_map": _whole,
    "ddp": _ddp,
    "fsdp": _fsdp,
    "zero1": _zero_one,
    "zero2": _zero_two,
    "zero3": _zero_three,
}
