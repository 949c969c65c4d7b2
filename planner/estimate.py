"""One case of the estimate contract in, one answer out. Nothing is printed; a model on disk is read, and a kept trace."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.bases.models import ModelUnknown
from catalogs.catalog import Catalog, GpuUnknown
from catalogs.hardware import Gpu
from catalogs.user_file import decode_object
from planner.asking.case import Case, effective, read_within_reach, stack_of, strategy_of
from planner.estimators.engine import Answered, Tracing, memory_by, shape_of
from planner.estimators.host import estimate_host, ram_verdict
from planner.estimators.memory import assumed_share, available_bytes, bare_bytes, estimate_vram, verdict
from planner.estimators.memory.card.moves import takes_card_as_ram
from planner.estimators.memory.card.remedy import Judge, nearest_change
from planner.estimators.memory.refused.support import require_unquantized
from planner.estimators.time.duration import pace_of
from planner.methods import METHODS, total_params, trainable_params
from planner.notices.assumed import cache_notice, notices_of
from planner.notices.cards import lacking
from planner.notices.vain import Understood
from planner.plan import Bound, Engine, HostEstimate, Range, Verdict, VramEstimate
from planner.refusals import CaseRefused, Unsupported
from planner.strategy.packed import packed_of
from planner.strategy.stack import EVALUATION_BATCH, PINNED_VERSIONS, EvaluationAsked, Stack
from planner.units import GIB, gib
from remote.contract import Strategy


class Fits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether the job runs on the GPU that the case names."""

    verdict: Verdict
    margin_bytes: int
    reason: str | None = None


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens per second of the whole job, seconds of one optimizer step, and what binds."""

    tokens_per_s: Range
    step_s: Range
    bound: Bound


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """One case, answered."""

    vram: VramEstimate
    host: HostEstimate
    ram_verdict: Verdict | None  # None: the case states no RAM
    fits: Fits | None  # None: the case names no GPU and no memory
    time: Speed | None  # None: the case names no GPU
    trainable_params: int
    total_params: int
    adapter_file_bytes: int
    engine: Engine
    versions: dict[str, str]
    warnings: tuple[str, ...]
    effective: dict[str, Any]


def estimate(
    case: Case,
    catalog: Catalog,
    *,
    base: Path | None = None,
    said: Iterable[str] = (),
    cache: Path | None = None,
    tracing: Tracing = nullcontext,
) -> Estimate:
    """Answer one case by the engine that it asks for. `said`: keys that the caller wrote, for warnings about those without
    effect; `cache`: a folder where traces are kept, or None; `tracing`: entered while a step is traced, which takes seconds.

    Raises CaseRefused for a case that is wrong or that no engine answers, ModelUnknown, CatalogError for the GPU.
    """
    _require_answerable(case)
    architecture = shape_of(case, base)
    case = as_stored(case, architecture, said)
    strategy, stack = strategy_of(case), stack_of(case)
    require_unquantized(architecture, strategy.quant, double_quant=strategy.double_quant)
    match = catalog.gpu(case.gpu) if case.gpu is not None else None
    gpu = match.gpu if match is not None else None
    memory = memory_by(case.engine, architecture, strategy, task=case.task, gpu=gpu, stack=stack, cache=cache, tracing=tracing)
    architecture = _counted(architecture, memory)
    counted = None if memory.num_trained is None or _has_count(architecture, strategy, case) else memory.num_trained
    host = estimate_host(
        architecture, strategy, num_gpus=case.num_gpus, on_cpu=False, task=case.task, stack=stack, num_trained=counted
    )
    warnings = [match.warning] if match is not None and match.warning else []
    warnings += memory.warnings
    warnings += _size_notice(case, catalog, gpu)
    warnings += notices_of(Understood(case, strategy, architecture, gpu), said)
    warnings += cache_notice(memory.vram)
    fits = _fits(case, architecture, strategy, stack, gpu, memory.vram, _beside_bytes(gpu, strategy, host))
    warnings += _evaluation_notice(case, architecture, strategy, stack, gpu, fits)
    warnings += (
        [f"time: no speed is known of {_without_speed(architecture, case)}"] if counted is not None and gpu is not None else []
    )
    return Estimate(
        vram=memory.vram,
        host=host,
        ram_verdict=None if case.host_ram_gib is None else ram_verdict(host.ram_peak_bytes, case.host_ram_gib),
        fits=fits,
        time=_speed(case, architecture, strategy, stack, gpu) if gpu is not None and counted is None else None,
        trainable_params=trainable_params(architecture, strategy, task=case.task) if counted is None else counted,
        total_params=total_params(architecture, case.task),
        adapter_file_bytes=host.disk_components["result"],
        engine=memory.engine,
        versions=PINNED_VERSIONS | case.versions,
        warnings=(f"model: {architecture.name} ({architecture.source})", *warnings),
        effective=effective(case),
    )


def _without_speed(architecture: Architecture, case: Case) -> str:
    return f"model type {architecture.model_type}" if architecture.outlined else f"method {case.method}"


def _counted(architecture: Architecture, memory: Answered) -> Architecture:
    """An outline with the parameters that a trace has counted; any other as it is."""
    if not architecture.outlined or memory.num_base is None:
        return architecture
    return msgspec.structs.replace(architecture, other_params=memory.num_base - architecture.num_params)


def _has_count(architecture: Architecture, strategy: Strategy, case: Case) -> bool:
    """Whether a formula says what is trained; of the others (prompts of T5, most of peft's methods) a trace has counted it."""
    if architecture.outlined:
        return False
    with suppress(Unsupported):
        return trainable_params(architecture, strategy, task=case.task) > 0
    return False


def _require_answerable(case: Case) -> None:
    if case.objective != "sft":
        raise Unsupported("objective", f"objective {case.objective} has no estimate yet", "objective sft")
    if case.vision is not None:
        raise Unsupported(
            "vision", "vision-language training has no estimate yet", "leave vision out: the language model alone has one"
        )


def _beside_bytes(gpu: Gpu | None, strategy: Strategy, host: HostEstimate) -> int:
    """What a job keeps in RAM where that is the card's own memory."""
    return host.ram_peak_bytes if takes_card_as_ram(gpu, strategy) else 0


def _fits(
    case: Case,
    architecture: Architecture,
    strategy: Strategy,
    stack: Stack,
    gpu: Gpu | None,
    vram: VramEstimate,
    beside_bytes: int,
) -> Fits | None:
    """`beside_bytes`: of the card's memory, what the job takes of it as RAM."""
    if gpu is None and case.gpu_memory_gib is None:
        return None
    whole = available_bytes(gpu, case.gpu_memory_gib)
    word, margin = verdict(vram, whole - beside_bytes)
    if word == "fits":
        return Fits(verdict=word, margin_bytes=margin)
    if margin >= 0:
        return Fits(verdict=word, margin_bytes=margin, reason=_unproven(vram))

    def needed(changed: Strategy, around: Stack) -> VramEstimate | None:
        if gpu is not None and set(lacking(gpu, changed, around)) - set(lacking(gpu, strategy, stack)):
            return None
        if takes_card_as_ram(gpu, changed):
            return None
        with suppress(CaseRefused):
            return estimate_vram(architecture, changed, task=case.task, gpu=gpu, stack=around)
        return None

    judge = Judge(
        required_bytes=lambda *job: None if (made := needed(*job)) is None else made.required_bytes,
        fits=lambda *job: (made := needed(*job)) is not None and verdict(made, whole)[0] == "fits",
    )
    change = nearest_change(architecture, strategy, stack, judge, task=case.task, mean_seq_len=case.mean_seq_len)
    instant = vram.judged_instant.replace("_", " ")
    taken = f", and what is kept in RAM takes {gib(beside_bytes)} of them" if beside_bytes else ""
    takes = f"{instant} takes {gib(bare_bytes(vram))}, {gib(vram.required_bytes)} with a margin"
    missing = f"{takes}; {gib(whole)} are there{taken}"
    needed_bytes = vram.required_bytes + beside_bytes
    remedy = f"{change} would fit" if change else f"no change of it fits, a GPU with {_enough(needed_bytes)} would"
    return Fits(verdict=word, margin_bytes=margin, reason=f"{missing}; {remedy}")


def _size_notice(case: Case, catalog: Catalog, gpu: Gpu | None) -> Iterator[str]:
    """Where what a job may use is more than its card has, or as much as cards are sold with, of which no job can use all."""
    size = case.gpu_memory_gib
    if gpu is not None:
        if size is not None and size > gpu.memory_gib:
            yield f"gpu_memory_gib: {size:g} GiB are taken for the job, as was said; {gpu.name} has {gpu.memory_gib:g}"
        return
    usable = [available_bytes(gpu, None) for gpu in catalog.gpus.values() if gpu.memory_gib == size]
    if usable and size is not None:
        few, most = (gib(end) for end in (min(usable), max(usable)))
        left = few if few == most else f"{few} to {most}"
        yield f"gpu_memory_gib: {size:g} GiB are all taken for the job; cards sold with that leave it {left}: name one with gpu"


def _evaluation_notice(
    case: Case, architecture: Architecture, strategy: Strategy, stack: Stack, gpu: Gpu | None, fits: Fits | None
) -> Iterator[str]:
    """Where the case asks for evaluation and leaves its batch to a trainer that has one of its own; and where the job fits,
    the case says nothing of evaluation, and the batch that its trainer then takes would not fit.
    """
    size = EVALUATION_BATCH.get(stack.name, 1)
    if case.evaluation != stack.evaluation:
        yield (
            f"evaluation: no micro_batch_size is said, and {size} sequences at a time are taken, as {stack.name} does unless "
            "told otherwise"
        )
    if fits is None or fits.verdict == "does_not_fit" or stack.evaluation is not None or size <= strategy.micro_batch_size:
        return
    evaluating = msgspec.structs.replace(stack, evaluation=EvaluationAsked(micro_batch_size=size))
    with suppress(CaseRefused):
        vram = estimate_vram(architecture, strategy, task=case.task, gpu=gpu, stack=evaluating)
        if verdict(vram, available_bytes(gpu, case.gpu_memory_gib))[0] == "does_not_fit":
            yield (
                f"evaluation: none is estimated. Where {stack.name} evaluates, it takes {size} sequences at a time unless told "
                f"otherwise, which needs {gib(vram.required_bytes)}: set per_device_eval_batch_size "
                f"{strategy.micro_batch_size}, or say evaluation to have it estimated"
            )


def _enough(num_bytes: int) -> str:
    """Rounded up: with what is said here typed in, the job fits."""
    return gib(math.ceil(num_bytes / GIB * 10) / 10 * GIB)


def _unproven(vram: VramEstimate) -> str:
    """Why there is room and still no promise."""
    names = [name for name, basis in vram.basis.items() if basis == "assumed" and vram.components[name]]
    names += ["the card's CUDA context"] if vram.assumed_outside_bytes else []
    return f"{assumed_share(vram):.0%} of the peak is assumed ({', '.join(names)}), and that much can't promise a fit"


def as_stored(case: Case, architecture: Architecture, said: Iterable[str]) -> Case:
    """With what the base's config says of how its weights lie packed, where the caller (`said`) does not; as it is for a method
    that trains them, which takes plain ones.
    """
    packed, keys = packed_of(architecture), frozenset(said)
    trains_them = case.method in METHODS and METHODS[case.method].moves_linears
    if packed is None or trains_them or case.quant != "none" or "quant" in keys:
        return case
    return msgspec.structs.replace(case, **{key: value for key, value in packed.fixed().items() if key not in keys})


def _speed(case: Case, architecture: Architecture, strategy: Strategy, stack: Stack, gpu: Gpu) -> Speed:
    pace = pace_of(
        architecture,
        strategy,
        gpu=gpu,
        task=case.task,
        stack=stack,
        mean_seq_len=case.mean_seq_len or float(case.seq_len),
        interconnect=case.interconnect,
        cores=None,
    )
    return Speed(tokens_per_s=pace.tokens_per_s, step_s=pace.step_s, bound=pace.bound)


# ── the contract's form ────────────────────────────────────────────────────────────────────────────────────────────────


def answer(
    line: Mapping[str, Any],
    catalog: Catalog,
    base: Path | None,
    *,
    cache: Path | None = None,
    tracing: Tracing = nullcontext,
) -> dict[str, Any]:
    """The contract's answer to one case: figures, or {"id", "error": {"message", "key", "hint"}}."""
    identity = _identity(line)
    try:
        case = read_within_reach(line, base=base)
        return identity | _told(estimate(case, catalog, base=base, said=line, cache=cache, tracing=tracing))
    except CaseRefused as error:
        return identity | _error(error.message, error.key, error.hint)
    except ModelUnknown as error:
        return identity | _error(error.message, "model", error.hint)
    except GpuUnknown as error:
        return identity | _error(
            error.in_one,
            "gpu",
            "the name of a card, such as L4; gpu_memory_gib says what a job may use, less than a card is sold with",
        )


BYTE_ORDER_MARK: Final = "\ufeff".encode()  # what some editors put before the first line


def answers(
    lines: Iterable[bytes],
    catalog: Catalog,
    base: Path | None,
    *,
    cache: Path | None = None,
    tracing: Tracing = nullcontext,
) -> Iterator[dict[str, Any]]:
    """One answer per JSON line in UTF-8; blank lines are skipped. `base`: where relative paths of models start."""
    for number, raw in enumerate(lines, start=1):
        line = raw.removeprefix(BYTE_ORDER_MARK)
        if not line.strip():
            continue
        try:
            case = decode_object(line)
        except UnicodeDecodeError:
            yield _error(f"line {number} is not UTF-8 text", None, "save the file as UTF-8")
            continue
        except ValueError as error:
            yield _error(f"line {number} can't be read as JSON: {error}", None, "one JSON object a line, each key once")
            continue
        if isinstance(case, dict):
            ask = partial(answer, catalog=catalog, base=base, cache=cache, tracing=tracing)
            yield _at_line(number, _answer_whatever_it_is(case, ask))
        else:
            yield _error(f"line {number} is no JSON object", None, 'a case is an object such as {"model": "7b"}')


def _identity(case: Mapping[str, Any]) -> dict[str, str]:
    """What the contract has echoed in every answer, an error too."""
    return {"id": case["id"]} if isinstance(case.get("id"), str) else {}


def _answer_whatever_it_is(case: Mapping[str, Any], ask: Callable[[Mapping[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """An answer or an error: one line that nobody foresaw must not take the answers of the others away."""
    try:
        return ask(case)
    except Exception as error:  # noqa: BLE001 - the seam between the lines, see above
        return _identity(case) | _error(
            f"it can't be answered: {type(error).__name__}: {error}", None, "leave keys out until it can"
        )


def _at_line(number: int, made: dict[str, Any]) -> dict[str, Any]:
    """An error with its line in the file, which blank ones part from the number of its answer."""
    if "error" not in made:
        return made
    return made | {"error": made["error"] | {"message": f"line {number}: {made['error']['message']}"}}


def _error(message: str, key: str | None, hint: str | None) -> dict[str, Any]:
    parts = {"message": message, "key": key, "hint": hint}
    return {"error": {name: text for name, text in parts.items() if text is not None}}


def _told(estimate: Estimate) -> dict[str, Any]:
    """An Estimate in the contract's keys. What has no value is left out."""
    host = estimate.host
    ram = {"peak_bytes": host.ram_peak_bytes, "components": host.ram_components, "by_instant": host.ram_by_instant}
    if estimate.ram_verdict is not None:
        ram["verdict"] = estimate.ram_verdict
    told = {
        "vram": msgspec.to_builtins(estimate.vram),
        "fits": msgspec.to_builtins(estimate.fits),
        "ram": ram,
        "disk": {"peak_bytes": host.disk_peak_bytes, "components": host.disk_components},
        "trainable_params": estimate.trainable_params,
        "total_params": estimate.total_params,
        "adapter_file_bytes": estimate.adapter_file_bytes,
        "time": msgspec.to_builtins(estimate.time),
        "engine": estimate.engine,
        "versions": estimate.versions,
        "warnings": list(estimate.warnings),
        "effective": estimate.effective,
    }
    return {key: value for key, value in told.items() if value is not None}
