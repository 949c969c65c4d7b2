"""What an estimate tells of its case: keys said in vain, what was overruled, and what had to be assumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from planner.asking.case import Case, stack_of
from planner.estimators.calibration import MULTIPLIES_IN
from planner.estimators.memory.held.optimizers import BITSANDBYTES_OPTIMIZERS
from planner.methods import METHODS, NUM_LABELS, QLORA, QLORA_MEANS
from planner.notices.cards import SHARED_MEMORY, UNSURE_KERNELS, UNSURE_OPTIMIZER, has_unsure_kernels, lacking, no_code_for
from planner.notices.vain import Understood, unread, without_effect
from planner.plan import VramEstimate
from planner.strategy.as_run import as_run, departures
from planner.strategy.cuts import cut_of, cuts_weights
from planner.strategy.precision import BITSANDBYTES, FOUR_BIT
from planner.strategy.stack import unprofiled
from planner.units import MIB, gib


def notices_of(this: Understood, said: Iterable[str]) -> Iterator[str]:
    """Keys said in vain, then assumptions."""
    for key in said:
        if sentences := unread((key,), (this.strategy,)):
            yield from sentences
        elif (sentence := without_effect(key, this)) is not None:
            yield sentence
    yield from _overruled(this.case, said)
    yield from _cut_to_reach(this, said)
    yield from _upcast_by_default(this, said)
    if this.gpu is not None and (reason := no_code_for(this.gpu)) is not None:
        yield f"{this.gpu.name}: {reason}; the estimate is for a stack that has it"
    yield from unprofiled(this.case.versions)
    yield from departures(this.architecture, this.strategy, stack_of(this.case))
    if this.gpu is not None:
        yield from lacking(this.gpu, this.strategy, stack_of(this.case))
    for applies, sentence in ASSUMPTIONS:
        if applies(this):
            yield sentence.format(this=this, gpu=this.gpu, labels=NUM_LABELS)


def _overruled(case: Case, said: Iterable[str]) -> Iterator[str]:
    """What a short word for a method means, where something else was said beside it."""
    if case.method != QLORA:
        return
    for key in said:
        if key in QLORA_MEANS and key != "method" and getattr(case, key) != QLORA_MEANS[key]:
            asked, meant = (str(value).lower() for value in (getattr(case, key), QLORA_MEANS[key]))
            yield f"{key} {asked} is overruled: method qlora means {key} {meant}; say method lora to choose"


def _cut_to_reach(this: Understood, said: Iterable[str]) -> Iterator[str]:
    """Which length is estimated where none was said, and the model reads less than the default."""
    said, read, usual = tuple(said), this.strategy.seq_len, Case(model="").seq_len
    if said and "seq_len" not in said and read < usual:
        yield f"seq_len: none was said, and {read:,} is estimated, not {usual:,}: {this.architecture.name} reads no more"


def _upcast_by_default(this: Understood, said: Iterable[str]) -> Iterator[str]:
    """What the contract's default of a quantized base stands for, where it was not said: a plan trains otherwise."""
    said, strategy = tuple(said), as_run(this.architecture, this.strategy, stack_of(this.case))
    if said and "kbit_upcast" not in said and strategy.quant in BITSANDBYTES and strategy.kbit_upcast == "full":
        yield (
            "kbit_upcast: none was said, and full is estimated, as peft's prepare_model_for_kbit_training casts to fp32; "
            "`rentune plan` and its trainer cast the norms alone: say kbit_upcast norms for what they need"
        )


def cache_notice(vram: VramEstimate) -> Iterator[str]:
    """Why a card may do that has less than the process will take."""
    over_bytes = vram.process_peak_bytes - vram.required_bytes
    if over_bytes >= MIB:
        yield (
            f"process_peak_bytes is {over_bytes / MIB:,.0f} MiB above required_bytes ({gib(vram.required_bytes)}): "
            "that is the allocator's spare cache, which it gives back where the card is full"
        )


def _shards_packed_bytes(this: Understood) -> bool:
    return cuts_weights(this.strategy) and this.strategy.quant in FOUR_BIT and this.strategy.quant_storage == "uint8"


def _unpacks_fp8(this: Understood) -> bool:
    """Whether the card is older than FP8. derived: transformers' FineGrainedFP8HfQuantizer then loads it as 16 bits."""
    return this.strategy.quant == "fp8" and this.gpu is not None and this.gpu.architecture not in MULTIPLIES_IN["fp8"]


def _lacks_products(this: Understood) -> bool:
    """Whether the card has no units for the products that are asked for."""
    asked = this.case.matmul_dtype
    return this.gpu is not None and asked in MULTIPLIES_IN and this.gpu.architecture not in MULTIPLIES_IN[asked]


def _rank_reaches_width(this: Understood) -> bool:
    """Whether the rank is no lower than a width of the model: factors of it are then as large as what they stand for."""
    rank = this.strategy.rank
    return rank is not None and METHODS[this.strategy.method].adapter is not None and rank >= this.architecture.hidden_size


def _scales_narrow_gradients(this: Understood) -> bool:
    """derived: `_unscale_grads_` of torch's GradScaler raises ValueError."""
    moves = METHODS[this.strategy.method].moves
    trained = this.strategy.param_dtype if moves else this.strategy.adapter_dtype
    return this.strategy.autocast == "float16" and trained == "float16"


ASSUMPTIONS: Final[tuple[tuple[Callable[[Understood], bool], str], ...]] = (
    (
        lambda this: this.strategy.seq_len > this.architecture.max_positions,
        "seq_len is longer than the {this.architecture.max_positions} positions of {this.architecture.name}",
    ),
    (
        _rank_reaches_width,
        "rank {this.strategy.rank} is not below the width of {this.architecture.name}, {this.architecture.hidden_size}",
    ),
    (
        lambda this: this.case.num_virtual_tokens is None and this.strategy.num_virtual_tokens is not None,
        "num_virtual_tokens {this.strategy.num_virtual_tokens} is taken, as nobody said how many",
    ),
    (
        lambda this: this.case.trainable_layers is None and this.strategy.trainable_layers is not None,
        "trainable_layers {this.strategy.trainable_layers} is taken, as nobody said how many",
    ),
    (
        lambda this: this.architecture.attention_softcap and this.strategy.attention == "sdpa",
        "{this.architecture.model_type} caps its attention scores, which sdpa can't: eager attention is estimated",
    ),
    (
        lambda this: not this.architecture.fused_attention and this.strategy.attention == "sdpa",
        "transformers has no fused attention for {this.architecture.model_type}: eager attention is estimated",
    ),
    (
        lambda this: this.architecture.part_of is not None,
        "the language model of {this.architecture.part_of} alone is estimated, without its vision tower",
    ),
    (
        lambda this: this.architecture.remote_code,
        "the code of {this.architecture.name} comes with its weights: shapes are as published, operations as in its kin",
    ),
    (_shards_packed_bytes, "4-bit weights stored as uint8 can't be cut into shards; quant_storage bfloat16 is estimated"),
    (
        lambda this: (
            this.gpu is not None and not this.gpu.bf16 and "bfloat16" in (this.strategy.param_dtype, this.strategy.autocast)
        ),
        "{this.gpu.name} does not compute in bfloat16; float16 needs the same memory and is what to run",
    ),
    (
        lambda this: this.gpu is not None and this.gpu.shares_ram and this.case.gpu_memory_gib is None,
        f"{SHARED_MEMORY}; gpu_memory_gib says what is free",
    ),
    (
        _scales_narrow_gradients,
        "torch refuses to unscale gradients of float16 weights under a float16 autocast: float32 is what to train in",
    ),
    (
        lambda this: this.gpu is not None and this.strategy.quant in BITSANDBYTES and has_unsure_kernels(this.gpu),
        UNSURE_KERNELS,
    ),
    (
        lambda this: (
            this.gpu is not None and this.strategy.optimizer in BITSANDBYTES_OPTIMIZERS and has_unsure_kernels(this.gpu)
        ),
        UNSURE_OPTIMIZER,
    ),
    (
        lambda this: (
            this.gpu is not None and this.strategy.attention == "flash_attention_2" and this.gpu.flash_attention == "no"
        ),
        "FlashAttention-2 does not run on {this.gpu.name}: attention sdpa is what to run",
    ),
    (
        lambda this: this.strategy.quant in BITSANDBYTES and stack_of(this.case).reads_ahead,
        "transformers 5.0 to 5.22 read weights ahead of packing them: loading may take up to all in 16 bits, not counted here",
    ),
    (
        _unpacks_fp8,
        "transformers unpacks FP8 weights to 16 bits on {this.gpu.name}, which has no FP8 of its own: estimate quant none",
    ),
    (
        _lacks_products,
        "{this.gpu.name} does not multiply in {this.case.matmul_dtype}: the speed of its 16-bit products is estimated",
    ),
    (
        lambda this: this.strategy.quant == "mxfp4" and this.case.stack in ("transformers", "trl"),
        "transformers unpacks MXFP4 experts to 16 bits to train (quant none); kernels that train on packed ones are meant",
    ),
    (
        lambda this: this.case.task in ("classification", "token_classification"),
        "{labels} labels are assumed; more move memory by kilobytes",
    ),
    (
        lambda this: this.strategy.kernels == "compiled",
        "compiled kernels: what torch.compile fuses is assumed, not measured",
    ),
    (
        lambda this: this.architecture.num_experts > 0,
        "experts: grouped products over evenly routed tokens are assumed; not checked against a measured peak",
    ),
    (
        lambda this: stack_of(this.case).model_parallel > 1,
        "parallel sizes cut weights and activations evenly here; not checked against a measured peak",
    ),
    (
        lambda this: stack_of(this.case).pipeline_parallel_size > 1 and this.gpu is not None,
        "a pipeline's stages wait for one another as a step begins and ends: one stage a GPU is estimated, not interleaved",
    ),
    (
        lambda this: (cut_of(this.strategy).states or cut_of(this.strategy).spreads_blocks) and this.strategy.num_gpus > 1,
        "sharded memory follows from the code of FSDP and DeepSpeed; not checked against a measured peak",
    ),
    (
        lambda this: this.strategy.offload != "none" or this.strategy.activation_offload,
        "offload follows from the code of DeepSpeed, FSDP and torchtune; not checked against a measured peak",
    ),
    (
        lambda this: this.strategy.offload == "stream" and this.strategy.streaming is None,
        "streaming: two blocks lie on the GPU at a time, the others in pinned host memory",
    ),
    (
        lambda this: this.strategy.quant.startswith("gptq") and this.strategy.sharding == "fsdp" and this.strategy.num_gpus > 1,
        "GPTQ under FSDP: packed integers looked at as 16-bit numbers, as fms-acceleration does, are estimated",
    ),
    (
        lambda this: this.case.evaluation is not None and this.case.evaluation.logits == "kept_gpu",
        "logits kept on the GPU are counted for one evaluation batch; they grow with every further batch",
    ),
)
