"""Whether the weights of a base that lies here are whole: its machine would find out when it is paid for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from catalogs.user_file import expanded, shortened
from planner.asking.request import Request
from provision.errors import BadInput
from provision.prepare.inputs.base_files import SAFE, weights_in
from remote.contract import MODEL_CONFIG, PACKED_INDEX
from remote.digest import sha256_of

HEADER_BYTES: Final = 8  # derived: of a safetensors file, which say how long the JSON behind them is
ANOTHER: Final = "Fetch or save the folder anew, or name another."
PACK_ANEW: Final = "rentune quantize BASE --into FOLDER makes anew what is missing or torn there, and nothing else."


class _Packed(msgspec.Struct, frozen=True):
    """What a folder that was packed here says of its files."""

    sha256: dict[str, str] = {}
    whole: bool = False


def require_base_whole(request: Request) -> None:
    """Raises BadInput for a folder of weights that are cut short, or were packed here and are not as they were packed: torn,
    changed, or another model's. Packed ones are read whole for that, which takes seconds, as sending them takes minutes.
    """
    folder = expanded(request.model)
    if not folder.is_dir():
        return
    try:
        trouble = next(_packed_trouble(folder), None)
        why, hint = (trouble, PACK_ANEW) if trouble is not None else (next(_torn(folder), None), ANOTHER)
    except OSError as error:
        why, hint = f"can't be read ({error.strerror})", ANOTHER
    if why is not None:
        raise BadInput(f"The base in {shortened(os.fspath(folder))} {why}.", hint=hint, place=("model",))


def is_whole(weights: Path) -> bool:
    """Of a safetensors file: its header's length, the header, and as many bytes as the last tensor's end. Raises OSError."""
    size_bytes = weights.stat().st_size
    with weights.open("rb") as file:
        header_bytes = int.from_bytes(file.read(HEADER_BYTES), "little")
        header = file.read(header_bytes) if header_bytes <= size_bytes else b""
    with suppress(ValueError, TypeError, KeyError, AttributeError, IndexError):
        tensors = json.loads(header)
        ends = [each["data_offsets"][1] for name, each in tensors.items() if name != "__metadata__"]
        return bool(size_bytes == HEADER_BYTES + header_bytes + max(ends, default=0))
    return False


def _torn(folder: Path) -> Iterator[str]:
    for file in sorted(weights_in(folder)):
        if not is_whole(file):
            yield f"is torn: {file.name} is no whole safetensors file"


def _packed_trouble(folder: Path) -> Iterator[str]:
    """What is wrong with a folder that was packed here, by the hashes that its packing left; nothing of any other."""
    index = folder / PACKED_INDEX
    if not index.is_file():
        return
    try:
        packed = msgspec.json.decode(index.read_bytes(), type=_Packed)
    except msgspec.DecodeError:
        yield f"can't be told whole from torn: its {PACKED_INDEX} is damaged"
        return
    if not packed.whole:
        yield "is not packed to its end"
    if (said := packed.sha256.get(MODEL_CONFIG)) is not None and _sum(folder / MODEL_CONFIG) != said:
        yield f"was packed with another {MODEL_CONFIG} than lies there now: one of the two is of another model"
    with ThreadPoolExecutor() as pool:  # hashing lets go of the interpreter
        sums = pool.map(lambda name: _sum(folder / name), packed.sha256)
        for name, found in zip(packed.sha256, sums, strict=True):
            if found is None:
                yield f"lacks {name}, which was packed with it"
            elif found != packed.sha256[name]:
                yield f"is not as it was packed: {name} is torn, was changed, or is of another model"
    for file in sorted(folder.glob(f"*{SAFE}")):
        if file.name not in packed.sha256:
            yield f"holds {file.name}, which was not packed with it"


def _sum(file: Path) -> str | None:
    return sha256_of(file) if file.is_file() else None
