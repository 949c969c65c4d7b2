"""GPU memory of one training job, in closed form: a maximum over instants, never a sum.

The walk: `numerics` says what a Strategy means on a card; `block` and `head` write their operations onto a `tape`, whose
replay gives saved bytes and humps; `weights` counts what lies beside them and `sharding` cuts it; `scene` holds it all;
`instants` puts the parts together moment by moment. All of that is done once for all batches, with `letters` for their sizes:
the result is a `closed` form, and a `batch` puts its numbers in. `process` goes from live tensors to what the card must have.
Derivations: docs/derivations.md.
"""

from __future__ import annotations

from typing import Final

from catalogs.bases.architectures import Architecture
from catalogs.hardware import Gpu
from planner.estimators.memory.basis import assumed_of, basis_of
from planner.estimators.memory.card.process import (
    Needs,
    as_sold_bytes,
    assumed_share,
    available_bytes,
    bare_bytes,
    judged,
    needs_of,
    outside_of,
    required_bytes,
    reserved_bytes,
    verdict,
)
from planner.estimators.memory.closed import Filled, filled
from planner.estimators.memory.evaluation import as_evaluated, evaluation_parts
from planner.estimators.memory.held.sharding import held_of
from planner.estimators.memory.refused.support import require_closed_form
from planner.plan import VramEstimate
from planner.strategy.as_run import as_run, at_rest
from planner.strategy.stack import PINNED_STACK, EvaluationAsked, Stack
from remote.contract import Strategy, Task

__all__ = [
    "as_sold_bytes",
    "assumed_share",
    "available_bytes",
    "bare_bytes",
    "estimate_needs",
    "estimate_vram",
    "judged",
    "peak_bytes",
    "resting_bytes",
    "verdict",
]

COMPONENTS: Final = ("weights", "adapter", "gradients", "optimizer", "activations", "logits", "temporaries")


def estimate_vram(
    architecture: Architecture,
    strategy: Strategy,
    *,
    task: Task = "causal_lm",
    gpu: Gpu | None = None,
    stack: Stack = PINNED_STACK,
) -> VramEstimate:
    """GPU memory of the fullest GPU over load, preparation and steps; evaluation beside it. Raises `Unsupported`.

    Measured against 114 runs (fms-acceleration on A100, fitcheck-llm on T4): allocated within 0.01 % at the median,
    2 % at worst; docs/derivations.md and benchmarks/results hold the rows.
    """
    form = filled(architecture, strategy, task=task, gpu=gpu, stack=stack)
    instants = form.by_instant()
    peak_instant = max(instants, key=lambda instant: instants[instant][0])
    allocated, parts = instants[peak_instant]
    evaluation = _evaluation_bytes(form, architecture, strategy, task=task, gpu=gpu, stack=stack)
    asked = stack.evaluation is not None  # else it is as in training, and a forward alone needs less
    outside = outside_of(gpu, strategy)
    limit = available_bytes(gpu, None) - outside.num_bytes if gpu is not None else None
    reserved = reserved_bytes(form, allocated, limit)
    components = dict.fromkeys(COMPONENTS, 0) | form.components(parts)
    return VramEstimate(
        allocated_peak_bytes=allocated,
        reserved_peak_bytes=reserved,
        process_peak_bytes=reserved + outside.num_bytes,
        required_bytes=required_bytes(max(allocated, evaluation if asked else 0), outside.num_bytes, strategy),
        evaluation_peak_bytes=evaluation,
        peak_instant=peak_instant,
        components=components,
        by_instant={str(instant): size for instant, (size, _) in instants.items()} | {"evaluation": evaluation},
        basis=basis_of(components, form.scene.strategy, stack),
        assumed_outside_bytes=outside.assumed_bytes,
        evaluation_counts=asked,
    )


def estimate_needs(
    architecture: Architecture,
    strategy: Strategy,
    *,
    task: Task = "causal_lm",
    gpu: Gpu | None = None,
    stack: Stack = PINNED_STACK,
) -> Needs:
    """What of `estimate_vram` decides whether a card holds the job, without its components: a search asks for it hundreds of
    times. Raises `Unsupported`.
    """
    form = filled(architecture, strategy, task=task, gpu=gpu, stack=stack)
    if stack.evaluation is not None or assumed_of(form.scene.strategy, stack):
        return needs_of(estimate_vram(architecture, strategy, task=task, gpu=gpu, stack=stack))
    allocated, outside = form.peak_bytes(), outside_of(gpu, strategy)
    required = required_bytes(allocated, outside.num_bytes, strategy)
    return Needs(required, allocated + outside.num_bytes, outside.assumed_bytes)


def _evaluation_bytes(
    form: Filled, architecture: Architecture, strategy: Strategy, *, task: Task, gpu: Gpu | None, stack: Stack
) -> int:
    """What evaluation allocates at most: with training's batch, or with the one that the case says."""
    asked = stack.evaluation or EvaluationAsked()
    evaluated = as_evaluated(strategy, asked)
    if evaluated != strategy:
        form = filled(architecture, evaluated, task=task, gpu=gpu, stack=stack)
    return sum(evaluation_parts(form, evaluated, asked).values())


def peak_bytes(
    architecture: Architecture,
    strategy: Strategy,
    *,
    task: Task = "causal_lm",
    gpu: Gpu | None = None,
    stack: Stack = PINNED_STACK,
) -> int:
    """What `estimate_vram` says is allocated at the peak, and nothing else of it. Raises `Unsupported`."""
    return filled(architecture, strategy, task=task, gpu=gpu, stack=stack).peak_bytes()


def resting_bytes(
    architecture: Architecture, strategy: Strategy, *, task: Task = "causal_lm", stack: Stack = PINNED_STACK
) -> int:
    """Bytes that lie on the fullest GPU whatever the batch: base, adapter, optimizer states. No peak is below it.

    Counted without playing a block, so a search can pass over what is hopeless. Raises `Unsupported`.
    """
    require_closed_form(architecture, strategy, task=task, stack=stack)
    strategy = at_rest(as_run(architecture, strategy, stack))
    share = held_of(architecture, strategy, task=task, stack=stack).share
    return share.weights + share.added + share.states
