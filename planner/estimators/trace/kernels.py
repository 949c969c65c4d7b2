"""What CUDA's kernels do beside returning tensors: scratch that they ask for, and work that meta tensors cannot do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from planner.estimators.memory.batch import EMBEDDING_TOKENS, ROWS_PER_THREAD

# ── scratch: bytes inside one launch, by operation ─────────────────────────────────────────────────────────────────────

FP32: Final = 4
FLASH_ROWS: Final = 128  # derived: mha_bwd in aten/…/flash_attn/flash_api.cpp rounds the length up to this
FLASH_COLUMNS: Final = 32  # derived: same function; above 192 the head is taken as 256 wide


def _up_to(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _grouped_bytes(query: Any, key: Any) -> int:
    """Gradients of keys and values for every query head, before they are summed over the groups."""
    batch, heads, _, width = query.shape
    return 2 * batch * heads * int(key.shape[2]) * width * query.element_size() if key.shape[1] != heads else 0


def _flash_backward(_gradient: Any, query: Any, key: Any, *_: Any, **__: Any) -> int:
    """An fp32 accumulator for dq, one fp32 per row and head, expanded dk and dv."""
    batch, heads, length, width = query.shape
    columns = _up_to(width, FLASH_COLUMNS) if width <= 192 else 256
    return int(batch * heads * _up_to(length, FLASH_ROWS) * (columns + 1) * FP32) + _grouped_bytes(query, key)


def _efficient_backward(_gradient: Any, query: Any, key: Any, *_: Any, **__: Any) -> int:
    """An fp32 accumulator for dq (kNeedsAccumGradQ of mem_eff_attention/kernel_backward.h) and one fp32 per row and head."""
    batch, heads, length, width = query.shape
    return int(batch * heads * length * (_up_to(width, 64) + 1) * FP32) + _grouped_bytes(query, key)


def _embedding_backward(gradient: Any, indices: Any, num_weights: int, *_: Any, **__: Any) -> int:
    """Sorted indices, segments and fp32 partial sums of the two-pass kernel."""
    tokens, width = indices.numel(), gradient.shape[-1]
    if tokens <= EMBEDDING_TOKENS:
        return 0
    segments = min(tokens, num_weights)
    partials = tokens // ROWS_PER_THREAD + segments
    return int(partials * width * FP32 + indices.element_size() * (3 * tokens + 2 * segments + partials))


def _softmax_backward(gradient: Any, *_: Any, **__: Any) -> int:
    """The product of gradient and output, a tensor of its own (softmax_backward_cuda_out in SoftMax.cu)."""
    return int(gradient.numel() * gradient.element_size())


def _safe_softmax(scores: Any, *_: Any, **__: Any) -> int:
    """Which scores are minus infinity: a byte each, while rows without any weight are filled in place.

    measured: the CPU's allocations, torch 2.15, 2026-11-27; an H200's peak, torch 2.11.
    """
    return int(scores.numel())


SCRATCH: Final[Mapping[str, Callable[..., int]]] = {
    "aten::_scaled_dot_product_flash_attention_backward": _flash_backward,
    "aten::_scaled_dot_product_efficient_attention_backward": _efficient_backward,
    "aten::embedding_dense_backward": _embedding_backward,
    "aten::_safe_softmax": _safe_softmax,
    "aten::_softmax_backward_data": _softmax_backward,
}

# ── stand-ins: the same tensors as CUDA's implementation makes ─────────────────────────────────────────────────────────

FUSED_4BIT_ROWS: Final = 4  # derived: _GEMM_4BIT_CUSTOM_FLOOR_M of bitsandbytes 0.50; above, whether depends on the card


def _gemm_4bit(tokens: Any, _packed: Any, shape: Any, *_: Any, bias: Any = None, **nested: Any) -> Any:
    """Unpacks the whole weight, its nested scales first, and multiplies. A few rows go through a fused kernel instead."""
    import torch

    if math.prod(tokens.shape[:-1]) <= FUSED_4BIT_ROWS:
        return torch.empty((*tokens.shape[:-1], shape[0]), dtype=tokens.dtype, device=tokens.device)
    scales = nested.get("absmax_8bit")
    unpacked = None if scales is None else torch.empty_like(scales, dtype=torch.float32) + nested["absmax_offset"]
    weight = torch.empty(shape, dtype=tokens.dtype, device=tokens.device)
    result = torch.nn.functional.linear(tokens, weight, bias)
    del unpacked  # bitsandbytes holds the scales until here
    return result


def _int8_vectorwise_quant(tokens: Any, threshold: float = 0.0) -> Any:
    """LLM.int8's row-wise quantization. The columns with outliers depend on the data; none are assumed."""
    import torch

    scales = torch.empty(math.prod(tokens.shape[:-1]), dtype=torch.float32, device=tokens.device)
    quantized = torch.empty(tokens.shape, dtype=torch.int8, device=tokens.device)
    if threshold > 0.0:
        (tokens.abs() >= threshold).any()
        return quantized, scales, torch.empty(0, dtype=torch.int64, device=tokens.device)
    return quantized, scales, None


def _int8_mixed_scaled_mm(
    tokens: Any, quantized: Any, weight: Any, _row_scales: Any, _column_scales: Any, _outliers: Any = None, bias: Any = None
) -> Any:
    """An int32 product, made fp16, made the input's dtype."""
    import torch

    product = torch.empty((*quantized.shape[:-1], weight.shape[0]), dtype=torch.int32, device=tokens.device)
    half = torch.empty_like(product, dtype=torch.float16)
    if bias is not None:
        half.add_(bias)
    return half.to(tokens.dtype), torch.empty(0, dtype=tokens.dtype, device=tokens.device)


def _nothing(*_: Any, **__: Any) -> None:
    """A kernel that works in place without scratch."""


STAND_INS: Final[Mapping[str, Callable[..., Any]]] = {
    "bitsandbytes::gemm_4bit": _gemm_4bit,
    "bitsandbytes::int8_vectorwise_quant": _int8_vectorwise_quant,
    "bitsandbytes::int8_mixed_scaled_mm": _int8_mixed_scaled_mm,
    "bitsandbytes::optimizer_update_8bit_blockwise": _nothing,
    "bitsandbytes::optimizer_update_32bit": _nothing,
    "aten::_fused_adamw_": _nothing,
    "aten::_amp_foreach_non_finite_check_and_unscale_": _nothing,
}
