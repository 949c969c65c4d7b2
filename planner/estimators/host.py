"""RAM and disk of the box that trains."""

from __future__ import annotations

import math
from operator import itemgetter
from typing import Final, NamedTuple

import msgspec

from catalogs.bases.architectures import Architecture
from planner.estimators.memory.closed import filled
from planner.estimators.memory.held.kept import kept_of, stepped_of, upcast_bytes
from planner.estimators.memory.held.offloading import pinned_bytes, streamed_blocks, vocabulary_bytes
from planner.estimators.memory.held.optimizers import is_paged, state_bytes
from planner.estimators.memory.held.weights import Trained, Weights, trained_of, weights_of
from planner.estimators.memory.refused.support import require_closed_form, require_counted
from planner.methods import adapter_file_bytes, base_params
from planner.plan import HostEstimate, Verdict
from planner.strategy.as_run import as_run
from planner.strategy.cuts import cut_of
from planner.strategy.packed import is_read_packed
from planner.strategy.precision import DTYPE_BYTES, FOUR_BIT
from planner.strategy.stack import PINNED_STACK, Stack
from planner.units import GB, GIB, MB
from remote.contract import MAX_CHECKPOINTS, PACKED_HERE, Strategy, Task, arena_bytes, disk_blocks, parted, waiting_bytes

# measured: resident set of Python with torch 2.15, transformers 5.24 and peft 0.21 imported, CUDA build, 2026-11-25
INTERPRETER_BYTES: Final = 750 * MB
# assumed: what the CUDA driver and its libraries map beside it, per process
CUDA_PROCESS_BYTES: Final = 2_000 * MB
# measured: growth of the resident set over the tensors that the closed form counts: 1.49 without checkpointing and 1.54
# with it, SmolLM2-135M's shape, LoRA r 8 all-linear, 4 × 128 tokens in fp32 on a CPU, 2026-11-25
CPU_ALLOCATOR_FACTOR: Final = 1.5
# measured: the same on a 4-bit base, whose layers are unpacked between activations and leave holes in the heap: 2.0 after 5
# steps of 8 × 96 tokens, 2.2 after 20, of the same shape, 2026-11-26 (docs/LOG.md says what smaller holes would cost)
CPU_UNPACKING_ALLOCATOR_FACTOR: Final = 2.1
SHARD_BYTES: Final = 5 * GB  # derived: transformers writes shards of at most 5 GB; one is read at a time

ENVIRONMENT_DISK_BYTES: Final = 6_100 * MB  # measured: the box stack as installed, torch 2.15 with CUDA, 2026-11
SYSTEM_DISK_BYTES: Final = 12 * GB  # assumed: an Ubuntu image with the NVIDIA driver
LOG_DISK_BYTES: Final = 100 * MB  # assumed

VCPUS_PER_RANK: Final = 2  # assumed: Python's thread, and autograd's or NCCL's beside it; batches are made in the former
VCPUS_OF_THE_SYSTEM: Final = 1  # assumed: SSH, checkpoints being written

USABLE_RAM_SHARE: Final = 0.90  # assumed: the system, its page cache and our SSH server need a tenth of the RAM
ENFORCED_RAM_SHARE: Final = 0.95  # derived: what the local box's limit lets a job have (provision/direct/limits.py)


def usable_ram_bytes(ram_gib: float) -> int:
    """What of a box's RAM a job may be planned to take."""
    return int(ram_gib * GIB * USABLE_RAM_SHARE)


def least_ram_gib(ram_bytes: int) -> int:
    """The RAM of the smallest box that a job of so many bytes may be planned on."""
    return math.ceil(ram_bytes / (GIB * USABLE_RAM_SHARE))


def vcpus_of(strategy: Strategy) -> int:
    """Virtual cores that keep one node's GPUs fed: so many for each rank on it, and for the machine."""
    return VCPUS_PER_RANK * max(1, strategy.num_gpus // strategy.num_nodes) + VCPUS_OF_THE_SYSTEM


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
    num_trained: int | None = None,
) -> HostEstimate:
    """RAM of one node (all ranks on it) and disk of the box, in bytes. `on_cpu`: the model trains in RAM.

    `num_trained`: how many parameters train, where only a trace could count them. Beside a GPU this asks for no closed form of
    its memory: what is traced has a host as well.
    """
    strategy = as_run(architecture, strategy, stack)
    if num_trained is None:
        require = require_closed_form if on_cpu else require_counted
        require(architecture, strategy, task=task, stack=stack)
        made = trained_of(architecture, strategy, task=task)
        result = adapter_file_bytes(architecture, strategy, task=task)
    else:
        item = DTYPE_BYTES[strategy.adapter_dtype]
        made = Trained(num_trained, item, num_trained * item)
        result = made.gradients
    trained = kept_of(made, strategy, stack)
    if on_cpu:
        ram = {"step": _cpu_ram(architecture, strategy, task, stack)}
    else:
        ranks = max(1, num_gpus // strategy.num_nodes)
        ram = _gpu_node_ram(Node(architecture, strategy, task, stack, made, trained, ranks))
    sums = {instant: sum(parts.values()) for instant, parts in ram.items()}
    peak = max(sums, key=lambda instant: sums[instant])
    disk = _disk(architecture, strategy, task, trained) | {"result": result, "logs": LOG_DISK_BYTES}
    if (packed := _packed(architecture, strategy, task, stack)) and not on_cpu:
        disk |= {"packed": packed}
    if (waiting := _on_disk(architecture, strategy, task, stack)) and not on_cpu:
        disk |= {"streamed": waiting}
    return HostEstimate(
        ram_peak_bytes=sums[peak],
        ram_components=ram[peak],
        ram_by_instant=sums,
        disk_peak_bytes=sum(disk.values()),
        disk_components=disk,
    )


def _cpu_ram(architecture: Architecture, strategy: Strategy, task: Task, stack: Stack) -> dict[str, int]:
    """The tensors that a GPU would hold, the C library's slack, and the interpreter."""
    form = filled(architecture, strategy, task=task, gpu=None, stack=stack, on_cpu=True)
    _, parts = max(form.by_instant().values(), key=itemgetter(0))
    alive = form.components(parts)
    factor = CPU_UNPACKING_ALLOCATOR_FACTOR if strategy.quant in FOUR_BIT else CPU_ALLOCATOR_FACTOR
    slack = round(sum(alive.values()) * (factor - 1))
    return {"interpreter": INTERPRETER_BYTES, **alive, "allocator": slack}


# ── a node with GPUs ───────────────────────────────────────────────────────────────────────────────────────────────────


class Node(NamedTuple):
    """What the parts follow from."""

    architecture: Architecture
    strategy: Strategy
    task: Task
    stack: Stack
    made: Trained
    trained: Trained  # the same as it is kept
    ranks: int  # processes on it, one a GPU

    @property
    def wholes(self) -> float:
        """How often this node holds what a sharding cuts: a part of one whole, or one for each rank."""
        parted = cut_of(self.strategy).states
        return self.ranks / self.strategy.num_gpus if parted else float(self.ranks)

    @property
    def weights(self) -> Weights:
        """Of the base at rest, wherever it lies."""
        return weights_of(self.architecture, self.strategy, task=self.task, stack=self.stack)

    @property
    def upcast(self) -> int:
        """Bytes that the whole base grows by when what trains of it is kept in fp32."""
        return upcast_bytes(self.made, self.trained)


def _gpu_node_ram(node: Node) -> dict[str, dict[str, int]]:
    """Instant -> what is in RAM then: processes and what waits on the host all along, and what that instant adds."""
    processes = {"processes": node.ranks * (INTERPRETER_BYTES + CUDA_PROCESS_BYTES), "weights": _weights(node)}
    training = processes | {"optimizer": _states(node)}
    instants = {
        "load": processes | {"loading": _loading(node)},
        "step": training | {"activations": node.ranks * _activations(node)},
        "save": training | {"gathered": _gathered(node)},
    }
    return {instant: {name: size for name, size in parts.items() if size} for instant, parts in instants.items()}


def _loading(node: Node) -> int:
    """A shard for each rank. Of weights that are cut one rank reads the whole and sends the others their parts: accelerate's
    cpu_ram_efficient_loading, and transformers under ZeRO-3 (`_load_state_dict_into_zero3_model`). What is cast is so there.
    """
    download = download_bytes(node.architecture, node.strategy, node.task)
    whole = cut_of(node.strategy).weights and node.ranks > 1
    return download + node.upcast if whole else node.ranks * min(download, SHARD_BYTES)


def _states(node: Node) -> int:
    """States that are paged or offloaded; with the latter the gradients, and the fp32 masters of 16-bit parameters.

    derived: DeepSpeed (stage_1_and_2.py, stage3.py) steps in fp32 and pins the flat partition and its gradient; FSDP steps
    what it has in its own dtype. Moments are plain memory.
    """
    architecture, strategy, trained = node.architecture, node.strategy, node.trained
    if strategy.offload not in ("optimizer", "params"):
        return (
            round(node.wholes * state_bytes(architecture, strategy, trained, node.stack)) if is_paged(strategy.optimizer) else 0
        )
    if cut_of(strategy).engine == "fsdp":
        pinned = trained.gradients
    else:
        trained = msgspec.structs.replace(trained, item=DTYPE_BYTES["float32"])
        pinned = 2 * trained.gradients
    states = round(node.wholes * state_bytes(architecture, strategy, trained, node.stack))
    return states + node.ranks * pinned_bytes(pinned * node.wholes / node.ranks)


def _weights(node: Node) -> int:
    """Weights that wait on the host, pinned: offloaded ones by the parts of blocks that ranks have, streamed ones in arenas."""
    strategy, blocks = node.strategy, node.architecture.depth
    if strategy.offload == "params":
        part = node.wholes / node.ranks
        cast_outside = node.upcast * node.made.outer_params // max(1, node.made.params)
        ends = pinned_bytes((node.weights.outer + cast_outside) * part)
        return node.ranks * (blocks * pinned_bytes((node.weights.blocks + node.upcast - cast_outside) * part / blocks) + ends)
    if strategy.offload == "stream":
        outside = sum(arena_bytes(size, 1) for size in vocabulary_bytes(node.architecture, strategy, node.weights))
        return node.ranks * (waiting_bytes(streamed_blocks(strategy, node.weights), disk_blocks(strategy)) + outside)
    return 0


def _activations(node: Node) -> int:
    """What of one rank's activations waits on the host: a checkpoint of each block, or whatever the blocks save. Pinned."""
    if node.strategy.gradient_checkpointing != "offloaded" and not node.strategy.activation_offload:
        return 0
    form = filled(node.architecture, node.strategy, task=node.task, gpu=None, stack=node.stack)
    scene = form.scene
    if scene.checkpoints_leave:
        return scene.num_blocks * pinned_bytes(form.number(scene.hidden_bytes))
    away = (kind.num_layers / kind.of * sum(pinned_bytes(form.number(size)) for size in kind.away) for kind in scene.kinds)
    return round(scene.num_blocks * sum(away))


def _packed(architecture: Architecture, strategy: Strategy, task: Task, stack: Stack) -> int:
    """What is streamed in 4 or 8 bits is packed on the disk before it is loaded: in RAM it would lie beside its own copy."""
    if strategy.offload != "stream" or strategy.quant not in PACKED_HERE:
        return 0
    return round(weights_of(architecture, strategy, task=task, stack=stack).before_upcast)


def _on_disk(architecture: Architecture, strategy: Strategy, task: Task, stack: Stack) -> int:
    """Blocks that wait on the disk for want of RAM."""
    if not (number := disk_blocks(strategy)):
        return 0
    return sum(parted(streamed_blocks(strategy, weights_of(architecture, strategy, task=task, stack=stack)), number)[1])


def _gathered(node: Node) -> int:
    """Trained weights put together in 16 bits on one rank to be saved, where ranks hold parts of them."""
    return 2 * node.trained.params if cut_of(node.strategy).weights and node.ranks > 1 else 0


def download_bytes(architecture: Architecture, strategy: Strategy, task: Task = "causal_lm") -> int:
    """What the hub sends: 16 bits per parameter, or a checkpoint that is quantized already."""
    if strategy.quant != "none" and is_read_packed(architecture, strategy.quant):
        narrow = msgspec.structs.replace(strategy, param_dtype="bfloat16")
        return weights_of(architecture, narrow, task=task, stack=PINNED_STACK).before_upcast
    return base_params(architecture, task) * 2


def _disk(architecture: Architecture, strategy: Strategy, task: Task, trained: Trained) -> dict[str, int]:
    """System, packages, the base, as many checkpoints (weights and states of what is trained) as lie there at once."""
    stepped = stepped_of(trained, strategy)
    masters = stepped.gradients if stepped.item > trained.item else 0
    states = state_bytes(architecture, strategy, stepped) + masters
    return {
        "system": SYSTEM_DISK_BYTES,
        "environment": ENVIRONMENT_DISK_BYTES,
        "base": download_bytes(architecture, strategy, task),
        "checkpoints": MAX_CHECKPOINTS * (trained.gradients + states),
    }
