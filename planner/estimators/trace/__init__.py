"""GPU memory of one training step, traced: the real model and adapter take the trainer's own step on the meta device.

Every storage that torch would allocate is seen being born and dying; nothing is estimated but what CUDA kernels take
for themselves (`kernels`). No weights are read, no GPU is needed, time does not depend on batch or length. Needs the
extra "trace"; imports torch when it is called and not before.

The walk: `build` makes model, adapter and optimizer as `remote` does; `pose` and `modes` make them believe in a card;
`recorder` keeps the log; `timeline` reads peak, parts and instants off it, `allocator` what the driver would have given;
`cache` remembers. Derivations and limits: docs/trace.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from catalogs.hardware import Gpu
from planner.estimators.memory.basis import basis_of
from planner.estimators.memory.card.process import available_bytes, outside_of, required_bytes
from planner.estimators.trace.cache import installed, key_of, read_cached, write_cached
from planner.estimators.trace.heads import require_headed
from planner.methods.others import OTHERS
from planner.plan import Instant, VramEstimate
from planner.refusals import OTHERWISE, Untraceable
from planner.strategy.precision import BITSANDBYTES
from planner.strategy.stack import PINNED_STACK, Stack
from remote.contract import CAPABILITIES, STORED_QUANTS, Strategy, Task

__all__ = ["Counted", "Traced", "require_traceable", "trace_counted", "trace_vram"]

NEEDED: Final = ("torch", "transformers", "peft")
STEPS_BEYOND_THE_TRAINER: Final = frozenset(  # the step is the same; no data or no row for it reaches the trainer
    {"task=seq2seq", *(f"method={name}" for name in OTHERS)}
)
GET_THEM: Final = "make setup-box in the checkout, or: pipx install '.[trace]'"


class Traced(msgspec.Struct, frozen=True, kw_only=True):
    """What the log of a step says. Bytes."""

    allocated_peak_bytes: int
    reserved_peak_bytes: int
    evaluation_peak_bytes: int
    peak_instant: Instant
    components: dict[str, int]
    by_instant: dict[str, int]
    num_trained: int  # parameters that got a gradient
    num_base: int


def trace_vram(
    config: Mapping[str, Any],
    strategy: Strategy,
    *,
    task: Task = "causal_lm",
    gpu: Gpu | None = None,
    stack: Stack = PINNED_STACK,
    cache: Path | None = None,
) -> VramEstimate:
    """GPU memory of one step of `strategy` on the model of a transformers `config`; exact but for kernel scratch.

    The same value as `planner.estimators.memory.estimate_vram`. `cache`: a folder where traces are kept, or None. Raises
    Untraceable.
    """
    return trace_counted(config, strategy, task=task, gpu=gpu, stack=stack, cache=cache).vram


class Counted(NamedTuple):
    """What a trace says of memory, how many parameters got a gradient in it, and how many the base has."""

    vram: VramEstimate
    num_trained: int
    num_base: int


def trace_counted(
    config: Mapping[str, Any],
    strategy: Strategy,
    *,
    task: Task = "causal_lm",
    gpu: Gpu | None = None,
    stack: Stack = PINNED_STACK,
    cache: Path | None = None,
    tracing: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Counted:
    """As `trace_vram`, for whoever asks for the parameters as well. `tracing`: entered for as long as no kept trace spares.

    Raises Untraceable.
    """
    require_traceable(config, strategy, task=task, stack=stack)
    capability = None if gpu is None else gpu.compute_capability
    found = _cached(config, strategy, task, stack, capability, cache, tracing)
    outside = outside_of(gpu, strategy)
    allocated, reserved = found.allocated_peak_bytes, found.reserved_peak_bytes
    if gpu is not None:  # near the card's limit the allocator gives its cache back
        reserved = max(allocated, min(reserved, available_bytes(gpu, None) - outside.num_bytes))
    vram = VramEstimate(
        allocated_peak_bytes=allocated,
        reserved_peak_bytes=reserved,
        process_peak_bytes=reserved + outside.num_bytes,
        required_bytes=required_bytes(max(allocated, found.evaluation_peak_bytes), outside.num_bytes, strategy),
        evaluation_peak_bytes=found.evaluation_peak_bytes,
        peak_instant=found.peak_instant,
        components=found.components,
        by_instant=found.by_instant,
        basis=basis_of(found.components, strategy, stack),
        assumed_outside_bytes=outside.assumed_bytes,
        evaluation_counts=True,
    )
    return Counted(vram, found.num_trained, found.num_base)


def require_traceable(config: Mapping[str, Any], strategy: Strategy, *, task: Task, stack: Stack) -> None:
    """Refuse at once what the trainer's own step does not do: a trace runs that step and no other."""
    tried = "causal_lm" if task == "seq2seq" else task  # what nobody has trained pairs of texts with has its step all the same
    missing = [word for word in CAPABILITIES.missing(strategy, tried) if word not in STEPS_BEYOND_THE_TRAINER]
    if missing:
        why = f"a trace runs the trainer's own step, which has no {missing[0]} yet"
        raise Untraceable(missing[0].partition("=")[0], why, OTHERWISE)
    if strategy.quant in STORED_QUANTS:
        raise Untraceable("quant", f"a trace puts no linears of {STORED_QUANTS[strategy.quant]} into a base", OTHERWISE)
    require_headed(strategy, task)
    if stack.name != "transformers" or stack.matmul_dtype != "as_compute":
        raise Untraceable("stack", f"a trace runs our own trainer, not the loop of {stack.name}", OTHERWISE)
    if stack.evaluation is not None and stack.evaluation.generate_tokens:
        raise Untraceable("evaluation", "a trace does not generate", OTHERWISE)
    if stack.expert_parallel_size > 1:
        raise Untraceable("expert_parallel_size", "a trace is of one GPU", OTHERWISE)
    if "auto_map" in config:
        raise Untraceable("model", "the model's code comes with its weights (auto_map) and is not run here", OTHERWISE)
    have = installed()
    absent = [name for name in (*NEEDED, *(("bitsandbytes",) if strategy.quant in BITSANDBYTES else ())) if not have[name]]
    if absent:
        raise Untraceable("engine", f"a trace needs {', '.join(absent)}", GET_THEM)
    for library, release in stack.versions.items():
        if not (have.get(library) or release).startswith(release):
            why = f"{library} {have[library]} is installed and a trace runs that, the case says {release}"
            raise Untraceable("versions", why, OTHERWISE)


def _cached(
    config: Mapping[str, Any],
    strategy: Strategy,
    task: Task,
    stack: Stack,
    capability: tuple[int, int] | None,
    cache: Path | None,
    tracing: Callable[[], AbstractContextManager[object]],
) -> Traced:
    if cache is None:
        with tracing():
            return _traced(config, strategy, task, stack, capability)
    key = key_of(
        config,
        strategy=msgspec.to_builtins(strategy),
        task=task,
        keep_outputs=stack.keep_outputs,
        evaluation=msgspec.to_builtins(stack.evaluation),
        compute_capability=capability,
    )
    found: Traced | None = read_cached(cache, key, Traced)
    if found is None:
        with tracing():
            found = _traced(config, strategy, task, stack, capability)
        write_cached(cache, key, found)
    return found


def _traced(
    config: Mapping[str, Any], strategy: Strategy, task: Task, stack: Stack, capability: tuple[int, int] | None
) -> Traced:
    from planner.estimators.trace.timeline import summary  # these import torch when they are used
    from planner.estimators.trace.tracing import traced

    return summary(traced(config, strategy, task=task, stack=stack, compute_capability=capability))
