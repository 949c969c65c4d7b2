"""Bytes of a number and of a quantized weight, with their sources."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from planner.refusals import Unsupported
from planner.units import rounded

DTYPE_BYTES: Final[dict[str, int]] = {  # derived: their names
    "float32": 4,
    "bfloat16": 2,
    "float16": 2,
    "uint8": 1,
}

BNB_BLOCK: Final = 64  # derived: weights per scale, bitsandbytes' Params4bit default
BNB_DOUBLE_BLOCK: Final = 256  # derived: scales per second-level scale, bitsandbytes' quantize_4bit
GPTQ_GROUP: Final = 128  # assumed: the group size of the published GPTQ checkpoints


def _bnb4(weights: int, _in_features: int, _out_features: int) -> int:
    """nf4 and fp4: half a byte each, an fp32 scale per block, a code table of 16 fp32 values."""
    return rounded(weights / 2) + rounded(4 * -(-weights // BNB_BLOCK)) + rounded(64)


def _bnb4_double(weights: int, _in_features: int, _out_features: int) -> int:
    """The scales are themselves one byte each, with an fp32 scale per 256, a 256-entry code and an offset."""
    blocks = -(-weights // BNB_BLOCK)
    second = rounded(blocks) + rounded(4 * -(-blocks // BNB_DOUBLE_BLOCK)) + rounded(1024) + rounded(4)
    return rounded(weights / 2) + second + rounded(64)


def _int8(weights: int, _in_features: int, out_features: int) -> int:
    """LLM.int8 (arXiv:2208.07339): one byte each, an fp32 scale per output row."""
    return rounded(weights) + rounded(4 * out_features)


def _gptq(bits: int) -> Callable[[int, int, int], int]:
    """GPTQ (arXiv:2210.17323) as AutoGPTQ packs it: fp16 scale and packed zero per group, an int32 group index per input."""

    def num_bytes(weights: int, in_features: int, _out_features: int) -> int:
        groups = -(-weights // GPTQ_GROUP)
        return rounded(weights * bits / 8) + rounded(2 * groups) + rounded(groups * bits / 8) + rounded(4 * in_features)

    return num_bytes


# (quant, double_quant) -> bytes of so many weights with so many inputs and outputs, each derived by its function
QUANTIZATIONS: Final[dict[tuple[str, bool], Callable[[int, int, int], int]]] = {
    ("nf4", False): _bnb4,
    ("fp4", False): _bnb4,
    ("nf4", True): _bnb4_double,
    ("fp4", True): _bnb4_double,
    ("int8", False): _int8,
    ("gptq_int4", False): _gptq(4),
    ("gptq_int8", False): _gptq(8),
}
BITSANDBYTES: Final = frozenset({"nf4", "fp4", "int8"})  # quants that its kernels carry out, on cards that have them
FOUR_BIT: Final = frozenset({"nf4", "fp4"})


def quantized_bytes(quant: str, *, double_quant: bool, in_features: int, out_features: int) -> int:
    """Bytes of one quantized linear's weight with all its tables, each a storage of its own."""
    size = QUANTIZATIONS.get((quant, double_quant and quant in FOUR_BIT))
    if size is None:
        known = ", ".join(sorted({name for name, _ in QUANTIZATIONS}))
        raise Unsupported("quant", f"quant {quant} has no closed form yet", f"quants that have one: none, {known}")
    return size(in_features * out_features, in_features, out_features)
