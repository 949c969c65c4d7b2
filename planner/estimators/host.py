"""RAM and disk of the box that trains."""

from __future__ import annotations

from typing import Final

import msgspec

from catalogs.architectures import Architecture
from planner.estimators.memory.card.support import require_closed_form
from planner.estimators.memory.held.optimizers import is_paged, state_bytes
from planner.estimators.memory.held.weights import Trained, trained_of, weights_of
from planner.estimators.memory.instants import instants_of
from planner.estimators.memory.scene import scene_of
from planner.methods import adapter_file_bytes, base_params
from planner.plan import HostEstimate, Verdict
from planner.precision import DTYPE_BYTES, quantization_of
from planner.stack import PINNED_STACK, Stack
from planner.units import GB, GIB, MB
from remote.contract import Strategy, Task

# measured: resident set of Python with torch 2.15, transformers 5.24 and peft 0.21 imported, CUDA build, 2026-11-25
INTERPRETER_BYTES: Final = 750 * MB
# assumed: what the CUDA driver and its libraries map beside it, per process
CUDA_PROCESS_BYTES: Final = 2_000 * MB
# measured: growth of the resident set over the tensors that the closed form counts: 1.49 without checkpointing and 1.54
# with it, SmolLM2-135M's shape, LoRA r 8 all-linear, 4 × 128 tokens in fp32 on a CPU, 2026-11-25
CPU_ALLOCATOR_FACTOR: Final = 1.5
SHARD_BYTES: Final = 5 * GB  # derived: transformers writes shards of at most 5 GB; one is read at a time

ENVIRONMENT_DISK_BYTES: Final = 6_100 * MB  # measured: the box stack as installed, torch 2.15 with CUDA, 2026-11
SYSTEM_DISK_BYTES: Final = 12 * GB  # assumed: an Ubuntu image with the NVIDIA driver
LOG_DISK_BYTES: Final = 100 * MB  # assumed

USABLE_RAM_SHARE: Final = 0.90  # assumed: the system, its page cache and our SSH server need a tenth of the RAM
ENFORCED_RAM_SHARE: Final = 0.95  # derived: what the local box's limit lets a job have (provision/direct/limits.py)


def usable_ram_bytes(ram_gib: float) -> int:
    """What of a box's RAM a job may be planned to take."""
    return int(ram_gib * GIB * USABLE_RAM_SHARE)


def ram_verdict(needed_bytes: int, ram_gib: float) -> Verdict:
    """Whether a job's peak fits a box's RAM: tight between what is planned with and where it would be ended."""
    if needed_bytes <= usable_ram_bytes(ram_gib):
        return "fits"
    return "tight" if needed_bytes <= ram_gib * GIB * ENFORCED_RAM_SHARE else "does_not_fit"


def estimate_host(
    architecture: Architecture,
    strategy: Strategy,
    *,
    num_gpus: int,
    on_cpu: bool,
    task: Task = "causal_lm",
    stack: Stack = PINNED_STACK,
    num_checkpoints: int = 2,
) -> HostEstimate:
    """RAM of one node (all ranks on it) and disk of the box, in bytes. `on_cpu`: the model trains in RAM.

    `num_checkpoints`: how many are on the disk at once, the one being written included.
    """
    require_closed_form(architecture, strategy, task=task, stack=stack)
    trained = trained_of(architecture, strategy, task=task)
    if on_cpu:
        ram = _cpu_ram(architecture, strategy, task, stack)
    else:
        ram = _gpu_node_ram(architecture, strategy, task, trained, ranks=max(1, num_gpus // strategy.num_nodes))
    disk = _disk(architecture, strategy, task, trained, num_checkpoints)
    return HostEstimate(
        ram_peak_bytes=sum(ram.values()),
        ram_components=ram,
        disk_peak_bytes=sum(disk.values()),
        disk_components=disk,
    )


def _cpu_ram(architecture: Architecture, strategy: Strategy, task: Task, stack: Stack) -> dict[str, int]:
    """The tensors that a GPU would hold, the C library's slack, and the interpreter."""
    instants = instants_of(scene_of(architecture, strategy, task=task, gpu=None, stack=stack, on_cpu=True))
    parts = max(instants.values(), key=lambda parts: sum(parts.values()))
    alive = {name: size for name, size in parts.items() if size}
    slack = round(sum(alive.values()) * (CPU_ALLOCATOR_FACTOR - 1))
    return {"interpreter": INTERPRETER_BYTES, **alive, "allocator": slack}


def _gpu_node_ram(
    architecture: Architecture, strategy: Strategy, task: Task, trained: Trained, *, ranks: int
) -> dict[str, int]:
    """Processes, the shard being read, and whatever the strategy keeps on the host."""
    download = download_bytes(architecture, strategy, task)
    whole = strategy.sharding in ("fsdp", "zero3") and ranks > 1
    tokens = strategy.micro_batch_size * strategy.seq_len
    hidden = tokens * architecture.hidden_size * DTYPE_BYTES[strategy.param_dtype]
    states = state_bytes(architecture, strategy, trained)
    on_host = is_paged(strategy.optimizer) or strategy.offload == "optimizer"
    masters = 4 * trained.params if strategy.offload == "optimizer" and trained.item < 4 else 0
    parts = {
        "processes": ranks * (INTERPRETER_BYTES + CUDA_PROCESS_BYTES),
        # one rank reads the whole model and sends the others their parts (accelerate's cpu_ram_efficient_loading)
        "loading": download if whole else ranks * min(download, SHARD_BYTES),
        "optimizer": states + masters if on_host else 0,
        "checkpoints": ranks * architecture.depth * hidden if strategy.gradient_checkpointing == "offloaded" else 0,
    }
    return {name: size for name, size in parts.items() if size}


def download_bytes(architecture: Architecture, strategy: Strategy, task: Task = "causal_lm") -> int:
    """What the hub sends: 16 bits per parameter, or a checkpoint that is quantized already."""
    if strategy.quant != "none" and quantization_of(strategy.quant).in_checkpoint:
        narrow = msgspec.structs.replace(strategy, param_dtype="bfloat16")
        return weights_of(architecture, narrow, task=task, stack=PINNED_STACK).before_upcast
    return base_params(architecture, task) * 2


def _disk(architecture: Architecture, strategy: Strategy, task: Task, trained: Trained, num_checkpoints: int) -> dict[str, int]:
    """System, packages, the base, checkpoints (weights and states of what is trained) and the result."""
    states = state_bytes(architecture, strategy, trained)
    return {
        "system": SYSTEM_DISK_BYTES,
        "environment": ENVIRONMENT_DISK_BYTES,
        "base": download_bytes(architecture, strategy, task),
        "checkpoints": num_checkpoints * (trained.gradients + states),
        "result": adapter_file_bytes(architecture, strategy, task=task),
        "logs": LOG_DISK_BYTES,
    }
