"""Bytes of a number and of a quantized weight, with their sources."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

import msgspec

from catalogs.bases.architectures import Linear
from planner.refusals import Unsupported
from planner.units import rounded
from remote.contract import KbitUpcast, Strategy

DTYPE_BYTES: Final[dict[str, int]] = {  # derived: their names
    "float32": 4,
    "bfloat16": 2,
    "float16": 2,
    "uint8": 1,
}

BNB_BLOCK: Final = 64  # derived: weights per scale, bitsandbytes' Params4bit default
BNB_DOUBLE_BLOCK: Final = 256  # derived: scales per second-level scale, bitsandbytes' quantize_4bit
CHECKPOINT_GROUP: Final = 128  # assumed: the group size of the published GPTQ and AWQ checkpoints
HQQ_GROUP: Final = 64  # derived: HqqConfig's default, transformers 5.24
MXFP4_BLOCK: Final = 32  # derived: weights per one-byte scale, OCP Microscaling Formats 1.0
FP8_BLOCK: Final = 128  # derived: side of the square that shares a scale, FineGrainedFP8Config's default, transformers 5.24

Size = Callable[[int, int, int, int], int]  # (weights, in_features, out_features, weights that share a scale) -> all bytes
Tables = Callable[[int, int, int], int]  # (weights, in_features, out_features) -> bytes


def _bnb4(weights: int, _in_features: int, _out_features: int, _group: int) -> int:
    """nf4 and fp4: half a byte each, an fp32 scale per block, a code table of 16 fp32 values."""
    return rounded(weights / 2) + rounded(4 * -(-weights // BNB_BLOCK)) + rounded(64)


def _bnb4_double(weights: int, _in_features: int, _out_features: int, _group: int) -> int:
    """The scales are themselves one byte each, with an fp32 scale per 256, a 256-entry code and an offset."""
    blocks = -(-weights // BNB_BLOCK)
    second = rounded(blocks) + rounded(4 * -(-blocks // BNB_DOUBLE_BLOCK)) + rounded(1024) + rounded(4)
    return rounded(weights / 2) + second + rounded(64)


def _int8(weights: int, _in_features: int, out_features: int, _group: int) -> int:
    """LLM.int8 (arXiv:2208.07339): one byte each, an fp32 scale per output row."""
    return rounded(weights) + rounded(4 * out_features)


def _gptq(bits: int) -> Size:
    """GPTQ (arXiv:2210.17323) as AutoGPTQ packs it: fp16 scale and packed zero per group, an int32 group index per input."""

    def num_bytes(weights: int, in_features: int, _out_features: int, group: int) -> int:
        groups = -(-weights // group)
        return rounded(weights * bits / 8) + rounded(2 * groups) + rounded(groups * bits / 8) + rounded(4 * in_features)

    return num_bytes


def _awq(weights: int, _in_features: int, _out_features: int, group: int) -> int:
    """AWQ (arXiv:2306.00978): half a byte each, an fp16 scale and a packed zero per group; inputs keep their order."""
    groups = -(-weights // group)
    return rounded(weights / 2) + rounded(2 * groups) + rounded(groups / 2)


def _hqq(stored_bits: float) -> Size:
    """HQQ (Badri and Shaji, 2023): packed weights, a 16-bit scale and a 16-bit zero per group (hqq 0.2.8, quantize.py)."""

    def num_bytes(weights: int, _in_features: int, _out_features: int, group: int) -> int:
        groups = -(-weights // group)
        return rounded(weights * stored_bits / 8) + 2 * rounded(2 * groups)

    return num_bytes


def _mxfp4(weights: int, _in_features: int, _out_features: int, _group: int) -> int:
    """Four bits each and a one-byte exponent per block."""
    return rounded(weights / 2) + rounded(weights / MXFP4_BLOCK)


def _fp8(_weights: int, in_features: int, out_features: int, _group: int) -> int:
    """One byte each and an fp32 scale per square of 128 × 128."""
    squares = -(-in_features // FP8_BLOCK) * -(-out_features // FP8_BLOCK)
    return rounded(in_features * out_features) + rounded(4 * squares)


def _code_table(_weights: int, _in_features: int, _out_features: int) -> int:
    return rounded(64)


def _code_tables(_weights: int, _in_features: int, _out_features: int) -> int:
    return rounded(64) + rounded(1024) + rounded(4)


def _scales_of_rows(_weights: int, _in_features: int, out_features: int) -> int:
    return rounded(4 * out_features)


def _no_tables(_weights: int, _in_features: int, _out_features: int) -> int:
    return 0


class Quantization(msgspec.Struct, frozen=True, kw_only=True):
    """How a linear's weight is stored, and what a product with it takes beside its output. Bytes per weight or input."""

    size: Size
    group: int = CHECKPOINT_GROUP  # weights that share a scale, where the base does not say it; of bitsandbytes its own blocks
    tables: Tables = _no_tables  # of them what stays on the GPU where a weight is streamed
    unpacked_forward: int = 2  # of the whole weight, in 16 bits
    unpacked_backward: int = 2
    packed_input: int = 0  # of the input, in the weight's own type
    saves_input: bool = False  # for backward, though the weight is frozen
    in_checkpoint: bool = False  # read as it is stored; else made from 16 bits while loading
    experts: Literal["left", "packed", "alone"] = "left"  # in 16 bits; packed like linears; packed, and nothing else is


# derived: hqq 0.2.8, quantize.py: its dequantize holds the codes, codes minus zeros and the product at once
_HQQ: Final[dict[str, Any]] = {"unpacked_forward": 6, "unpacked_backward": 6, "saves_input": True, "group": HQQ_GROUP}
# assumed: kernels for stored checkpoints unpack one weight at a time
_STORED: Final[dict[str, Any]] = {"in_checkpoint": True, "experts": "packed"}
# derived: sizes by their functions, unpacking by the libraries' autograd functions (bitsandbytes 0.49; transformers 5.24,
# finegrained_fp8.py)
QUANTIZATIONS: Final[dict[tuple[str, bool], Quantization]] = {  # (quant, double_quant)
    ("nf4", False): Quantization(size=_bnb4, tables=_code_table),
    ("fp4", False): Quantization(size=_bnb4, tables=_code_table),
    ("nf4", True): Quantization(size=_bnb4_double, tables=_code_tables),
    ("fp4", True): Quantization(size=_bnb4_double, tables=_code_tables),
    ("int8", False): Quantization(size=_int8, tables=_scales_of_rows),
    ("gptq_int4", False): Quantization(size=_gptq(4), **_STORED),
    ("gptq_int8", False): Quantization(size=_gptq(8), **_STORED),
    ("awq_int4", False): Quantization(size=_awq, **_STORED),
    ("hqq_int4", False): Quantization(size=_hqq(4), **_HQQ),
    ("hqq_int3", False): Quantization(size=_hqq(3.2), **_HQQ),  # ten in 32 bits
    ("hqq_int2", False): Quantization(size=_hqq(2), **_HQQ),
    ("fp8", False): Quantization(size=_fp8, unpacked_forward=0, packed_input=1, **_STORED),
    ("mxfp4", False): Quantization(size=_mxfp4, in_checkpoint=True, experts="alone"),
}
BITSANDBYTES: Final = frozenset({"nf4", "fp4", "int8"})  # quants that its kernels carry out, on cards that have them
FOUR_BIT: Final = frozenset({"nf4", "fp4"})


def quantization_of(quant: str, *, double_quant: bool = False) -> Quantization:
    """The row of a quant. Raises Unsupported where there is none."""
    row = QUANTIZATIONS.get((quant, double_quant and quant in FOUR_BIT))
    if row is None:
        known = ", ".join(sorted({name for name, _ in QUANTIZATIONS}))
        raise Unsupported("quant", f"quant {quant} has no closed form yet", f"quants that have one: none, {known}")
    return row


def quantized_bytes(
    quant: str, *, double_quant: bool, in_features: int, out_features: int, group_size: int | None = None
) -> int:
    """Bytes of one quantized linear's weight with all its tables, each a storage of its own. `group_size`: weights that share a
    scale, as a base that others packed says it; None = the format's usual.
    """
    row = quantization_of(quant, double_quant=double_quant)
    return row.size(in_features * out_features, in_features, out_features, group_size or row.group)


def table_bytes(quant: str, *, double_quant: bool, in_features: int, out_features: int) -> int:
    """Of those the bytes that stay on the GPU where the weight is streamed."""
    tables = quantization_of(quant, double_quant=double_quant).tables
    return tables(in_features * out_features, in_features, out_features)


def is_packed(linear: Linear, quant: str) -> bool:
    """Whether a quant packs this linear's weight."""
    return packs_linears(quant) and not (linear.kept and quant in BITSANDBYTES)


def packs_linears(quant: str) -> bool:
    """Whether the linears of a block are stored quantized (of MXFP4 bases only the experts are)."""
    return quant != "none" and quantization_of(quant).experts != "alone"


def packs_experts(quant: str, *, quantized_experts: bool) -> bool:
    """Whether a mixture's experts are stored quantized: as the format says, or if `quantized_experts`."""
    return quant != "none" and (quantized_experts or quantization_of(quant).experts != "left")


# ── preparing a quantized base ─────────────────────────────────────────────────────────────────────────────────────────


class Items(NamedTuple):
    """Bytes of one number of a base's weights once it is prepared."""

    weight: int  # as loaded; so stay linears that are packed, in what is not
    norm: int
    rest: int  # embeddings, output head, biases, linears that a quantization leaves


def items_of(strategy: Strategy) -> Items:
    """What `kbit_upcast` casts to fp32: nothing, norms alone, or all that is not packed."""
    weight, fp32 = DTYPE_BYTES[strategy.param_dtype], DTYPE_BYTES["float32"]
    upcast = strategy.kbit_upcast
    return Items(weight, fp32 if upcast != "none" else weight, fp32 if upcast == "full" else weight)


def resting_item(strategy: Strategy) -> int:
    """Bytes of a number of what an adapter brings along and does not train, as VeRA's projections.

    derived: peft makes it in fp32 and casts it to the dtype of the base's linears where that is one of floats
    (`_move_adapter_to_device_of_base_layer`; of four bits that of their products), then to fp32 where what trains is so.
    """
    if strategy.adapter_dtype == "float32":
        return DTYPE_BYTES["float32"]
    if strategy.quant in FOUR_BIT and strategy.autocast != "none":
        return DTYPE_BYTES[strategy.autocast]
    return DTYPE_BYTES["float32" if strategy.quant not in {"none", *FOUR_BIT} else strategy.param_dtype]


def usual_upcast(quant: str) -> KbitUpcast:
    """What is cast where a case does not say: peft's `prepare_model_for_kbit_training` casts everything."""
    return "full" if quant in BITSANDBYTES else "none"
