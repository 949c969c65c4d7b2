"""How a base lies packed, by `rentune quantize` or by others: what it fixes of a job, and on which machines it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from catalogs.bases.architectures import Architecture
from planner.refusals import Unsupported
from planner.strategy.precision import quantization_of
from remote.contract import PACKED_KEY, STORED_QUANTS, Autocast, Dtype, Quant, Strategy

# derived: the autocast of a machine -> what it takes of a base, and says of itself. A card without bfloat16 has no arithmetic
# for it, a processor converts at every operation, and two dtypes of 16 bits have no closed form together.
TAKEN: Final[Mapping[Autocast, tuple[tuple[Dtype, ...], str]]] = {
    "bfloat16": (("bfloat16", "float32"), "such a card computes in bfloat16"),
    "float16": (("float16", "float32"), "such a card computes in float16"),
    "none": (("float32",), "a processor computes in float32"),
}


class Packed(msgspec.Struct, frozen=True, kw_only=True):
    """As its config.json says it."""

    quant: Quant
    double_quant: bool
    dtype: Dtype | None = None  # of what is not packed; None = not said

    def fixed(self) -> dict[str, Any]:
        """The keys of `training` that follow from it."""
        dtype = {} if self.dtype is None else {"param_dtype": self.dtype}
        return {"quant": self.quant, "double_quant": self.double_quant, **dtype}


class PackedByOthers(msgspec.Struct, frozen=True, kw_only=True):
    """How a base lies in GPTQ, AWQ or HQQ."""

    quant: Quant
    group_size: int | None  # weights of an output that share a scale; None = all of them

    def group_of(self, in_features: int) -> int:
        """Weights of a linear with so many inputs that share a scale."""
        return self.group_size or in_features


def packed_of(architecture: Architecture) -> Packed | None:
    """None for a base that lies there plain, or whose config says nothing readable of how it is packed."""
    by_others = packed_by_others(architecture)
    if by_others is not None:
        return Packed(quant=by_others.quant, double_quant=False)
    try:
        return msgspec.convert(architecture.config.get(PACKED_KEY), Packed | None)
    except msgspec.ValidationError:
        return None


# ── by others ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Hqq(msgspec.Struct, frozen=True):
    nbits: int
    group_size: int | None = None


class _HqqOfAll(msgspec.Struct, frozen=True):
    weight_quant_params: _Hqq


class _Said(msgspec.Struct, frozen=True):
    """Of a `quantization_config`, what GPTQ, AWQ (gptqmodel 7.7, AutoAWQ) and HQQ (transformers 5.24) say of their layout."""

    quant_method: str
    bits: int | None = None
    group_size: int | None = None
    format: str | None = None
    checkpoint_format: str | None = None  # an older name of it
    version: str | None = None  # AutoAWQ's name of it
    dynamic: dict[str, Any] | None = None  # linears that are packed in another way than the rest
    modules_to_not_convert: list[str] | None = None
    lm_head: bool = False  # is packed, too
    quant_config: _HqqOfAll | None = None


# derived: the layouts of which the sizes below are; others (Marlin's, AWQ's gemv) keep their scales otherwise
_FORMATS: Final[Mapping[str, frozenset[str | None]]] = {
    "gptq": frozenset({None, "gptq", "gptq_v2"}),
    "awq": frozenset({None, "gemm"}),
    "hqq": frozenset({None}),
}
# derived: the names' last digits are the bits of a weight
_BY_BITS: Final[Mapping[tuple[str, int], Quant]] = {(how, int(quant[-1])): quant for quant, how in STORED_QUANTS.items()}


def packed_by_others(architecture: Architecture) -> PackedByOthers | None:
    """None for a base that nobody else packed, or in a way or a width that has no row of its own."""
    stored = architecture.config.get("quantization_config")
    if stored is None or PACKED_KEY in architecture.config:
        return None
    try:
        said = msgspec.convert(stored, _Said)
    except msgspec.ValidationError:
        return None
    layout = said.format or said.checkpoint_format or said.version
    if (
        said.dynamic
        or said.modules_to_not_convert
        or said.lm_head
        or layout not in _FORMATS.get(said.quant_method, frozenset())
    ):
        return None
    params = None if said.quant_config is None else said.quant_config.weight_quant_params
    bits, group_size = (said.bits, said.group_size) if params is None else (params.nbits, params.group_size)
    quant = None if bits is None else _BY_BITS.get((said.quant_method, bits))
    return None if quant is None else PackedByOthers(quant=quant, group_size=None if group_size == -1 else group_size)


def is_read_packed(architecture: Architecture, quant: str) -> bool:
    """Whether the base's files hold its weights as `quant` has them in memory; else they are packed while they are loaded."""
    return quantization_of(quant).in_checkpoint or packed_by_others(architecture) is not None


def require_stored(architecture: Architecture, quant: str) -> None:
    """Raises Unsupported for a plain base in a way in which nothing here packs one."""
    by_others = packed_by_others(architecture)
    if quant in STORED_QUANTS and (by_others is None or by_others.quant != quant):
        why = f"{architecture.name} does not lie in {quant}, and nothing here packs it so"
        raise Unsupported("quant", why, "name the folder of a base that is stored so, or say quant nf4, which packs any")


def require_taken(packed: Packed | None, strategy: Strategy) -> None:
    """Raises Unsupported for a base in a dtype that the machine, for which the strategy is, does not compute in."""
    if packed is None or packed.dtype is None:
        return
    taken, computes = TAKEN[strategy.autocast]
    if packed.dtype not in taken:
        why = f"the base is packed in {packed.dtype}, and {computes}: pack it with --dtype {taken[0]}"
        raise Unsupported("model", why, f"rentune quantize BASE --into FOLDER --dtype {taken[0]}")
