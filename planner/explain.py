"""Why a case takes the GPU memory that it takes, and what would change it: `estimate --explain`.

explain        one answered case -> Explanation
pulled         each lever alone, and together with those above it
limits_of      the largest micro-batch and the longest sequence that fit
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.catalog import Catalog
from catalogs.hardware import Gpu
from planner.asking.case import Case, stack_of, strategy_of
from planner.estimate import Estimate
from planner.estimators.engine import Tracing, memory_by, shape_of
from planner.estimators.host import vcpus_of
from planner.estimators.memory import available_bytes, bare_bytes, estimate_vram, verdict
from planner.estimators.memory.card.levers import LEVERS, Change, Lever, steps_of
from planner.estimators.memory.card.process import outside_of
from planner.estimators.time.duration import Pace, pace_of
from planner.notices.cards import lacking
from planner.plan import ByteBasis, Instant, VramEstimate
from planner.refusals import CaseRefused
from planner.strategy.stack import Stack
from remote.contract import CAPABILITIES, Strategy, Task

RULE_OF_THUMB: Final = 1.3  # assumed: model, data and checkpoints with three tenths to spare, as guides to fine-tuning have it
CACHED_BYTES_PER_TOKEN: Final = (
    24  # derived: ids, labels and mask as `datasets` writes them, 64 bits each; our trainer writes none
)
MERGED_BYTES_PER_PARAM: Final = 2  # derived: adapters are merged into 16-bit weights, and saved as such
MAX_MICRO_BATCH: Final = 4096  # assumed: nobody asks for more sequences in one pass


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One named piece of GPU memory."""

    name: str
    num_bytes: int
    basis: ByteBasis


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """From the tensors at the peak to what the card must have. Bytes of the fullest GPU."""

    instant: Instant
    tensors: tuple[Part, ...]  # alive at the peak; they sum to allocated
    allocated_bytes: int
    spare_cache_bytes: int  # up to reserved; given back where the card is full
    outside: tuple[Part, ...]  # of torch: context, libraries, NCCL; up to the process's peak
    process_bytes: int
    evaluation_bytes: int  # what evaluation, where it has a batch of its own, takes beyond allocated
    margin_bytes: int  # kept free beside them
    required_bytes: int
    available_bytes: int | None  # None: the case names no card and no memory
    by_instant: dict[str, int]


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """One lever, pulled once. Time is that of the same number of tokens; None where no card is named."""

    lever: str
    change: str  # what to set
    changes: dict[str, Any]  # the same as keys of the case
    saved_bytes: int  # of what is required
    required_bytes: int
    fits: bool | None
    together_bytes: int  # required with this and every lever above it
    slower_share: float | None  # 0.1: a tenth longer; negative: faster
    slower_s: float | None  # for as many tokens as one step of the case has
    runnable: bool  # whether this version's trainer can do it, whatever else the case asks of it


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How far this case can be stretched on the card; None where it does not fit at all."""

    micro_batch_size: int | None
    seq_len: int | None  # at most as many tokens as the model has positions


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine around the GPU needs. Bytes of one node."""

    ram_by_instant: dict[str, int]
    ram: dict[str, int]  # at the peak, by what it is for
    disk: dict[str, int]  # all of it is there at the end
    disk_bytes: int
    disk_by_rule_bytes: int  # the same by the field's rule of thumb
    merged_bytes: int  # what a merged model would take beside it
    vcpus: int


Untimed = Literal["no card", "no speed"]


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The budget, the levers from the mildest on, and the limits."""

    budget: Budget
    box: Box
    levers: tuple[Effect, ...]
    limits: Limits | None  # None: no card, or no closed form
    lacking: tuple[str, ...]  # what this version's trainer can't do of the case itself, as "key=value"
    untimed: Untimed | None  # why no lever has a time; None: those have one of which the estimate of speed knows it


class Slower(NamedTuple):
    """How much longer the same number of tokens takes: as a share, and in seconds for those of one step."""

    share: float
    seconds: float


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What stays the same while a lever is pulled."""

    architecture: Architecture
    task: Task
    gpu: Gpu | None
    stack: Stack
    mean_seq_len: float
    interconnect: str
    available_bytes: int | None
    said_mean: float | None = None  # what the case itself says of the length in the mean
    paced: bool = True  # whether the speed of the case is known
    by_trace: Callable[[Strategy], VramEstimate] | None = None  # where there is no closed form of the case

    def vram(self, strategy: Strategy) -> VramEstimate:
        """Raises CaseRefused where there is no closed form, or no trace where that answers."""
        if self.by_trace is not None:
            return self.by_trace(strategy)
        return estimate_vram(self.architecture, strategy, task=self.task, gpu=self.gpu, stack=self.stack)

    def lacks_more(self, before: Strategy, after: Strategy) -> bool:
        """Whether the card has nothing for what a change adds, or no room beside itself."""
        return self.gpu is not None and bool({*lacking(self.gpu, after, self.stack)} - {*lacking(self.gpu, before, self.stack)})

    def slower(self, before: Strategy, after: Strategy) -> Slower | None:
        """What a change costs; None without a card."""
        if self.gpu is None or not self.paced:
            return None
        was, becomes = self._pace(before, self.gpu), self._pace(after, self.gpu)
        share = was.tokens_per_s.p50 / becomes.tokens_per_s.p50 - 1
        return Slower(share, share * was.step_s.p50)

    def _pace(self, strategy: Strategy, gpu: Gpu) -> Pace:
        return pace_of(
            self.architecture,
            strategy,
            gpu=gpu,
            task=self.task,
            stack=self.stack,
            mean_seq_len=min(self.mean_seq_len, strategy.seq_len),
            interconnect=self.interconnect,
            cores=None,
        )

    def fits(self, strategy: Strategy) -> bool:
        """Whether the card holds it, margin included. Only where the case names one."""
        if self.available_bytes is None:
            raise ValueError("a fit needs a card")
        return verdict(self.vram(strategy), self.available_bytes)[0] == "fits"


def explain(
    made: Estimate,
    case: Case,
    catalog: Catalog,
    *,
    base: Path | None = None,
    cache: Path | None = None,
    tracing: Tracing = nullcontext,
) -> Explanation:
    """The explanation of an answer that `planner.estimate.estimate` gave to this case. Levers are pulled in the closed form;
    where there is none each is traced (`cache` and `tracing` as there), and limits are not looked for.
    """
    gpu = catalog.gpu(case.gpu).gpu if case.gpu is not None else None
    named = gpu is not None or case.gpu_memory_gib is not None
    setting = Setting(
        architecture=shape_of(case, base),
        task=case.task,
        gpu=gpu,
        stack=stack_of(case),
        mean_seq_len=case.mean_seq_len or float(case.seq_len),
        interconnect=case.interconnect,
        available_bytes=available_bytes(gpu, case.gpu_memory_gib) if named else None,
        said_mean=case.mean_seq_len,
        paced=made.time is not None,
    )
    strategy = strategy_of(case)
    budget = _budget(made.vram, gpu, strategy, setting.available_bytes)
    box = _box(made, strategy)
    if made.engine == "trace" and _required_bytes(strategy, setting) is None:
        setting = msgspec.structs.replace(setting, by_trace=_tracer(setting, cache, tracing))
    limits = limits_of(strategy, setting) if named and setting.by_trace is None else None
    return Explanation(
        budget=budget,
        box=box,
        levers=tuple(pulled(strategy, setting)),
        limits=limits,
        lacking=CAPABILITIES.missing(strategy, case.task),
        untimed="no card" if gpu is None else None if setting.paced else "no speed",
    )


def _tracer(setting: Setting, cache: Path | None, tracing: Tracing) -> Callable[[Strategy], VramEstimate]:
    """One lever's job, traced."""

    def traced(strategy: Strategy) -> VramEstimate:
        return memory_by(
            "trace",
            setting.architecture,
            strategy,
            task=setting.task,
            gpu=setting.gpu,
            stack=setting.stack,
            cache=cache,
            tracing=tracing,
        ).vram

    return traced


# ── the budget ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _budget(vram: VramEstimate, gpu: Gpu | None, strategy: Strategy, available: int | None) -> Budget:
    outside = outside_of(gpu, strategy)
    beside = [Part(name="CUDA context and libraries", num_bytes=outside.context_bytes, basis=outside.context_basis)]
    beside += [Part(name="NCCL", num_bytes=outside.nccl_bytes, basis="derived")] if outside.nccl_bytes else []
    tensors = (
        Part(name=name.replace("_", " "), num_bytes=size, basis=vram.basis.get(name, "derived"))
        for name, size in vram.components.items()
        if size
    )
    return Budget(
        instant=vram.peak_instant,
        tensors=tuple(sorted(tensors, key=lambda part: -part.num_bytes)),
        allocated_bytes=vram.allocated_peak_bytes,
        spare_cache_bytes=vram.reserved_peak_bytes - vram.allocated_peak_bytes,
        outside=tuple(beside),
        process_bytes=vram.process_peak_bytes,
        evaluation_bytes=vram.judged_bytes - vram.allocated_peak_bytes,
        margin_bytes=vram.required_bytes - bare_bytes(vram),
        required_bytes=vram.required_bytes,
        available_bytes=available,
        by_instant=vram.by_instant,
    )


def _box(made: Estimate, strategy: Strategy) -> Box:
    host = made.host
    return Box(
        ram_by_instant=host.ram_by_instant,
        ram=host.ram_components,
        disk=host.disk_components,
        disk_bytes=host.disk_peak_bytes,
        disk_by_rule_bytes=round(host.disk_peak_bytes * RULE_OF_THUMB),
        merged_bytes=MERGED_BYTES_PER_PARAM * made.total_params,
        vcpus=vcpus_of(strategy),
    )


# ── the levers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def pulled(strategy: Strategy, setting: Setting) -> Iterator[Effect]:
    """Every lever that saves something, from the mildest on: alone, and on top of those above it.

    On top of one another come only those that this version's trainer can do. What it can't do of the case itself is held
    against none of them.
    """
    before_bytes = setting.vram(strategy).required_bytes
    lacking = frozenset(CAPABILITIES.missing(strategy, setting.task))
    above = _Pulled(strategy, before_bytes)
    for lever, change in _first_steps(strategy, setting):
        required_bytes = None if setting.lacks_more(strategy, change.strategy) else _required_bytes(change.strategy, setting)
        if required_bytes is None or required_bytes >= before_bytes:
            continue
        runnable = lacking.issuperset(CAPABILITIES.missing(change.strategy, setting.task))
        if runnable:
            above = _on_top(above, change, setting)
        slower = setting.slower(strategy, change.strategy) if lever.timed else None
        yield Effect(
            lever=lever.name,
            change=change.words,
            changes=msgspec.to_builtins(change.changes | change.beside),
            saved_bytes=before_bytes - required_bytes,
            required_bytes=required_bytes,
            fits=None if setting.available_bytes is None else setting.fits(change.strategy),
            together_bytes=above.required_bytes,
            slower_share=None if slower is None else slower.share,
            slower_s=None if slower is None else slower.seconds,
            runnable=runnable,
        )


def _first_steps(strategy: Strategy, setting: Setting) -> Iterator[tuple[Lever, Change]]:
    """One step of levers that halve, every step of the others."""
    for lever in LEVERS:
        steps = steps_of(lever, strategy, setting.architecture, setting.stack, setting.said_mean)
        yield from ((lever, change) for change in (islice(steps, 1) if lever.once else steps))


class _Pulled(NamedTuple):
    """What the levers so far have come to."""

    strategy: Strategy
    required_bytes: int


def _on_top(above: _Pulled, change: Change, setting: Setting) -> _Pulled:
    """One lever more, where it still helps."""
    strategy = msgspec.structs.replace(above.strategy, **change.changes)
    required_bytes = _required_bytes(strategy, setting)
    helps = required_bytes is not None and required_bytes < above.required_bytes
    return _Pulled(strategy, required_bytes) if helps and required_bytes is not None else above


def _required_bytes(strategy: Strategy, setting: Setting) -> int | None:
    """None: without a closed form, or against the rules."""
    try:
        return setting.vram(strategy).required_bytes
    except CaseRefused:
        return None


# ── the limits ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def limits_of(strategy: Strategy, setting: Setting) -> Limits:
    """The largest micro-batch of such sequences, and the longest sequence in such a micro-batch."""
    positions = max(setting.architecture.max_positions, strategy.seq_len)
    return Limits(
        micro_batch_size=_largest("micro_batch_size", MAX_MICRO_BATCH, strategy, setting),
        seq_len=_largest("seq_len", positions, strategy, setting),
    )


def _largest(key: str, most: int, strategy: Strategy, setting: Setting) -> int | None:
    """The largest value of `key`, from 1 to `most`, that fits; more never needs less."""
    too_much = bisect.bisect_left(
        range(1, most + 1),
        1,
        key=lambda value: int(not setting.fits(msgspec.structs.replace(strategy, **{key: value}))),
    )
    return too_much or None
