"""The smallest change that would make a job fit, found by estimating the changes one by one."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from catalogs.architectures import Architecture
from catalogs.hardware import Gpu
from planner.estimators.memory.instants import instants_of, scene_of
from planner.estimators.memory.process import outside_bytes, required_bytes
from planner.estimators.memory.support import require_closed_form
from planner.methods import DEFAULT_RANK, METHODS, NF4, QLORA_MEANS
from planner.refusals import CaseRefused
from planner.stack import Stack
from remote.contract import ALPHA_PER_RANK, Strategy, Task


def nearest_change(
    architecture: Architecture,
    strategy: Strategy,
    *,
    task: Task,
    gpu: Gpu | None,
    stack: Stack,
    available_bytes: int,
) -> str | None:
    """The first change, from the mildest on, after which the job fits. None if no single one does."""
    for words, changed in _changes(strategy):
        try:
            require_closed_form(architecture, changed, task=task, stack=stack)
            scene = scene_of(architecture, changed, task=task, gpu=gpu, stack=stack)
        except CaseRefused:
            continue
        peak = max(sum(parts.values()) for parts in instants_of(scene).values())
        if required_bytes(peak, outside_bytes(gpu, changed.num_gpus), changed) <= available_bytes:
            return words
    return None


def _changes(strategy: Strategy) -> Iterator[tuple[str, Strategy]]:
    """Mild changes first: what the result does not feel, then what it hardly feels, then the method."""
    if strategy.gradient_checkpointing == "off":
        yield "gradient_checkpointing non_reentrant", _with(strategy, gradient_checkpointing="non_reentrant")
    if strategy.loss in ("hf", "hf_shifted"):
        yield "loss liger", _with(strategy, loss="liger")
    for size in _halved(strategy.micro_batch_size, 1):
        more = strategy.gradient_accumulation_steps * strategy.micro_batch_size // size
        words = f"micro_batch_size {size} with gradient_accumulation_steps {more}"
        yield words, _with(strategy, micro_batch_size=size, gradient_accumulation_steps=more)
    if strategy.quant == "none" and not METHODS[strategy.method].moves_linears:
        yield "quant nf4", _with(strategy, **NF4, kbit_upcast="none")
    if strategy.kbit_upcast == "full":
        yield "kbit_upcast none", _with(strategy, kbit_upcast="none")
    for length in _halved(strategy.seq_len, 256):
        yield f"seq_len {length}", _with(strategy, seq_len=length)
    if METHODS[strategy.method].moves_all:
        lora = _with(strategy, method="lora", rank=DEFAULT_RANK, alpha=ALPHA_PER_RANK * DEFAULT_RANK)
        yield "method lora", lora
        yield "method qlora", _with(lora, **QLORA_MEANS, optimizer="adamw_torch_fused")


def _with(strategy: Strategy, **changes: object) -> Strategy:
    return msgspec.structs.replace(strategy, **changes)


def _halved(number: int, least: int) -> Iterator[int]:
    while number // 2 >= least:
        number //= 2
        yield number
