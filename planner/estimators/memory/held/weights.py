"""What lies on the GPU before a step begins: weights at rest, adapter, gradients, optimizer states."""

from __future__ import annotations

from functools import lru_cache
from operator import mul
from typing import Any, Final

import msgspec

from catalogs.bases.architectures import Architecture, Linear
from planner.estimators.memory.held.share import UNCUT, Stage
from planner.methods import (
    METHODS,
    adapter_params,
    adapter_tensors,
    base_params,
    carrying_blocks,
    frozen_bytes,
    head_params,
    resting_entries,
    trainable_params,
)
from planner.strategy.packed import is_read_packed, packed_by_others
from planner.strategy.precision import (
    DTYPE_BYTES,
    is_packed,
    items_of,
    packs_experts,
    quantized_bytes,
    table_bytes,
)
from planner.strategy.stack import Stack
from planner.units import ALLOCATION_BYTES, rounded
from remote.contract import Strategy, Task

FP32: Final = 4


class Weights(msgspec.Struct, frozen=True):
    """Bytes of the base at rest, after any k-bit preparation."""

    blocks: int  # all blocks
    largest_block: int
    outer: int  # embeddings, output head, final norm, task head
    blocks_before_upcast: int  # as loaded
    outer_before_upcast: int
    largest_loaded: int  # the largest tensor in 16 bits, beside its packed copy, where loading packs it
    largest_upcast: int  # the largest tensor that preparation casts, in its old dtype
    lm_head_item: int
    travelling: tuple[int, ...]  # of each block what passes through slots where blocks are streamed; the rest stays

    @property
    def staying(self) -> int:
        """Of all blocks what stays on the GPU where they are streamed: norms, biases, code tables."""
        return self.blocks - sum(self.travelling)

    @property
    def before_upcast(self) -> int:
        """Of everything, as loaded."""
        return self.blocks_before_upcast + self.outer_before_upcast

    def on(self, stage: Stage) -> Weights:
        """What of them lies on a GPU that computes this part of the model."""
        return Weights(
            blocks=stage.of_blocks(self.blocks),
            largest_block=stage.of_ends(self.largest_block),
            outer=stage.of_ends(self.outer),
            blocks_before_upcast=stage.of_blocks(self.blocks_before_upcast),
            outer_before_upcast=stage.of_ends(self.outer_before_upcast),
            largest_loaded=stage.of_ends(self.largest_loaded),
            largest_upcast=stage.of_ends(self.largest_upcast),
            lm_head_item=self.lm_head_item,
            travelling=self.travelling,  # blocks that are cut are not streamed
        )


# derived: one GPU with the least batch, all of it there; none of these moves what a base weighs, nor what of it trains
ALONE: Final[dict[str, Any]] = {
    "micro_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "gradient_checkpointing": "off",
    "sharding": "none",
    "num_gpus": 1,
    "num_nodes": 1,
    "loss": "hf",
    "offload": "none",
    "streaming": None,
}
FROZEN: Final[dict[str, Any]] = ALONE | {"optimizer": "adamw_torch_fused", "adapter_dtype": "float32"}  # nor these, of the base


def weights_of(architecture: Architecture, strategy: Strategy, *, task: Task, stack: Stack) -> Weights:
    """Bytes of weights. Only linears of blocks are quantized; vocabulary, norms and biases keep a dtype."""
    return _weights(architecture, msgspec.structs.replace(strategy, **FROZEN), task, stack)


@lru_cache
def _weights(architecture: Architecture, strategy: Strategy, task: Task, stack: Stack) -> Weights:
    item, norm_item, rest_item = items_of(strategy)
    counts = [part.num_layers for part in architecture.parts]
    prepared = [_block_bytes(part, strategy, stack, item=rest_item, norm_item=norm_item) for part in architecture.parts]
    loaded = [_block_bytes(part, strategy, stack, item=item, norm_item=item) for part in architecture.parts]
    outer_params = outer_parameters(architecture, task)
    vocabulary = architecture.vocabulary_size
    packs = strategy.quant != "none" and not is_read_packed(architecture, strategy.quant)
    packed = (linear for part in architecture.parts for linear in part.linears if packs and is_packed(linear, strategy.quant))
    return Weights(
        blocks=sum(map(mul, counts, prepared)),
        largest_block=max(prepared),
        outer=rounded(outer_params * rest_item) + buffers_bytes(architecture),
        blocks_before_upcast=sum(map(mul, counts, loaded)),
        outer_before_upcast=rounded(outer_params * item) + buffers_bytes(architecture),
        largest_loaded=2 * max((linear.num_weights for linear in packed), default=0),
        largest_upcast=max(vocabulary, _experts_upcast(architecture)) * item if rest_item != item else 0,
        lm_head_item=rest_item,
        travelling=tuple(
            each
            for part, count in zip(architecture.parts, counts, strict=True)
            for each in (_travelling_bytes(part, strategy, stack, item=rest_item),) * count
        ),
    )


def _experts_upcast(architecture: Architecture) -> int:
    """Entries that are there twice when the last block's experts are cast, less an output head's, which is cast later."""
    down = max(part.num_experts * part.hidden_size * part.intermediate_size for part in architecture.parts)
    return down - (0 if architecture.tied_embeddings else architecture.vocabulary_size)


def _block_bytes(part: Architecture, strategy: Strategy, stack: Stack, *, item: int, norm_item: int) -> int:
    """Bytes of one block, what is not quantized in items of so many bytes."""
    linears = _linears_bytes(part, strategy.quant, double_quant=strategy.double_quant, item=item)
    return linears + _expert_bytes(part, strategy, item, stack) + rounded(part.norm_params_per_block * norm_item)


def _travelling_bytes(part: Architecture, strategy: Strategy, stack: Stack, *, item: int) -> int:
    """Bytes of one block's matrices, with the scales of packed ones."""
    return sum(_matrix_bytes(linear, strategy, item) for linear in part.linears) + rounded(
        _expert_bytes(part, strategy, item, stack)
    )


def _matrix_bytes(linear: Linear, strategy: Strategy, item: int) -> int:
    whole = _linear_bytes(linear, strategy.quant, double_quant=strategy.double_quant, item=item)
    bias = rounded(linear.out_features * item) if linear.bias else 0
    if not is_packed(linear, strategy.quant):
        return whole - bias
    fan_in, fan_out = linear.in_features, linear.out_features
    tables = table_bytes(strategy.quant, double_quant=strategy.double_quant, in_features=fan_in, out_features=fan_out)
    return whole - bias - tables


def buffers_bytes(architecture: Architecture) -> int:
    """Bytes that lie beside the parameters. derived: GPTBigCodeModel keeps who sees whom, a byte for each pair of positions."""
    return architecture.max_positions**2 if architecture.model_type == "gpt_bigcode" else 0


@lru_cache
def outer_parameters(architecture: Architecture, task: Task) -> int:
    """Parameters outside the blocks, with the task's head."""
    blocks = sum(part.num_layers * part.block_params for part in architecture.parts)
    return base_params(architecture, task) - blocks + head_params(architecture, task)


@lru_cache  # a search asks for a few quantizations of one architecture, each a hundred times
def _linears_bytes(architecture: Architecture, quant: str, *, double_quant: bool, item: int) -> int:
    """Bytes of one block's linears with their biases."""
    by_others = packed_by_others(architecture)
    return sum(
        _linear_bytes(
            linear,
            quant,
            double_quant=double_quant,
            item=item,
            group_size=None if by_others is None else by_others.group_of(linear.in_features),
        )
        for linear in architecture.linears
    )


def _linear_bytes(linear: Linear, quant: str, *, double_quant: bool, item: int, group_size: int | None = None) -> int:
    bias = rounded(linear.out_features * item) if linear.bias else 0
    if not is_packed(linear, quant):
        return rounded(linear.num_weights * item) + bias
    fan_in, fan_out = linear.in_features, linear.out_features
    packed = quantized_bytes(quant, double_quant=double_quant, in_features=fan_in, out_features=fan_out, group_size=group_size)
    return packed + bias


def _expert_bytes(architecture: Architecture, strategy: Strategy, item: int, stack: Stack) -> int:
    """Experts: bitsandbytes leaves fused ones in 16 bits (its issue 1780); a GPTQ checkpoint holds them packed."""
    params = architecture.expert_params_per_block
    listed = bool(architecture.expert_linears)
    as_linears = listed or stack.quantizes_experts(were_linears=architecture.experts_were_linears)
    if not params or not packs_experts(strategy.quant, quantized_experts=as_linears):
        return params * item
    width = architecture.hidden_size
    return quantized_bytes(strategy.quant, double_quant=strategy.double_quant, in_features=width, out_features=params // width)


# ── what is trained ────────────────────────────────────────────────────────────────────────────────────────────────────


class Trained(msgspec.Struct, frozen=True):
    """What gets a gradient, over the whole model or on one GPU of those that it is spread over."""

    params: int  # how many
    item: int  # bytes of one at rest
    added: int  # bytes that the method puts beside the base (0 where the base itself is trained)
    outer_params: int = 0  # of the parameters, how many lie outside the blocks
    head_params: int = 0  # of those, how many are of a head that tells classes apart: its dtype may be another
    head_item: int = 0  # bytes of one of them
    stage: Stage = UNCUT

    @property
    def gradients(self) -> int:
        """One number of the parameter's own dtype each."""
        return self.params * self.item + self.widened

    @property
    def widened(self) -> int:
        """By how much a head in its own dtype takes more than in that of what else trains."""
        return self.head_params * (self.head_item - self.item)

    def on(self, stage: Stage) -> Trained:
        """What of it lies on a GPU that computes this part of the model."""
        outer, added_outside = self.outer_params, min(self.added, self.outer_params * self.item)
        return Trained(
            params=stage.of_blocks(self.params - outer) + stage.of_ends(outer),
            item=self.item,
            added=stage.of_blocks(self.added - added_outside) + stage.of_ends(added_outside),
            outer_params=stage.of_ends(outer),
            head_params=stage.of_ends(self.head_params),
            head_item=self.head_item,
            stage=stage,
        )


def trained_of(architecture: Architecture, strategy: Strategy, *, task: Task) -> Trained:
    """The trained parameters: of the base itself, or added to it. Small tensors are rounded as the allocator does."""
    return _trained(architecture, msgspec.structs.replace(strategy, **ALONE), task)


@lru_cache  # asked for by every estimate of a job, and by a search on every machine
def _trained(architecture: Architecture, strategy: Strategy, task: Task) -> Trained:
    trained, params = trainable_params(architecture, strategy, task=task), adapter_params(architecture, strategy)
    method = METHODS[strategy.method]
    head, head_item = _head_apart(architecture, strategy, task)
    if method.moves:
        items = items_of(strategy)
        item = items.norm if method.moves == {"norms"} else items.weight
        outer = outer_parameters(architecture, task) if method.moves_all else trained - params
        return Trained(trained, item, params * item + head * head_item if method.copies else 0, outer, head, head_item)
    item = DTYPE_BYTES[strategy.adapter_dtype]
    beside = (trained + resting_entries(architecture, strategy)) * item + frozen_bytes(architecture, strategy)
    outer = trained - params + (params if method.prompt is not None and method.adapter is None else 0)
    return Trained(trained, item, beside + _rounding(architecture, strategy, item), outer, head, item)


def _head_apart(architecture: Architecture, strategy: Strategy, task: Task) -> tuple[int, int]:
    """Parameters of a head that tells classes apart, and bytes of one. derived: `settled` of remote/bases/heads.py casts it to
    the dtype of what trains, unless nothing casts what comes into it.
    """
    if task not in ("classification", "token_classification"):
        return 0, 0
    dtype = strategy.param_dtype if strategy.autocast == "none" else strategy.adapter_dtype
    return head_params(architecture, task), DTYPE_BYTES[dtype]


def trained_in_block(architecture: Architecture, strategy: Strategy, trained: Trained) -> int:
    """Parameters that train in a block, on average of the blocks that do."""
    num_blocks = min(trained.stage.num_layers, carrying_blocks(architecture, strategy))
    return (trained.params - trained.outer_params) // num_blocks


def _rounding(architecture: Architecture, strategy: Strategy, item: int) -> int:
    """Bytes lost to the allocator's grain over all tensors of the adapter."""
    return sum(times * (-entries * item % ALLOCATION_BYTES) for entries, times in adapter_tensors(architecture, strategy))
