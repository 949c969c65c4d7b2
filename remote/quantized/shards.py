"""One file of weights, packed: read tensor by tensor, and never all of the base in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from remote.checkpoints.files import Hashing, bits_of
from remote.ends import bad_job, first_line

WHOLE_NAME: Final = "model.safetensors"
MAP_NAME: Final = "model.safetensors.index.json"

HEADER_GRAIN_BYTES: Final = 8
# dtypes of torch → as safetensors calls them
DTYPE_NAMES: Final[Mapping[str, str]] = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}

Pack = Callable[[Any], dict[str, Any]]  # a weight → what is stored of it, by what comes behind the name of its linear
WEIGHT: Final = "weight"


def shards_of(folder: Path) -> tuple[Path, ...]:
    """The files of a base's weights, in order. Raises `Ended` (bad job) where it has none in safetensors, or not all."""
    names = sorted(set(_map_of(folder).values())) or [WHOLE_NAME]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise bad_job(
            f"{folder} holds no {missing[0]}: only a base whose weights lie there whole, in safetensors, can be packed"
        )
    return tuple(folder / name for name in names)


def _map_of(folder: Path) -> dict[str, str]:
    file = folder / MAP_NAME
    if not file.is_file():
        return {}
    try:
        return msgspec.convert(json.loads(file.read_bytes())["weight_map"], dict[str, str])
    except (ValueError, KeyError) as error:
        raise bad_job(f"{file} can't be read: {first_line(error)}") from error


def keys_of(shard: Path) -> tuple[str, ...]:
    """The tensors of one file. Raises `Ended` (bad job) for a file that is torn: its header says how long it is."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(shard, framework="pt") as file:
            return tuple(file.keys())
    except SafetensorError as error:
        raise bad_job(f"{shard} can't be read: {first_line(error)}") from error


class Packs(NamedTuple):
    """What becomes of a base's tensors."""

    packs: Mapping[str, Pack]  # by name
    dtype: Any  # of the others, and of what is packed before it is
    kept: tuple[str, ...]  # parts of the names of tensors that keep theirs: the model wants them wider

    def parts(self, name: str, tensor: Any) -> Iterator[tuple[str, Any]]:
        """What is stored of one tensor, by name."""
        if name in self.packs:
            yield from (
                (name.removesuffix(WEIGHT) + behind, part) for behind, part in self.packs[name](tensor.to(self.dtype)).items()
            )
        elif tensor.is_floating_point() and not any(part in name for part in self.kept):
            yield name, tensor.to(self.dtype)
        else:
            yield name, tensor


def packs_for(model: Any, dtype: Any) -> Packs:
    """Of a model whose linears are bitsandbytes', on no device."""
    kept = (*(model._keep_in_fp32_modules or ()), *(model._keep_in_fp32_modules_strict or ()))  # noqa: SLF001 - no public name
    return Packs(dict(_packs_of(model)), dtype, kept)


def write_packed(shard: Path, into: Path, packs: Packs) -> str:
    """Write one file of weights as it is packed. Returns the hex sha256 of what was handed over. What stays as it is goes from
    the one file into the other, and only what is packed is held.
    """
    from safetensors import safe_open

    with safe_open(shard, framework="pt") as file:
        tensors = {key: part for name in file.keys() for key, part in packs.parts(name, file.get_tensor(name))}  # noqa: SIM118
        with Hashing(into) as out:
            _write(out, tensors)
        return out.sha256


def _write(out: Hashing, tensors: Mapping[str, Any]) -> None:
    """In the layout of safetensors (its README, "Format"), the widest numbers first, so that each begins where it may."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    for name, tensor in ordered:
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _dtype_name(tensor), "shape": [*tensor.shape], "data_offsets": [begin, end]}
    words = json.dumps(header, separators=(",", ":")).encode()
    words += b" " * (-len(words) % HEADER_GRAIN_BYTES)
    out.write(len(words).to_bytes(8, "little"))
    out.write(words)
    for _, tensor in ordered:
        out.write(memoryview(bits_of(tensor).numpy()))


def _dtype_name(tensor: Any) -> str:
    return DTYPE_NAMES[str(tensor.dtype).removeprefix("torch.")]


def _packs_of(model: Any) -> Iterator[tuple[str, Pack]]:
    """Name of each weight that bitsandbytes packs, and how: of a model whose linears it has replaced, on no device."""
    for name, module in model.named_modules():
        if (pack := _PACKS.get(type(module).__name__)) is not None:
            yield f"{name}.{WEIGHT}", pack(module)


def _four_bit(module: Any) -> Pack:
    """As transformers packs it while loading (integrations/bitsandbytes.py, `Bnb4bitQuantize`), so that both are the same."""
    import bitsandbytes
    from transformers.pytorch_utils import Conv1D

    said, transposed = dict(module.weight.__dict__), issubclass(module.source_cls, Conv1D)

    def pack(weight: Any) -> dict[str, Any]:
        lying = weight.T if transposed else weight
        packed = bitsandbytes.nn.Params4bit(lying, requires_grad=False, **said).to(weight.device)
        parts = packed.quant_state.as_dict(packed=True)
        beside = {f"{WEIGHT}.{key}": part.contiguous().clone() for key, part in parts.items()}
        return {WEIGHT: packed.data.contiguous()} | beside

    return pack


def _eight_bit(module: Any) -> Pack:
    """As `Bnb8bitQuantize` of the same file packs it, with the names by which `Linear8bitLt` saves itself."""
    import bitsandbytes
    import torch
    from transformers.pytorch_utils import Conv1D

    transposed = issubclass(module.source_cls, Conv1D)

    def pack(weight: Any) -> dict[str, Any]:
        packed = bitsandbytes.nn.Int8Params(weight.T if transposed else weight, requires_grad=False).to(weight.device)
        row_major = torch.tensor(0, dtype=torch.uint8)  # derived: LINEAR_8BIT_WEIGHTS_FORMAT_MAPPING of bitsandbytes 0.50
        return {WEIGHT: packed.CB.contiguous(), "SCB": packed.SCB.contiguous(), "weight_format": row_major}

    return pack


_PACKS: Final[Mapping[str, Callable[[Any], Pack]]] = {"Linear4bit": _four_bit, "Linear8bitLt": _eight_bit}
