"""Seconds, tokens per second and energy of a job, phase by phase."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.hardware import Gpu, Interconnect, Offer
from planner.asking.request import OWN_MACHINES, DataAsked
from planner.asking.sent import NOTHING, Sent
from planner.estimators import calibration as known
from planner.estimators.host import download_bytes
from planner.estimators.memory.held.optimizers import state_bytes
from planner.estimators.memory.held.weights import trained_of
from planner.estimators.memory.step.numerics import has_flash
from planner.estimators.time import phases
from planner.estimators.time.arrival import Arrival, DiskWait, arrival, disk_wait, made_plain, tokenized, waiting
from planner.estimators.time.demand import Demand, demand_of, tokens_per_step
from planner.estimators.time.interruptions import made_every_s
from planner.estimators.time.learned import NO_MACHINE, NOTHING_LEARNED, Learned, Seen, cores_of, learned_from, machine_of
from planner.estimators.time.links import Luck
from planner.estimators.time.phases import moving, scaled, slower, span, total
from planner.estimators.time.speed import StepTime, cpu_step_time, step_on
from planner.estimators.time.trust import run_class, spread_of, wider
from planner.estimators.work import Work, work_of
from planner.methods import adapter_file_bytes
from planner.plan import Bound, DurationEstimate, Range
from planner.strategy.packed import is_read_packed
from planner.strategy.stack import PINNED_STACK, Stack
from planner.units import KWH
from remote.contract import STORED_QUANTS, Loop, Phase, Quant, Strategy, Task

ALONE: Final = 1.0  # derived: no factor
GPU_STACK, CPU_STACK = (
    "transformers",
    "transformers on a CPU",
)  # what earlier runs of the trainer taught of one says nothing of the other


class Pace(msgspec.Struct, frozen=True):
    """How fast this job goes on this machine."""

    step: StepTime
    step_s: Range  # one optimizer step
    tokens_per_s: Range  # of the whole job
    bound: Bound
    learned: Learned = NOTHING_LEARNED


def pace_of(
    architecture: Architecture,
    strategy: Strategy,
    *,
    gpu: Gpu | None,
    task: Task,
    stack: Stack,
    mean_seq_len: float,
    interconnect: str,
    cores: float | None,
    earlier: Callable[[float], Learned] = lambda _: NOTHING_LEARNED,
) -> Pace:
    """Seconds of a step and tokens per second, with the spread of runs like this one. `gpu` None: `cores` train.

    `earlier`: what earlier runs teach of it, by its p90 over its p50. They move the middle, and make the range narrower.
    """
    demand = (
        None
        if gpu is None
        else demand_of(architecture, strategy, stack, task=task, mean_seq_len=mean_seq_len, flash=has_flash(gpu))
    )
    run = Run(architecture, strategy, task, stack, mean_seq_len, demand)
    return _pace(run, gpu, interconnect=interconnect, cores=cores, earlier=earlier)


class Run(msgspec.Struct, frozen=True):
    """What is run, whatever the machine. `demand` None: no card computes it."""

    architecture: Architecture
    strategy: Strategy
    task: Task
    stack: Stack
    mean_seq_len: float
    demand: Demand | None
    tf32: bool = False  # fp32 products, where the card has it
    cuda_graphs: bool = False  # steps are recorded, where that can be


def _steps(
    run: Run, demand: Demand, gpu: Gpu, *, interconnect: str, provider: str | None
) -> tuple[StepTime, StepTime, StepTime]:
    """The step with luck, as planned, and without: one for all where neither a disk nor another machine is waited for."""

    def step(luck: Luck) -> StepTime:
        return step_on(
            gpu,
            demand,
            interconnect=interconnect,
            tf32=run.tf32,
            cuda_graphs=run.cuda_graphs,
            provider=provider,
            luck=luck,
        )

    planned = step("p50")
    waits = run.strategy.num_nodes > 1 or demand.read_bytes > 0
    return (step("p10"), planned, step("p90")) if waits else (planned, planned, planned)


def _pace(
    run: Run,
    gpu: Gpu | None,
    *,
    interconnect: str,
    cores: float | None,
    earlier: Callable[[float], Learned],
    provider: str | None = None,
) -> Pace:
    strategy = run.strategy
    if gpu is None or run.demand is None:
        step = cpu_step_time(
            run.architecture,
            strategy,
            task=run.task,
            stack=run.stack,
            mean_seq_len=run.mean_seq_len,
            cores=cores or known.CPU_CORES_ELSE,
        )
        fast, slow = known.SPREAD_CPU_FAST, known.SPREAD_CPU_SLOW
    else:
        lucky, step, unlucky = _steps(run, run.demand, gpu, interconnect=interconnect, provider=provider)
        passes = strategy.gradient_accumulation_steps
        spread = spread_of(run_class(run.architecture, strategy, gpu, step), step, passes)
        fast, slow = wider(spread, step.step_s(passes), lucky_s=lucky.step_s(passes), unlucky_s=unlucky.step_s(passes))
    learned = earlier(round(slow, 2))  # so that many jobs ask the same
    fast, slow = min(fast, learned.spread), min(slow, learned.spread)
    seconds = step.step_s(strategy.gradient_accumulation_steps) * learned.factor
    tokens = tokens_per_step(strategy, run.stack, run.mean_seq_len)
    return Pace(
        step=step,
        step_s=span(seconds / fast, seconds, seconds * slow),
        tokens_per_s=span(tokens / (seconds * slow), tokens / seconds, tokens / seconds * fast),
        bound=step.bound,
        learned=learned,
    )


def _learned(seen: tuple[Seen, ...], strategy: Strategy, *, gpu: Gpu | None, offer: Offer, spread: float) -> Learned:
    if not seen:
        return NOTHING_LEARNED
    return learned_from(seen, **_names(gpu, offer), num_gpus=strategy.num_gpus, quant=strategy.quant, spread=spread)


def least_learned(seen: tuple[Seen, ...], quants: Iterable[Quant], *, gpu: Gpu | None, offer: Offer, num_gpus: int) -> Learned:
    """The least factor that earlier runs teach of any run there, on one GPU or all, with its weights in one of these forms."""
    spreads = (*known.SPREADS.values(), known.SLOW_HOST) if gpu is not None else (known.SPREAD_CPU_SLOW,)
    every = [
        learned_from(seen, **_names(gpu, offer), num_gpus=number, quant=quant, spread=spread)
        for quant, number, spread in itertools.product(quants, {1, num_gpus}, spreads)
    ]
    return min(every, key=lambda each: each.factor)


def _names(gpu: Gpu | None, offer: Offer) -> dict[str, str]:
    """Under which earlier runs on such a machine are kept."""
    machine = machine_of(offer.provider, offer.instance_type)
    if gpu is None:
        return {"stack": CPU_STACK, "gpu": cores_of(offer.provider), "machine": machine}
    return {"stack": GPU_STACK, "gpu": gpu.name, "machine": machine}


class Here(msgspec.Struct, frozen=True):
    """The machine that does it, and what it has already. `gpu` None: its cores train."""

    gpu: Gpu | None
    offer: Offer
    reused_environment: bool = False  # the box stack is already installed (the local box)
    model_on_box: bool = False  # nothing is downloaded
    may_install_driver: bool = False  # its first boot may have to put the GPU's driver in: its image states none


def estimate_duration(
    architecture: Architecture,
    strategy: Strategy,
    here: Here,
    *,
    data: DataAsked,
    loop: Loop,
    task: Task = "causal_lm",
    stack: Stack = PINNED_STACK,
    sent: Sent = NOTHING,
    seen: tuple[Seen, ...] = (),
) -> DurationEstimate:
    """Every phase's seconds with p10, p50, p90 on this machine.

    `sent`: what else goes there from here, or instead. `seen`: earlier runs here.
    """
    flash = None if here.gpu is None else has_flash(here.gpu)
    errand = errand_of(architecture, strategy, data=data, loop=loop, task=task, stack=stack, flash=flash, sent=sent)
    return duration_on(here, errand, disk_wait=wait_of(here.offer, errand), seen=seen)


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """What of a job's duration is alike on all cards that have fused attention, on all that lack it, or on all cores."""

    run: Run
    loop: Loop
    work: Work
    num_steps: int
    num_tokens: int
    num_data_tokens: int
    base_bytes: int
    fetched_bytes: int  # of it, from the hub
    checkpoint_bytes: int
    result_bytes: int
    elsewhere: Arrival
    on_box: Arrival  # where everything lies already


def errand_of(
    architecture: Architecture,
    strategy: Strategy,
    *,
    data: DataAsked,
    loop: Loop,
    task: Task,
    stack: Stack = PINNED_STACK,
    flash: bool | None,
    sent: Sent = NOTHING,
    demand: Callable[[float], Demand] | None = None,
) -> Errand:
    """Everything that no rate of a machine is in. `flash`: whether its cards have fused attention; None = its cores train.
    `demand`: what is asked of a card where sequences have so many tokens in the mean, for whoever keeps it.
    """
    work = work_of(data, strategy, on_cpu=flash is None, by_length=loop.row_order == "by_length", cuda_graphs=loop.cuda_graphs)
    asked = None
    if flash is not None and demand is not None:
        asked = demand(work.train_mean)
    elif flash is not None:
        asked = demand_of(architecture, strategy, stack, task=task, mean_seq_len=work.train_mean, flash=flash)
    num_steps = steps_of(strategy, stack, work.num_examples, loop)
    base_bytes = download_bytes(architecture, strategy, task)
    made, tokens, load = made_plain(architecture, task, sent), tokenized(data), _load(architecture, strategy, base_bytes)
    elsewhere, on_box = (
        arrival(base_bytes, sent, made=made, tokenized=tokens, load=load, on_box=there) for there in (False, True)
    )
    return Errand(
        run=Run(architecture, strategy, task, stack, work.train_mean, asked, loop.tf32, loop.cuda_graphs),
        loop=loop,
        work=work,
        num_steps=num_steps,
        num_tokens=round(num_steps * tokens_per_step(strategy, stack, work.train_mean)),
        num_data_tokens=round(num_steps * tokens_per_step(strategy, stack, work.data_mean)),
        base_bytes=base_bytes,
        fetched_bytes=base_bytes if sent.base_bytes is None else 0,
        checkpoint_bytes=checkpoint_bytes(architecture, strategy, task),
        result_bytes=adapter_file_bytes(architecture, strategy, task=task),
        elsewhere=elsewhere,
        on_box=on_box,
    )


NAMES: Final = tuple((phase, str(phase)) for phase in Phase)  # in their order


def wait_of(offer: Offer, errand: Errand) -> DiskWait | None:
    """What of a job waits for the disk that is ordered there."""
    return disk_wait(offer, base_bytes=errand.base_bytes, fetched_bytes=errand.fetched_bytes)


def duration_on(
    here: Here,
    errand: Errand,
    *,
    disk_wait: DiskWait | None,
    seen: tuple[Seen, ...] = (),
    learned: Learned | None = None,
) -> DurationEstimate:
    """Every phase's seconds on this machine, of what was counted once for all that are alike to the job."""
    gpu, offer, strategy, work = here.gpu, here.offer, errand.run.strategy, errand.work
    pace = _pace(
        errand.run,
        gpu,
        interconnect=offer.interconnect,
        cores=offer.vcpus,
        provider=offer.provider,
        earlier=lambda spread: learned or _learned(seen, strategy, gpu=gpu, offer=offer, spread=spread),
    )
    num_steps, own = errand.num_steps, offer.provider in OWN_MACHINES
    made_s = made_every_s(errand.loop, step_s=pace.step_s.p50, num_steps=num_steps)
    train = scaled(pace.step_s, num_steps)
    came = errand.on_box if here.model_on_box else waiting(errand.elsewhere, disk_wait)
    write = phases.WRITE_BYTES_PER_S if disk_wait is None else slower(phases.WRITE_BYTES_PER_S, disk_wait.bytes_per_s)
    seconds = (phases.OWN if own else phases.RENTED) | {
        Phase.DOWNLOAD: came.download,
        Phase.LOAD: came.load,
        Phase.PROBE: total(scaled(pace.step_s, 2), phases.PROBE_OVERHEAD_S),
        Phase.TRAIN: train,
        Phase.EVALUATE: _evaluate(pace, strategy, work, errand.loop, on_cpu=gpu is None),
        Phase.SAVE: _save(errand.checkpoint_bytes, num_checkpoints=1 + train.p50 / made_s, write_bytes_per_s=write),
        Phase.FETCH: _fetch(errand.result_bytes, own=own),
    }
    if strategy.kernels == "compiled":
        seconds[Phase.PROBE] = total(seconds[Phase.PROBE], phases.COMPILE_S)
    elif strategy.kernels == "fused":
        seconds[Phase.PROBE] = total(seconds[Phase.PROBE], phases.FUSE_S)
    if strategy.kernels != "eager" and not own:
        seconds[Phase.ENVIRONMENT] = total(seconds[Phase.ENVIRONMENT], phases.COMPILER_S)
    if here.may_install_driver:
        seconds[Phase.BOOT] = total(seconds[Phase.BOOT], phases.DRIVER)
    installed = phases.REUSED_ENVIRONMENT if here.reused_environment else seconds[Phase.ENVIRONMENT]
    readers = phases.READERS if strategy.quant in STORED_QUANTS else phases.ZERO
    seconds[Phase.ENVIRONMENT] = total(
        installed, readers, phases.IMPORT_S
    )  # until the trainer's first own line, as it is metered
    phase_s = {name: seconds[phase] for phase, name in NAMES}
    return DurationEstimate(
        tokens_per_s=pace.tokens_per_s,
        step_s=pace.step_s,
        bound=pace.bound,
        num_steps=num_steps,
        num_tokens=errand.num_tokens,
        num_data_tokens=errand.num_data_tokens,
        phase_s=phase_s,
        wall_s=total(*phase_s.values()),
        energy_kwh=_energy(pace, gpu, strategy, seconds, cores=offer.vcpus),
        learned=pace.learned.factor,
        learned_from=pace.learned.num_runs,
    )


def training_on(gpu: Gpu, errand: Errand, *, interconnect: Interconnect, seen: tuple[Seen, ...] = ()) -> Range:
    """Seconds of the training alone on such cards, in a machine of which nothing else is known."""
    strategy = errand.run.strategy

    def earlier(spread: float) -> Learned:
        said = {"stack": GPU_STACK, "gpu": gpu.name, "machine": NO_MACHINE, "quant": strategy.quant}
        return learned_from(seen, **said, num_gpus=strategy.num_gpus, spread=spread)

    pace = _pace(errand.run, gpu, interconnect=interconnect, cores=None, earlier=earlier)
    return scaled(pace.step_s, errand.num_steps)


def steps_of(strategy: Strategy, stack: Stack, num_examples: int, loop: Loop) -> int:
    """Optimizer steps over all epochs, as the trainer counts them (remote/data/batches.py): the last one is filled up."""
    sequences = tokens_per_step(strategy, stack, 1.0)
    steps = max(1, math.ceil(round(num_examples * loop.epochs) / sequences))
    return steps if loop.max_steps is None else min(steps, loop.max_steps)


# ── phases that depend on the job ──────────────────────────────────────────────────────────────────────────────────────


def _load(architecture: Architecture, strategy: Strategy, base_bytes: int) -> Range:
    """The base from disk to memory, quantized on the way."""
    as_stored = strategy.quant == "none" or is_read_packed(architecture, strategy.quant)
    slower = ALONE if as_stored else phases.QUANTIZE_SLOWDOWN
    return scaled(moving(base_bytes, phases.LOAD_BYTES_PER_S), slower)


def _evaluate(pace: Pace, strategy: Strategy, work: Work, loop: Loop, *, on_cpu: bool) -> Range:
    """Held-out rows before, after and in between; the samples before and after."""
    tokens = (loop.evaluations + 2) * work.num_held_out * work.held_out_mean
    speed = pace.tokens_per_s
    rows = scaled(span(tokens / speed.p90, tokens / speed.p50, tokens / speed.p10), pace.step.forward_share)
    generated = 2 * loop.num_samples * loop.sample_tokens
    if not on_cpu:
        return total(rows, scaled(phases.TOKEN_LATENCY_S, generated))
    per_token = scaled(pace.step_s, phases.MAX_TOKEN_LATENCY_SHARE / max(1.0, strategy.micro_batch_size * work.train_mean))
    latency = span(*(max(a, b) for a, b in zip(_ends(per_token), _ends(phases.TOKEN_LATENCY_S), strict=True)))
    return total(rows, scaled(latency, generated))


def _ends(one: Range) -> tuple[float, float, float]:
    return one.p10, one.p50, one.p90


def _save(num_bytes: int, *, num_checkpoints: float, write_bytes_per_s: Range) -> Range:
    """Checkpoints on the way, the result at the end, and the check that it loads again."""
    return total(scaled(moving(num_bytes, write_bytes_per_s), num_checkpoints), phases.VERIFY_S)


def checkpoint_bytes(architecture: Architecture, strategy: Strategy, task: Task) -> int:
    """What is trained, as it is kept while it learns, and what its optimizer and its method remember of it."""
    trained = trained_of(architecture, strategy, task=task)
    return trained.gradients + state_bytes(architecture, strategy, trained)


def _fetch(num_bytes: int, *, own: bool) -> Range:
    return total(span(0.2, 1, 3), moving(num_bytes, phases.WRITE_BYTES_PER_S if own else phases.FETCH_BYTES_PER_S))


# ── energy ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _energy(pace: Pace, gpu: Gpu | None, strategy: Strategy, seconds: dict[Phase, Range], *, cores: float | None) -> Range:
    """Kilowatt-hours at the wall socket, from load to save: idle power, and the rest in proportion to how busy the GPUs are."""
    training = total(*(seconds[phase] for phase in (Phase.LOAD, Phase.PROBE, Phase.TRAIN, Phase.EVALUATE, Phase.SAVE)))
    if gpu is None:
        return scaled(training, (cores or known.CPU_CORES_ELSE) * known.CPU_W_PER_CORE / KWH)
    in_slot = gpu.form_factor in ("pcie", "laptop")  # of a board of eight each GPU draws its share of host, switches and fans
    busy_w = gpu.tdp_w * (known.BUSY_SHARE_OF_TDP if in_slot else known.BUSY_SHARE_OF_TDP_HGX)
    busy_w = busy_w * strategy.num_gpus + (known.HOST_W * strategy.num_nodes if in_slot else 0)
    idle_w = busy_w * known.IDLE_SHARE_OF_BUSY
    step = pace.step
    used = min(1.0, (step.compute_s + step.memory_s) / step.micro_step_s)
    return scaled(training, (idle_w + used * (busy_w - idle_w)) * known.SUPPLY_LOSS / KWH)
