"""A base that HQQ's own package packed, read into its linears: transformers 5.24 finds no weights in such files, takes no CPU.

It stands alone: where a run trained over such a base, a copy lies beside its `try.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

CODES: Final = ".W_q"  # what a packed linear's numbers are called, behind its path
FLAGS: Final = ("channel_wise", "optimize", "round_zero", "stores_quant_config", "view_as_float")
NUMBERS: Final = ("nbits", "group_size", "axis")
DTYPES: Final = ("compute_dtype", "unpack_view_dtype")
SCALES: Final = ("quant_scale", "quant_zero")  # whether these are packed themselves: releases before 0.2 did


def holds_hqq(folder: Path) -> bool:
    """Whether linears lie in `folder` as hqq writes them into safetensors; its first file tells, without its weights."""
    from safetensors import safe_open

    for shard in sorted(folder.glob("*.safetensors"))[:1]:
        with safe_open(shard, framework="pt") as file:
            return any(name.endswith(CODES) for name in file.keys())  # noqa: SIM118
    return False


def load_hqq(folder: Path, maker: Any, *, dtype: Any, compute_dtype: Any, device: str, **options: Any) -> tuple[Any, list[str]]:
    """The base on `device`, and the names of the weights that no file brings. `maker`: a class of transformers' that makes a
    model of a configuration; `options` are its; `dtype` is of what is not packed, `compute_dtype` of what is unpacked.

    Raises ValueError for files that are not as hqq 0.2 writes them. No word of a file is run, as hqq's own reader would.
    """
    from accelerate import init_empty_weights
    from transformers import AutoConfig, GenerationConfig

    config = AutoConfig.from_pretrained(folder)
    vars(config).pop("quantization_config", None)  # else transformers takes them for its own
    with init_empty_weights():
        model = maker.from_config(config, dtype=dtype, **options)
    held = _tensors(folder, device)
    for path in [name.removesuffix(CODES) for name in held if name.endswith(CODES)]:
        _put_in(model, path, _taken(held, f"{path}."), compute_dtype, device)
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in held.items()}, strict=False, assign=True)
    model.tie_weights()
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model.eval(), [name for name, parameter in model.named_parameters() if parameter.is_meta]


def _tensors(folder: Path, device: str) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {name: tensor for shard in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(shard, device).items()}


def _taken(held: dict[str, Any], prefix: str) -> dict[str, Any]:
    """What begins with `prefix`, out of `held`, by what comes behind it."""
    return {name.removeprefix(prefix): held.pop(name) for name in [name for name in held if name.startswith(prefix)]}


def _put_in(model: Any, path: str, said: Mapping[str, Any], compute_dtype: Any, device: str) -> None:
    """A packed linear in place of the plain one at `path`."""
    import torch
    from hqq.core.quantize import HQQLinear

    try:
        plain = model.get_submodule(path)
    except AttributeError:
        plain = None
    if not isinstance(plain, torch.nn.Linear):
        raise ValueError(f"they hold a packed {path}, which is no linear of a {model.config.model_type}")
    state = _read(path, said)
    if tuple(state["shape"]) != (plain.out_features, plain.in_features):
        raise ValueError(f"their {path} is {' x '.join(map(str, state['shape']))}, which is not what config.json says")
    linear = HQQLinear(None, None, compute_dtype=compute_dtype, device=device)
    linear.load_state_dict(state)
    model.set_submodule(path, linear)


def _read(path: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """What hqq's linear is told, of the tensors that it was written as. A word names a dtype, or how the codes are packed."""
    import torch
    from hqq.core.quantize import Quantizer

    try:
        if any(bool(said[name].item()) for name in SCALES):
            raise ValueError(f"the scales of their {path} are packed as well, as no release since 0.2 writes them")
        state: dict[str, Any] = {name: int(said[name].item()) for name in NUMBERS}
        state |= {name: bool(said[name].item()) for name in FLAGS if name in said}
        state |= {name: _dtype(_word(said[name])) for name in DTYPES if name in said}
        state |= dict.fromkeys(SCALES, False) | {"offload_meta": False, "packing": _word(said["packing"])}
        state |= {"shape": torch.Size(said["shape"].tolist()), "scale": said["scale"], "zero": said["zero"]}
        codes = said["W_q"].view(Quantizer.unpack_view_dtype[state["packing"]])
    except (KeyError, RuntimeError, AttributeError) as error:
        raise ValueError(f"their {path} is not written as hqq 0.2 does: {type(error).__name__} {error}") from error
    state |= {"view_as_float": False, "W_q": torch.nn.Parameter(codes, requires_grad=False)}
    return state | ({"bias": said["bias"]} if "bias" in said else {})


def _word(letters: Any) -> str:
    return "".join(map(chr, letters.tolist()))


def _dtype(word: str) -> Any:
    import torch

    found = getattr(torch, word.removeprefix("torch."))
    if not isinstance(found, torch.dtype):
        raise ValueError(f"they name a dtype {word[:40]!r}, which torch has none of")
    return found
