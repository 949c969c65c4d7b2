"""What a method leaves behind, written and read back: a whole model, peft's adapters, or the parts that were trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

from remote.adapters import way_of
from remote.adapters.pissa import base_put_back, save_as_lora
from remote.adapters.ranks import name_ranks, tuner_of
from remote.adapters.way import Saved
from remote.adapters.wrapping import bare, load_adapter
from remote.checkpoints.checkpoint import trainable
from remote.contract import JobSpec, Strategy
from remote.step import autocast, settings_of
from remote.streaming import settle

PARTS_FILE: Final = "trained.safetensors"  # by the names of the model's parameters

Logits = Callable[[Any], torch.Tensor]
# (logits of the bare base, or None where it is gone; logits with the files read from disk). Uses the model up.
Reload = Callable[[Path, Any, Strategy, Logits], tuple[torch.Tensor | None, torch.Tensor]]


class Saving(NamedTuple):
    """How one kind of result is written into a folder, and read back from there onto the loaded model."""

    save: Callable[[Path, Any, JobSpec], None]
    reload: Reload


def base_name(spec: JobSpec) -> str:
    """What the user calls the base model."""
    return spec.model.name or spec.model.location


def _save_whole(folder: Path, model: Any, _spec: JobSpec) -> None:
    model.save_pretrained(folder)


def _reload_whole(folder: Path, model: Any, _strategy: Strategy, logits: Logits) -> tuple[torch.Tensor | None, torch.Tensor]:
    """As whoever uses the files reads them, once the weights in memory are let go of: a second copy need not fit.

    By transformers and not by name: of fused experts, and of GPT-NeoX's head, the files have other names than the model.
    """
    dtypes, device, config = _dtypes_of(model), next(model.parameters()).device, model.config
    for parameter in model.parameters():
        parameter.data = parameter.data.new_empty(0)
    held = set(dtypes.values())
    again = type(model).from_pretrained(
        folder,
        dtype=held.pop() if len(held) == 1 else torch.float32,
        attn_implementation=config._attn_implementation,  # noqa: SLF001 - no public name
        device_map={"": device},
        local_files_only=True,
    )
    _hold_as(again, dtypes)
    return None, logits(again.eval())


def _save_adapters(folder: Path, model: Any, spec: JobSpec) -> None:
    """Each adapter into the folder that its method has for it; whoever loads one loads it onto the same base. Of a prompt that
    layers make what they make is written, and they make it in the precision that was trained in: in fp32 it is another one.
    """
    for name, adapter in zip(reversed(way_of(spec.strategy).folders), _adapters(model), strict=True):
        _name_base(adapter, spec)
        tuner = tuner_of(adapter)
        if tuner is not None:
            name_ranks(tuner)
        with autocast(settings_of(spec.strategy, spec.device, spec.loop.max_grad_norm)):
            adapter.save_pretrained(folder / name, save_embedding_layers=False)


def _name_base(adapter: Any, spec: JobSpec) -> None:
    adapter.peft_config["default"].base_model_name_or_path = base_name(spec)
    adapter.peft_config["default"].revision = spec.model.revision


def _adapters(model: Any) -> Iterator[Any]:
    """From the outermost inwards."""
    while hasattr(model, "get_base_model"):
        yield model
        model = model.base_model if model.active_peft_config.is_prompt_learning else model.get_base_model()


def _reload_adapters(folder: Path, model: Any, strategy: Strategy, logits: Logits) -> tuple[torch.Tensor | None, torch.Tensor]:
    """The base is the one already in memory."""
    dtypes = _dtypes_of(model)
    base = bare(model)
    untouched = logits(base)
    for name in way_of(strategy).folders:
        base = load_adapter(base, str(folder / name), strategy, trainable=False)
    _hold_as(base, dtypes)
    settle(base)
    return untouched, logits(base.eval())


def _dtypes_of(model: Any) -> dict[str, torch.dtype]:
    return {name: parameter.dtype for name, parameter in model.named_parameters()}


def _hold_as(model: Any, dtypes: Mapping[str, torch.dtype]) -> None:
    """Parameters in the dtypes that those of their names had: peft makes an adapter's in fp32 on a packed base, and what was
    trained in 16 bits would answer otherwise.
    """
    for name, parameter in model.named_parameters():
        if parameter.dtype != dtypes.get(name, parameter.dtype):
            parameter.data = parameter.data.to(dtypes[name])


def _save_moved_base(folder: Path, model: Any, spec: JobSpec) -> None:
    """As LoRA of twice the rank, onto the base as it was: what was learned, less what was taken out of its weights."""
    _name_base(model, spec)
    save_as_lora(folder, model)


def _reload_moved_base(
    folder: Path, model: Any, strategy: Strategy, logits: Logits
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """What was taken out of the base's weights goes back into them first."""
    dtypes = _dtypes_of(model)
    base = base_put_back(model)
    untouched = logits(base)
    loaded = load_adapter(base, str(folder), strategy, trainable=False)
    _hold_as(loaded, dtypes)
    return untouched, logits(loaded.eval())


def _save_parts(folder: Path, model: Any, _spec: JobSpec) -> None:
    from safetensors.torch import save_file

    save_file({name: parameter.detach().contiguous().cpu() for name, parameter in trainable(model)}, folder / PARTS_FILE)


def _reload_parts(folder: Path, model: Any, _strategy: Strategy, logits: Logits) -> tuple[torch.Tensor | None, torch.Tensor]:
    """With what was trained wiped and read from disk again."""
    _wipe(parameter for _, parameter in trainable(model))
    _read(folder / PARTS_FILE, model)
    return None, logits(model)


def _wipe(parameters: Iterator[Any]) -> None:
    with torch.no_grad():
        for parameter in parameters:
            parameter.fill_(float("nan"))


def _read(file: Path, model: Any) -> None:
    from safetensors.torch import load_file

    model.load_state_dict(load_file(file), strict=False)


SAVING: Final[Mapping[Saved, Saving]] = {
    "whole": Saving(_save_whole, _reload_whole),
    "adapters": Saving(_save_adapters, _reload_adapters),
    "moved_base": Saving(_save_moved_base, _reload_moved_base),
    "parts": Saving(_save_parts, _reload_parts),
}
