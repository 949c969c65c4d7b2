"""`Numerics`: dtypes, kernels and sizes under which a block's operations run; what a Strategy means for one GPU."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from catalogs.bases.architectures import Architecture, Linear
from catalogs.hardware import Gpu
from planner.estimators.memory.step.letters import LETTERS, Sizes
from planner.methods import (
    ADAPTERS,
    EVERYTHING,
    METHODS,
    Dials,
    Fused,
    Kind,
    adapted_experts,
    adapted_names,
    dials_of,
    moved_in_block,
    saved_modules,
)
from planner.strategy.cuts import cut_of
from planner.strategy.precision import (
    BITSANDBYTES,
    DTYPE_BYTES,
    FOUR_BIT,
    is_packed,
    items_of,
    packs_linears,
    resting_item,
)
from planner.strategy.stack import PINNED_STACK, Stack
from remote.contract import Strategy

# Which fused kernels a stack's "fused" means. measured: the runs of fms-acceleration (trl) show fused norms, rotary
# positions and cross-entropy, fused LoRA products only over quantized weights, and a plain MLP (docs/derivations.md);
# derived: Unsloth's kernels (unsloth/kernels) cover the MLP as well.
FUSED_BY_STACK: Final[dict[str, frozenset[str]]] = {
    "trl": frozenset({"norm", "rope", "quantized_lora"}),
    "transformers": frozenset({"norm", "rope"}),  # derived: remote/kernels/fused.py leaves linears and adapters as they are
    "unsloth": frozenset({"norm", "rope", "mlp", "lora", "quantized_lora"}),
}
FUSED: Final = frozenset({"norm", "rope", "mlp"})  # assumed: other stacks fuse what Liger's kernels fuse
COMPILED: Final = frozenset({"norm", "rope", "mlp"})  # assumed: torch.compile recomputes elementwise work in backward

MAX_FLASH_HEAD_DIM: Final = 256  # derived: torch's flash kernel

INTEGER_MASK: Final = 8  # derived: get_attention_mask of DebertaV2Encoder multiplies int64 masks of rows and columns

BIASED_SCORES: Final = frozenset({"alibi_wide", "alibi_summed"})  # by positions, from head to head otherwise

# derived: check_head_dim_size_mem_efficient of torch's sdp_utils.cpp; the kernel reads 16 bytes at once
NARROW_HEADS: Final = 8  # a head of 16-bit numbers must be a multiple of so many for the memory-efficient kernel
WIDE_HEADS: Final = 4  # derived: likewise, one of 32-bit numbers
AttentionKernel = Literal["flash", "efficient", "mathematics", "cpu", "eager"]


class Numerics(msgspec.Struct, frozen=True):
    """All that the tape of a block needs to know beside the architecture. Item sizes in bytes."""

    batch: Sizes
    residual: int  # item size of the residual stream
    embedded: int  # of what comes into the first block
    norm_weight: int  # of norm weights: an fp32 weight lifts a 16-bit norm's output
    weight: int  # of unquantized linears
    kept_weight: int  # of linears that a quantization leaves as they are
    autocast: int  # 0 = none, else the item size of matrix products
    copies_weights: bool  # whether autocast casts weights of another dtype, each at its product; gathered parts come cast
    float16: bool  # whether the 16-bit type is fp16
    adapter: int
    resting: int  # of what an adapter brings along and does not train
    quant: str  # "none" = plain linears
    four_bit: bool
    nested_scales: bool  # of four bits, quantized themselves
    adapted: frozenset[str]  # module paths that carry an adapter
    adapted_experts: tuple[Fused, ...]
    adapter_kind: Kind | None
    dials: Dials  # of the adapter
    dropout: float  # of the adapter
    trains_linears: frozenset[str]  # module paths whose weights get gradients
    trains_all: bool  # a block that trains does so whole: its norms, its experts
    trains_norms: bool
    trains_biases: bool
    inserted: frozenset[str]  # module paths that a bottleneck adapter stands behind
    inserted_width: int
    non_linearity: str  # of that adapter
    prefix: int  # positions whose keys and values are learned
    cache: int  # item size of those, and of whatever else embeddings give: T5's biases
    attention: AttentionKernel
    repeats_kv: bool
    mask_item: int  # bytes per pair of tokens of the mask that all blocks are given
    wide_queries: bool  # what hangs on their linear makes them fp32
    zero_bias_asks: bool  # T5's, between encoder and decoder, asks for a gradient
    own_bias_asks: bool  # T5's others do as well, as a re-entrant checkpoint hands them on
    gives_up_early: bool  # what was saved is gone before an operation's gradients are cast: so hooks of a checkpoint have it
    adds_up: bool  # weights' gradients go at once into such as stand already, or are used up
    masked: bool  # a kernel is given a mask of pairs: for padding, a prefix, or a window that the sequence is longer than
    fused: frozenset[str]

    def sizes(self, module: Linear) -> tuple[int, ...]:
        """Entries of each trained tensor that the method hangs on this linear."""
        return () if self.adapter_kind is None else ADAPTERS[self.adapter_kind].trained(module, self.dials)

    @property
    def queries(self) -> int:
        """Item size of queries, which the zeros between T5's encoder and decoder have as well."""
        return 4 if self.wide_queries else self.product(self.norm_weight)

    def bias_entries(self, heads: int, *, each: bool) -> int:
        """Numbers of a bias for every pair of positions and head: one for all sequences, or one for each."""
        sequences = self.batch.sequences if each else 1
        return sequences * heads * self.seq_len * self.seq_len

    @property
    def tokens(self) -> int:
        """Tokens that one GPU computes on at once."""
        return self.batch.tokens

    @property
    def seq_len(self) -> int:
        """Positions of a sequence."""
        return self.batch.seq_len

    @property
    def keys(self) -> int:
        """Positions that have a key and a value: the tokens, and those of a learned prefix before each sequence."""
        return self.batch.tokens + (self.batch.learned if self.prefix else 0)

    @property
    def pairs(self) -> int:
        """Pairs of a token and a position that it may look at."""
        return self.batch.tokens * (self.batch.seq_len + self.prefix)

    def product(self, operand: int) -> int:
        """Item size of a linear's output, given that of its input. bitsandbytes hands back the input's dtype."""
        if self.quant in BITSANDBYTES:
            return operand
        return self.autocast or self.weight


def fused_kernels(strategy: Strategy, stack: Stack) -> frozenset[str]:
    """The kernels that are not plain modules. assumed: who trains Mamba blocks by a loop of their own has mamba_ssm's."""
    kernels = _kernels_of_modules(strategy, stack)
    return kernels if stack.name == PINNED_STACK.name and strategy.kernels == "eager" else kernels | {"mamba"}


def _kernels_of_modules(strategy: Strategy, stack: Stack) -> frozenset[str]:
    if strategy.kernels == "compiled":
        return COMPILED
    if strategy.kernels == "fused":
        fused = FUSED_BY_STACK.get(stack.name, FUSED)
        return fused | {"lora"} if "quantized_lora" in fused and strategy.quant != "none" else fused
    return frozenset()


def numerics_of(
    architecture: Architecture,
    strategy: Strategy,
    *,
    flash: bool,
    stack: Stack,
    on_cpu: bool = False,
    sizes: Sizes = LETTERS,
    part_of: Architecture | None = None,
) -> Numerics:
    """What the strategy means under this stack on a card with or without the flash kernel.

    `part_of`: the whole of which this is one kind of block, where targets may lie in blocks of another kind alone.
    """
    items = items_of(strategy)
    weight = items.weight
    autocast = 0 if strategy.autocast == "none" else DTYPE_BYTES[strategy.autocast]
    method = METHODS[strategy.method]
    adapter, whole = method.adapter, part_of or architecture
    moves, linears = moved_in_block(architecture, strategy)
    prefix = prefix_tokens(strategy)
    behind = () if method.inserted_behind is None else method.inserted_behind(architecture, strategy)
    adapted = adapted_names(whole, strategy)
    widens = adapter is not None and strategy.quant in adapter.widens and bool(autocast) and strategy.adapter_dtype == "float32"
    widened = widens and _meets_residual(architecture, adapted)
    biased, masked = _is_biased(architecture), is_masked(architecture, strategy)
    kernel = attention_kernel(architecture, strategy, stack, flash=flash, on_cpu=on_cpu)
    embeds_wide = strategy.adapter_dtype == "float32" and whole.embedding_name in saved_modules(whole, strategy)
    wide = widened or embeds_wide or _autocast_widens(architecture, strategy) or _upcast_widens(architecture, strategy)
    residual = 4 if wide else weight
    added = items.rest * (architecture.num_heads if biased else 1) if kernel == "eager" or biased else 1
    added = INTEGER_MASK if architecture.scores == "disentangled" else added
    return Numerics(
        batch=sizes,
        residual=residual,
        embedded=residual if embeds_wide or _embeds_normed(architecture, strategy) else min(residual, items.rest),
        norm_weight=items.norm,
        weight=items.rest if strategy.quant == "none" else weight,
        kept_weight=items.rest,
        autocast=autocast,
        copies_weights=bool(autocast) and not cut_of(strategy).weights,
        float16="float16" in (strategy.autocast, strategy.param_dtype),
        adapter=DTYPE_BYTES[strategy.adapter_dtype],
        resting=resting_item(strategy),
        quant=strategy.quant if packs_linears(strategy.quant) else "none",
        four_bit=strategy.quant in FOUR_BIT,
        nested_scales=strategy.quant in FOUR_BIT and strategy.double_quant,
        adapted=adapted,
        adapted_experts=adapted_experts(architecture, strategy),
        adapter_kind=adapter.kind if adapter else None,
        dials=dials_of(adapter, strategy) if adapter else Dials(),
        dropout=strategy.dropout,
        trains_linears=linears if "weights" in moves else frozenset(),
        trains_all=moves == EVERYTHING,
        trains_norms="norms" in moves,
        trains_biases="biases" in moves,
        inserted=frozenset(linear.name for linear in behind),
        inserted_width=(strategy.rank or 0) if behind else 0,
        non_linearity=str(strategy.method_options.get("non_linearity", "relu")) if behind else "",
        prefix=prefix,
        cache=items.rest,
        attention=kernel,
        repeats_kv=_repeats_kv(architecture, kernel, strategy, stack, groups=on_cpu or flash, masked=masked),
        mask_item=added if kernel == "eager" or (masked and kernel == "efficient") else 0,
        wide_queries=widens and any(linear.name in adapted for linear in architecture.linears if linear.role == "cross_query"),
        zero_bias_asks=architecture.position_bias and strategy.gradient_checkpointing != "off",
        own_bias_asks=architecture.position_bias and strategy.gradient_checkpointing == "reentrant",
        gives_up_early=strategy.gradient_checkpointing == "non_reentrant",
        adds_up=adds_up(strategy),
        masked=masked,
        fused=fused_kernels(strategy, stack),
    )


def accumulates(strategy: Strategy) -> bool:
    """Whether gradients are added to such as stand from the pass before, or are used up as they come."""
    return strategy.gradient_accumulation_steps > 1 or strategy.optimizer_in_backward


def adds_up(strategy: Strategy) -> bool:
    """Whether gradients are added up one by one: where they are cut, those of a whole unit wait until they are reduced."""
    return accumulates(strategy) and not cut_of(strategy).gradients


def positions_of(strategy: Strategy) -> int:
    """Positions of a sequence: the tokens of a learned prompt stand in front."""
    return strategy.seq_len + (strategy.num_virtual_tokens or 0) - prefix_tokens(strategy)


def prefix_tokens(strategy: Strategy) -> int:
    """Learned positions that are no part of the sequence: their keys and values lie in the cache of each block."""
    return strategy.num_virtual_tokens or 0 if _in_cache(strategy) else 0


def _in_cache(strategy: Strategy) -> bool:
    prompt = METHODS[strategy.method].prompt
    return prompt is not None and prompt.stands_in == "cache"


def frozen(numerics: Numerics) -> Numerics:
    """Numerics of what lies around trained blocks: nothing of the base moves there, and nothing is added."""
    return msgspec.structs.replace(
        numerics,
        trains_linears=frozenset(),
        trains_all=False,
        trains_norms=False,
        trains_biases=False,
        adapted=frozenset(),
        adapted_experts=(),
        inserted=frozenset(),
    )


def behind(numerics: Numerics) -> Numerics:
    """The same for a head with no linear of its own but the output matrix: nothing is packed there, and no adapter hangs on it.
    So bases that are held in different ways share what is played of it.
    """
    return msgspec.structs.replace(
        numerics,
        quant="none",
        four_bit=False,
        nested_scales=False,
        adapter=DTYPE_BYTES["float32"],
        resting=DTYPE_BYTES["float32"],
        adapted=frozenset(),
        adapted_experts=(),
    )


def entered(numerics: Numerics) -> Numerics:
    """Numerics of the first block, whose stream is as wide as embeddings make it until its own norms or linears widen it."""
    return msgspec.structs.replace(numerics, residual=numerics.embedded)


def _autocast_widens(architecture: Architecture, strategy: Strategy) -> bool:
    """Whether autocast's fp32 layer norms make the residual stream fp32: where it is what a norm gives, before the blocks or
    in each, or where bitsandbytes' linears, or experts, hand the norms' dtype on to what is added to it.
    """
    through_linears = architecture.norm == "layer" and (strategy.quant in BITSANDBYTES or architecture.num_experts > 0)
    what_norms_give = architecture.layout == "post" or architecture.normed_embeddings
    return strategy.autocast != "none" and (what_norms_give or through_linears)


def _embeds_normed(architecture: Architecture, strategy: Strategy) -> bool:
    """Whether what comes into the first block is what a norm of autocast gives."""
    return strategy.autocast != "none" and architecture.normed_embeddings


def _upcast_widens(architecture: Architecture, strategy: Strategy) -> bool:
    """Whether what is cast to fp32 makes the residual stream so: the embedding does; norms do by way of a block's last linear
    where that is quantized, or by experts, which hand back the dtype that they are given. Gemma's norms do so themselves, and
    plain linears give autocast's, as do those behind attention, whatever they are.
    """
    items = items_of(strategy)
    packed_last = any(linear.role == "down" and is_packed(linear, strategy.quant) for linear in architecture.linears)
    routed = architecture.num_experts > 0 and architecture.experts != "every"  # Llama 4's are a product of autocast's
    hands_on = strategy.autocast == "none" or packed_last or routed
    return items.rest == 4 or (items.norm == 4 and hands_on and architecture.norm != "rms_fp32")


def _meets_residual(architecture: Architecture, adapted: frozenset[str]) -> bool:
    """Whether a linear that writes to the residual stream carries an adapter."""
    return any(linear.name in adapted and linear.role in ("output", "down") for linear in architecture.linears)


def has_flash(gpu: Gpu | None) -> bool:
    """The flash kernel of torch needs compute capability 8.0; None = no card was named, a present one is assumed."""
    return gpu is None or gpu.compute_capability is None or gpu.compute_capability >= (8, 0)


def _is_biased(architecture: Architecture) -> bool:
    """Whether its mask differs from head to head."""
    return architecture.scores in BIASED_SCORES and architecture.fused_attention


def is_masked(architecture: Architecture, strategy: Strategy) -> bool:
    """Whether a mask of its own reaches the kernel, which a causal one never does."""
    windowed = architecture.window is not None and positions_of(strategy) >= architecture.window
    return strategy.padded or _in_cache(strategy) or _is_biased(architecture) or windowed


def attention_kernel(
    architecture: Architecture, strategy: Strategy, stack: Stack, *, flash: bool, on_cpu: bool = False
) -> AttentionKernel:
    """Which kernel runs. Some models have only the eager path in transformers; a mask, fp32 or an old card excludes flash."""
    unfused = not architecture.fused_attention or (architecture.attention_softcap and strategy.attention == "sdpa")
    unbiased = architecture.position_bias and not stack.has("bias_in_sdpa")
    if strategy.attention == "eager" or unfused or unbiased:
        return "eager"
    if on_cpu:
        return "cpu"
    if strategy.attention == "flash_attention_2":
        return "flash"
    if architecture.shared_kv_broadcast:
        return "mathematics"
    narrow_head = architecture.head_dim <= MAX_FLASH_HEAD_DIM and architecture.mixer != "latent"  # latent keys are wider
    unmasked = not is_masked(architecture, strategy) and not architecture.position_bias
    narrow = _has_narrow_queries(architecture, strategy)
    if flash and narrow_head and unmasked and narrow:
        return "flash"
    uneven = architecture.head_dim % (NARROW_HEADS if narrow else WIDE_HEADS) != 0
    unknown = narrow and not flash and _narrow_dtype(strategy) == "bfloat16"  # to that kernel, before compute capability 8.0
    return "mathematics" if uneven or unknown else "efficient"


def _narrow_dtype(strategy: Strategy) -> str:
    """Of queries that have 16 bits."""
    return strategy.param_dtype if strategy.autocast == "none" else strategy.autocast


def _has_narrow_queries(architecture: Architecture, strategy: Strategy) -> bool:
    """Whether queries have 16 bits: by autocast, by the weight that makes them, or as bitsandbytes' linears are given such."""
    items = items_of(strategy)
    if strategy.autocast != "none" or items.weight == items.norm:
        return strategy.autocast != "none" or items.weight != DTYPE_BYTES["float32"]
    return strategy.quant not in BITSANDBYTES or (architecture.norm == "rms_fp32" and items.rest == items.weight)


def _repeats_kv(
    architecture: Architecture, kernel: AttentionKernel, strategy: Strategy, stack: Stack, *, groups: bool, masked: bool
) -> bool:
    """Whether keys and values are copied to all query heads before the kernel. `groups`: sdpa has one here that need not.

    derived: transformers' eager paths always copy; its sdpa_attention_forward groups heads inside the kernel only without a
    mask.
    """
    if architecture.num_kv_heads == architecture.num_heads:
        return False
    if architecture.expands_kv or kernel == "eager":
        return True
    if strategy.attention == "flash_attention_2":
        return architecture.expanded_kv_for_flash and not stack.has("grouped_flash")
    return masked or not stack.has("grouped_sdpa") or not groups
