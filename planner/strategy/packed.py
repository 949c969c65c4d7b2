"""How a base was packed by `rentune quantize`: what it fixes of a job, and on which machines it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from catalogs.bases.architectures import Architecture
from planner.refusals import Unsupported
from remote.contract import PACKED_KEY, Autocast, Dtype, Quant, Strategy

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


def packed_of(architecture: Architecture) -> Packed | None:
    """None for a base that was not packed here, or by a config that says nothing readable of it."""
    try:
        return msgspec.convert(architecture.config.get(PACKED_KEY), Packed | None)
    except msgspec.ValidationError:
        return None


def require_taken(packed: Packed | None, strategy: Strategy) -> None:
    """Raises Unsupported for a base in a dtype that the machine, for which the strategy is, does not compute in."""
    if packed is None or packed.dtype is None:
        return
    taken, computes = TAKEN[strategy.autocast]
    if packed.dtype not in taken:
        why = f"the base is packed in {packed.dtype}, and {computes}: pack it with --dtype {taken[0]}"
        raise Unsupported("model", why, f"rentune quantize BASE --into FOLDER --dtype {taken[0]}")
