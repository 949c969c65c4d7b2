"""PiSSA (Meng et al., arXiv:2404.02948): the largest singular values leave the weights and become LoRA's start.

The base is then another one. So what comes home is LoRA of twice the rank, which holds what was learned less that start, and
goes onto the base as everybody has it.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from remote.adapters import configs
from remote.adapters.way import by_peft
from remote.contract import Loop, Strategy
from remote.ends import bad_job

START: Final = "started_from"  # attribute of peft's model: the adapter's tensors by name, as they were taken from the weights


def pissa(model: Any, strategy: Strategy, loop: Loop) -> Any:
    """LoRA at its start from the weights, which it leaves in `model`."""
    if strategy.quant != "none":
        raise bad_job(
            f"pissa decomposes weights of 16 or 32 bits, and these are {strategy.quant}; set quant none, or choose lora"
        )
    adapted = by_peft(configs.pissa).attach(model, strategy, loop)
    start = {name: tensor.detach().to("cpu", copy=True) for name, tensor in _factors(adapted) if not tensor.is_meta}
    setattr(adapted, START, start)
    return adapted


def save_as_lora(folder: Path, adapted: Any) -> None:
    """Write the trained adapter as LoRA for the base as it was. peft converts it, from a copy of the start on disk."""
    trained = {name: tensor.detach().clone() for name, tensor in _factors(adapted)}
    with TemporaryDirectory() as place:
        start = Path(place) / "start"
        _fill(adapted, getattr(adapted, START))
        adapted.save_pretrained(start, save_embedding_layers=False)
        _fill(adapted, trained)
        adapted.save_pretrained(folder, save_embedding_layers=False, path_initial_model_for_weight_conversion=str(start))


def base_put_back(adapted: Any) -> Any:
    """The base as it was, without the adapter; `adapted` is used up."""
    from peft.tuners.lora import LoraLayer

    _fill(adapted, getattr(adapted, START))
    for module in adapted.modules():
        if isinstance(module, LoraLayer):
            weight = module.get_base_layer().weight
            weight.data = (weight.data.float() + module.get_delta_weight("default").float()).to(weight.dtype)
    return adapted.unload()


def _factors(adapted: Any) -> list[tuple[str, Any]]:
    return [(name, parameter) for name, parameter in adapted.named_parameters() if "lora_A" in name or "lora_B" in name]


def _fill(adapted: Any, tensors: dict[str, Any]) -> None:
    for name, parameter in _factors(adapted):
        parameter.data.copy_(tensors[name])
