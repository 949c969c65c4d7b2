"""What is trained, and how: one way to train, with every field filled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from remote.contract.value import Value

Quant = Literal[
    "none", "int8", "nf4", "fp4", "gptq_int4", "gptq_int8", "awq_int4", "hqq_int4", "hqq_int3", "hqq_int2", "mxfp4", "fp8"
]
KbitUpcast = Literal["none", "norms", "full"]
Dtype = Literal["float32", "bfloat16", "float16"]
StorageDtype = Literal["uint8", "bfloat16", "float16", "float32"]
Autocast = Literal["none", "bfloat16", "float16"]
Optimizer = Literal[
    "adamw_torch", "adamw_torch_fused", "adamw_8bit", "adamw_4bit", "paged_adamw_32bit", "paged_adamw_8bit", "adafactor",
    "sgd", "sgd_momentum", "lion_32bit", "lion_8bit", "muon", "lora_fa", "galore_adamw",
]  # fmt: skip
Checkpointing = Literal["off", "reentrant", "non_reentrant", "offloaded"]
Attention = Literal["sdpa", "eager", "flash_attention_2"]
Loss = Literal["hf", "hf_shifted", "chunked", "chunked_logits", "liger", "fused_inplace"]
Kernels = Literal["eager", "fused", "compiled"]
Sharding = Literal["none", "ddp", "zero1", "zero2", "zero3", "fsdp", "device_map"]
Offload = Literal["none", "optimizer", "params", "stream"]


class Streaming(Value, frozen=True, kw_only=True):
    """How frozen blocks pass through the GPU when `offload` is "stream". CAPABILITIES says what of it the trainer does."""

    num_slots: int
    num_resident_blocks: int  # these never leave, evenly spaced among the others
    num_visits: int  # micro-batches served by one visit of a block
    num_blocks_without_recompute: int  # the last K blocks keep their activations
    pinned: bool = True  # False: pageable memory, where a machine can't pin enough; each copy waits then, and nothing is hidden
    num_disk_blocks: int = 0  # of those that pass by so many wait on the disk, evenly spaced, for want of RAM
    vocabulary_passes: bool = False  # embedding and head wait in RAM, too; rows are gathered there, the head comes for a loss


# derived: one block computes while the next arrives; fewer slots would make them take turns
BY_TWO_SLOTS: Final = Streaming(num_slots=2, num_resident_blocks=0, num_visits=1, num_blocks_without_recompute=0)
PASSING_TOO: Final = Streaming(
    num_slots=2, num_resident_blocks=0, num_visits=1, num_blocks_without_recompute=0, vocabulary_passes=True
)  # the same, of which a plan begins where embedding and head pass by as well

# Quants of bases that others packed on the disk: nothing of ours makes them, and the trainer takes them as they lie there. The
# way is the one that transformers names in `quantization_config`.
STORED_QUANTS: Final[Mapping[Quant, str]] = {"gptq_int4": "gptq", "gptq_int8": "gptq", "awq_int4": "awq", "hqq_int4": "hqq"}

# The key of a config.json under which a base that was packed on the disk says in which way. See `remote.quantized`.
PACKED_KEY: Final = "rentune_packed"
PACKED_INDEX: Final = "packed.json"  # beside it: the hash of each file, and whether all of it is there
PACKED_HERE: Final[tuple[Quant, ...]] = ("nf4", "fp4", "int8")  # what it packs
DOUBLE_QUANTS: Final[tuple[Quant, ...]] = ("nf4", "fp4")  # of these, those whose scales may be quantized again


class PackedFile(Value, frozen=True, kw_only=True):
    """One file of a base's weights is there, packed now or before: what is told after each."""

    file: str
    number: int  # from 1 on
    of: int
    read_bytes: int
    written_bytes: int
    packed_now: bool


def disk_blocks(strategy: Strategy) -> int:
    """How many blocks are to wait on the disk."""
    return strategy.streaming.num_disk_blocks if strategy.offload == "stream" and strategy.streaming is not None else 0


def passes_vocabulary(strategy: Strategy) -> bool:
    """Whether embedding and head wait in host memory beside streamed blocks."""
    said = strategy.streaming
    return strategy.offload == "stream" and said is not None and said.vocabulary_passes


# Of `method_options`, an option of ours for LoRA, which peft has on its layers alone (`cast_input_dtype_enabled`): whether an
# input is cast to the dtype that the adapter is held in.
CAST_INPUT: Final = "cast_input_dtype"
ALPHA_PER_RANK: Final = 2.0  # assumed: the field's habit, as in TRL 1.10 (r 16, alpha 32)


class Strategy(Value, frozen=True, kw_only=True):
    """One way to train, complete: chosen by the planner, carried out by the trainer to the letter.

    Field names and values are those of the estimate contract. Nothing here is "auto". A step down from it is an Event.
    """

    method: str  # as the estimate contract names it; qlora is resolved to lora + nf4 + double_quant before it gets here
    rank: int | None = None  # None where the method has no rank
    alpha: float | None = None  # None = ALPHA_PER_RANK × rank
    dropout: float = 0.0
    target_modules: tuple[str, ...] | Literal["all-linear", "default"] = "all-linear"
    modules_to_save: tuple[str, ...] = ()
    num_virtual_tokens: int | None = None
    trainable_layers: int | None = None
    method_options: dict[str, Any] = {}
    quant: Quant = "none"
    double_quant: bool = False
    quant_storage: StorageDtype = "uint8"
    kbit_upcast: KbitUpcast = "none"
    param_dtype: Dtype = "bfloat16"
    autocast: Autocast = "bfloat16"
    adapter_dtype: Dtype = "float32"
    optimizer: Optimizer = "adamw_torch_fused"
    optimizer_in_backward: bool = False
    micro_batch_size: int = 1
    gradient_accumulation_steps: int = 1
    seq_len: int = 2048
    padded: bool = False  # batches hold padding, so a mask reaches the kernels
    gradient_checkpointing: Checkpointing = "non_reentrant"
    activation_offload: bool = False
    attention: Attention = "sdpa"
    loss: Loss = "hf"
    kernels: Kernels = "eager"
    num_gpus: int = 1
    num_nodes: int = 1
    sharding: Sharding = "none"
    offload: Offload = "none"
    streaming: Streaming | None = None  # how blocks pass under offload "stream"; None = BY_TWO_SLOTS

    def __hash__(self) -> int:
        """Equal strategies have equal hashes; `method_options`, which have none, are left to the comparison."""
        model = self.method, self.rank, self.target_modules, self.quant, self.param_dtype, self.optimizer
        return hash((*model, self.gradient_checkpointing, self.sharding, self.num_gpus, self.seq_len, self.micro_batch_size))
