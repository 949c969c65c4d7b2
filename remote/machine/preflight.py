"""Refuse before the meter has run long: is this the machine, the disk and the job that the plan meant?"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from remote.adapters import way_of
from remote.adapters.parts import trains_head_alone
from remote.checkpoints.files import is_checkpoint
from remote.contract import (
    ADAPTER_CONFIG,
    CAPABILITIES,
    CHECKPOINT_DIR,
    HEAD_ALONE,
    PROGRESS_FILE,
    SMOTE,
    SMOTE_REFUSED,
    Begun,
    EndReason,
    JobSpec,
    ModelSource,
    decode,
    disk_blocks,
    other_job,
    rhythm_of,
    stranger,
)
from remote.ends import Ended, bad_job
from remote.machine.arithmetic import check_arithmetic, tried_in
from remote.machine.card import look_at, unfit
from remote.machine.disk import (
    MOST_BYTES,
    READ_BYTES,
    read_bytes_per_s,
    slow_base_words,
    slow_read_words,
    slow_words,
    write_bytes_per_s,
)
from remote.machine.drivers import unfit_driver
from remote.machine.link import measured_link, slow_link_words
from remote.machine.nvml import Card
from remote.machine.products import fp32_products
from remote.machine.ram import available_ram_bytes, own_ram_bytes
from remote.reports import check_reports
from remote.units import GIB, MIB

STACK: Final = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "tokenizers", "safetensors", "gguf")
SAVING_SHARE: Final = 0.1  # assumed: of the time between two checkpoints; more is told
DRIVER_FILE: Final = Path("/proc/driver/nvidia/version")  # of the host, in a container too


def check_job(spec: JobSpec, folder: Path) -> None:
    """Refuse what this trainer can't do, files that aren't there, and settings that contradict each other."""
    missing = CAPABILITIES.missing(spec.strategy, spec.task, packing=spec.data.packing)
    if missing:
        raise bad_job(f"this trainer can't do {', '.join(missing)}")
    for name in (spec.data.train, spec.data.held_out):
        if name is not None and not (folder / name).exists():
            raise bad_job(f"there is no data file at {folder / name}")
    try:
        rhythm_of(spec.loop)
    except ValueError as error:
        raise bad_job(str(error)) from error
    check_reports(spec.loop.report_to)
    strategy = spec.strategy
    if spec.task in ("classification", "seq2seq") and not strategy.padded:
        raise bad_job(f'task "{spec.task}" needs padded true: a base that looks both ways must not look at padding')
    if spec.data.packing and not strategy.padded:
        raise bad_job("packing needs padded true: a mask keeps the documents of a row apart")
    if spec.task == "classification" and strategy.offload != "none":
        raise bad_job(f'task "classification" holds its base in memory, and offload is {strategy.offload}; use offload "none"')
    if spec.task == "seq2seq" and spec.data.long_rows == "split":
        raise bad_job('long_rows "split" would part a text from its answer; say cut or drop')
    if spec.task == "classification" and spec.data.long_rows == "split":
        raise bad_job('long_rows "split" makes rows without a label of their own; say cut or drop')
    if spec.task != "classification" and spec.data.balance != "none":
        raise bad_job(f'balance "{spec.data.balance}" weighs classes, and only task "classification" has some')
    if spec.data.balance == SMOTE and not trains_head_alone(strategy, spec.loop):
        raise bad_job(f"{SMOTE_REFUSED}; say {HEAD_ALONE}, or balance class_weights")
    if spec.task != "classification" and spec.loop.best_by not in (None, "loss"):
        raise bad_job(f'best_by "{spec.loop.best_by}" is a figure of classes, and only task "classification" has some')
    method, trains_base = f'method "{strategy.method}"', way_of(strategy).trains_base
    if trains_base and strategy.quant != "none":
        raise bad_job(f'{method} can\'t train a base quantized to {strategy.quant}; use quant "none" or method "lora"')
    if spec.loop.init_adapter is not None and way_of(strategy).saved != "adapters":
        raise bad_job(f"{method} makes no adapter that it could go on with; leave init_adapter out")
    if spec.loop.init_adapter is not None:
        _check_earlier(spec, folder / spec.loop.init_adapter)
    if strategy.kbit_upcast == "norms" and strategy.autocast == "none" and strategy.param_dtype != "float32":
        raise bad_job('kbit_upcast "norms" makes fp32 and 16-bit tensors meet; it needs an autocast')
    if trains_base and strategy.autocast == "float16" and strategy.param_dtype == "float16":
        raise bad_job(f'{method} under a float16 autocast needs param_dtype "float32": its gradients are unscaled in fp32')
    _check_lstm(spec)


def _check_lstm(spec: JobSpec) -> None:
    """Seen 2026-11-28, torch 2.15: oneDNN has no LSTM of half precision on most processors, and ends by an exception."""
    asked = spec.strategy.method_options.get("encoder_reparameterization_type")
    if spec.device == "cpu" and asked == "LSTM" and spec.strategy.autocast == "float16":
        raise bad_job('a prompt made by an LSTM can\'t train in float16 on a CPU; use autocast "bfloat16" or "none"')


def _check_earlier(spec: JobSpec, adapter: Path) -> None:
    """Where it is one of peft's in a folder of its own, or a checkpoint; what is neither peft refuses."""
    if is_checkpoint(adapter):
        _check_checkpoint(spec, adapter)
    if not (adapter / ADAPTER_CONFIG).is_file():
        return
    strategy = spec.strategy
    with contextlib.suppress(msgspec.DecodeError):
        config = msgspec.json.decode((adapter / ADAPTER_CONFIG).read_bytes(), type=dict[str, Any])
        base = spec.model.name or spec.model.location
        why = stranger(config, base=base, rank=strategy.rank, target_modules=strategy.target_modules)
        if why is not None:
            raise bad_job(f"the adapter in {adapter} {why}")


def _check_checkpoint(spec: JobSpec, place: Path) -> None:
    """By what its progress says of its job."""
    strategy, base = spec.strategy, spec.model.name or spec.model.location
    try:
        begun = decode((place / PROGRESS_FILE).read_bytes(), Begun)
    except msgspec.DecodeError:
        raise bad_job(f"the checkpoint in {place} does not say of which job it is; leave init_adapter out") from None
    method, rank, targets = strategy.method, strategy.rank, strategy.target_modules
    why = other_job(begun, base=base, method=method, rank=rank, target_modules=targets)
    if why is not None:
        raise bad_job(f"the checkpoint in {place} {why}")


def check_machine(spec: JobSpec, card: Card | None) -> None:
    """Refuse a machine without the device, or without the free memory that the plan counts on. `card`: as NVML shows it."""
    if spec.device == "cuda":
        _check_gpu(spec.planned_peak_bytes, card)
    _check_ram(spec.planned_ram_bytes if spec.device == "cuda" else spec.planned_peak_bytes)


def _check_gpu(planned_bytes: int | None, card: Card | None) -> None:
    import torch

    if not torch.cuda.is_available():
        raise Ended(EndReason.PREFLIGHT, _why_no_gpu(torch.version.cuda, installed_driver()))
    if (why := unfit(look_at(card, installed_driver()), planned_bytes)) is not None:
        raise Ended(EndReason.PREFLIGHT, why)


def _why_no_gpu(cuda: str | None, driver: int | None) -> str:
    """What to think where torch sees no GPU: of a driver that is too old by its branch, and which one it takes."""
    wanted = "the job wants a GPU, but torch sees none on this machine"
    if cuda is None:
        return f"{wanted}: it is built without CUDA"
    if driver is None:
        return f"{wanted}; is the driver installed?"
    major, minor = map(int, cuda.split("."))
    return f"{wanted}: {unfit_driver(driver, cuda=(major, minor)) or f'its NVIDIA driver {driver} would do; is a card in it?'}"


def installed_driver(said: Path = DRIVER_FILE) -> int | None:
    """The branch of the NVIDIA driver that the kernel has loaded; None where it has none."""
    try:
        text = said.read_text()
    except OSError:
        return None
    found = re.search(r"Kernel Module\b.*?\b(\d+)\.\d+", text)
    return int(found[1]) if found else None


def _check_ram(planned_bytes: int | None) -> None:
    """The plan counts this process, which holds the libraries by now."""
    available_bytes = available_ram_bytes() + own_ram_bytes()
    if planned_bytes is not None and available_bytes < planned_bytes:
        raise Ended(
            EndReason.PREFLIGHT,
            f"{available_bytes / GIB:.1f} GiB of RAM are available, the plan needs {planned_bytes / GIB:.1f}; "
            "end what else runs there, or take a machine with more",
        )


def tried(spec: JobSpec, folder: Path) -> Mapping[str, Any]:
    """What the machine showed when it was tried: a product in the job's precision, disk, link. Raises `Ended` (preflight)."""
    strategy = spec.strategy
    (folder / CHECKPOINT_DIR).mkdir(parents=True, exist_ok=True)
    link = {"link_bytes_per_s": measured_link(spec.device), "planned_link_bytes_per_s": spec.planned_link_bytes_per_s}
    waits = disk_blocks(strategy) > 0
    return {
        "arithmetic": tried_in(strategy),
        "arithmetic_error": check_arithmetic(strategy, spec.device),
        "fp32_products": fp32_products(),
        "disk_write_bytes_per_s": write_bytes_per_s(folder / CHECKPOINT_DIR),
        "ram_available_bytes": available_ram_bytes(),
        **(link if spec.device == "cuda" else {}),
        "disk_read_bytes_per_s": read_bytes_per_s(folder, READ_BYTES if waits else MOST_BYTES),
        **({"planned_read_bytes_per_s": spec.planned_read_bytes_per_s} if waits else {}),
    }


def slow_disk(spec: JobSpec, found: Mapping[str, Any]) -> str | None:
    """A sentence where the disk is so slow that checkpoints take a large part of the time; None where it is not."""
    speed = found["disk_write_bytes_per_s"]
    if spec.planned_checkpoint_bytes is None or speed is None:
        return None
    return slow_words(
        speed,
        checkpoint_bytes=spec.planned_checkpoint_bytes,
        every_s=spec.loop.checkpoint_every_s,
        share=SAVING_SHARE,
    )


def slow_reading(spec: JobSpec, found: Mapping[str, Any]) -> str | None:
    """A sentence where blocks wait on a disk that is far slower than the plan counts on, or where the base, if it lies here
    already, takes minutes to be read; None else.
    """
    speed = found.get("disk_read_bytes_per_s")
    if spec.planned_read_bytes_per_s is not None:
        return slow_read_words(speed, planned_bytes_per_s=spec.planned_read_bytes_per_s)
    return slow_base_words(speed, base_bytes=_lying_bytes(spec.model))


def _lying_bytes(model: ModelSource) -> int | None:
    """Of the base's weights, where they are on this disk; None where they have yet to come."""
    place = Path(model.location)
    files = [place] if model.kind == "gguf" else list(place.glob("*.safetensors")) if model.kind == "folder" else []
    return sum(file.stat().st_size for file in files if file.is_file()) or None


def slow_link(spec: JobSpec, found: Mapping[str, Any]) -> str | None:
    """A sentence where a run that streams has a far slower link than its plan counts on; None where it has not."""
    planned = spec.planned_link_bytes_per_s
    return slow_link_words(found.get("link_bytes_per_s"), planned_bytes_per_s=planned, strategy=spec.strategy)


def check_placed(model: Any, spec: JobSpec) -> None:
    """Refuse a model that is not where the job says: nobody trains on the processor without a word of it."""
    streamed = spec.strategy.offload == "stream"  # frozen blocks wait in RAM, and pass by
    elsewhere = {
        parameter.device.type
        for parameter in model.parameters()
        if parameter.device.type != spec.device and (parameter.requires_grad or not streamed)
    }
    if elsewhere:
        raise Ended(EndReason.PREFLIGHT, f"parts of the model lie on {', '.join(sorted(elsewhere))}, not on {spec.device}")


def slow_here(spec: JobSpec) -> str | None:
    """A sentence when this processor makes the planned precision many times slower than it need be; it trains all the same.

    Measured in November 2026 on an AVX2 EPYC without bf16 instructions: a step of SmolLM2-135M on 32 tokens takes over 12
    CPU seconds under a bfloat16 autocast, and under one without.
    """
    import torch

    halves = [name for name in (spec.strategy.autocast, spec.strategy.param_dtype) if name in ("bfloat16", "float16")]
    if spec.device != "cpu" or not halves or torch.ops.mkldnn._is_mkldnn_bf16_supported():  # noqa: SLF001 - no public name
        return None
    return f'this processor has no 16-bit arithmetic, so {halves[0]} is many times slower than autocast "none" in float32'


def check_disk(spec: JobSpec, folder: Path) -> None:
    """Refuse a disk that can't take what the plan means to write. What of it lies there since an earlier start counts."""
    if spec.planned_disk_bytes is None:
        return
    free_bytes = shutil.disk_usage(folder).free
    held_bytes = sum(_held_bytes(folder / name) for name in (CHECKPOINT_DIR, spec.output))
    if free_bytes + held_bytes < spec.planned_disk_bytes:
        what = (
            "checkpoints, result and blocks that RAM shall not hold" if disk_blocks(spec.strategy) else "checkpoints and result"
        )
        raise Ended(
            EndReason.DISK_FULL,
            f"{free_bytes / MIB:,.1f} MiB of disk are free, {what} need up to "
            f"{(spec.planned_disk_bytes - held_bytes) / MIB:,.1f}",
        )


def _held_bytes(folder: Path) -> int:
    """What lies in it, whole or half written: the latter is removed before anything more is."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def versions() -> dict[str, str]:
    """Releases of the stack that trained, as they are installed."""
    found = {"python": platform.python_version()}
    for name in STACK:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine(device: str) -> Mapping[str, Any]:
    """What the first event says of the machine."""
    import psutil
    import torch

    found: dict[str, Any] = {
        "device": device,
        "cpus": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "ram_bytes": psutil.virtual_memory().total,
        "pid": os.getpid(),
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {"gpu": properties.name, "vram_bytes": properties.total_memory, "cuda": torch.version.cuda}
    return found
