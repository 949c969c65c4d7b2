"""How HQQ's own package says in a file of weights how they are packed: its config.json says nothing of it.

hqq 0.2.8, `save_to_safetensors`: each linear is written as `….W_q` with its settings beside it as tensors of one number.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

CODES: Final = ".W_q"
HEADER_BYTES: Final = 8  # derived: of a safetensors file, which say how long the JSON behind them is
MAX_HEADER_BYTES: Final = 100_000_000  # derived: safetensors' own limit
NUMBER_BYTES: Final = {"I32": 4, "I64": 8}


def read_hqq(folder: Path) -> dict[str, Any] | None:
    """The `quantization_config` that transformers would have written for the weights in `folder`; None where hqq wrote none, or
    not as above. Only the first file's header and two numbers are read.
    """
    first = next(iter(sorted(folder.glob("*.safetensors"))), None)
    try:
        return None if first is None else _read(first)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):  # whoever loads the file says what is wrong
        return None


def _read(file: Path) -> dict[str, Any] | None:
    with file.open("rb") as opened:
        header_bytes = int.from_bytes(opened.read(HEADER_BYTES), "little")
        if header_bytes > MAX_HEADER_BYTES:
            return None
        header = json.loads(opened.read(header_bytes))
        linear = next((name.removesuffix(CODES) for name in header if name.endswith(CODES)), None)
        if linear is None:
            return None
        numbers: dict[str, int | None] = {}
        for key in ("nbits", "group_size"):
            said = header[f"{linear}.{key}"]
            opened.seek(HEADER_BYTES + header_bytes + said["data_offsets"][0])
            width = NUMBER_BYTES.get(said["dtype"])
            numbers[key] = None if width is None else int.from_bytes(opened.read(width), "little", signed=True)
    return {"quant_method": "hqq", "quant_config": {"weight_quant_params": numbers}}
