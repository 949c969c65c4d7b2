"""Adapters of peft's on weights in 4 and 8 bits, where peft 0.21's own layers can't compute: LoHa and LoKr, DoRA."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

PACKED: Final = "Params4bit"  # bitsandbytes' parameter, whose shape is that of packed bytes
EIGHT_BITS: Final = "Int8Params"


@contextmanager
def hung_on_packed() -> Iterator[None]:
    """In this block peft hangs LoHa and LoKr on packed weights by their features, as on any others."""
    import torch
    from peft import LoHaModel, LoKrModel

    before = {tuner: tuner.layers_mapping for tuner in (LoHaModel, LoKrModel)}
    for tuner, layers in before.items():
        tuner.layers_mapping = {**layers, torch.nn.Linear: _by_features(layers[torch.nn.Linear])}
    try:
        yield
    finally:
        for tuner, layers in before.items():
            tuner.layers_mapping = layers


@cache
def _by_features(layer: type) -> Any:
    """Peft's `layer` that takes its shape from features in and out. Its own takes that of the weight, which is packed."""

    class ByFeatures(layer):  # type: ignore[misc]
        def create_adapter_parameters(self, adapter_name: str, r: int, shape: Any, *more: Any) -> None:
            base = self.base_layer
            if type(base.weight).__name__ == PACKED and shape == tuple(base.weight.shape):
                shape = (base.out_features, base.in_features)
            super().create_adapter_parameters(adapter_name, r, shape, *more)

        def get_delta_weight(self, adapter_name: str, **asked: Any) -> Any:
            if type(self.base_layer.weight).__name__ != PACKED:
                return super().get_delta_weight(adapter_name, **asked)
            self.get_base_layer = self._as_unpacked  # peft asks it for a shape alone, by which the update is laid out
            try:
                return super().get_delta_weight(adapter_name, **asked)
            finally:
                del self.get_base_layer

        def _as_unpacked(self) -> Any:
            import torch

            return torch.nn.Linear(self.base_layer.in_features, self.base_layer.out_features, bias=False, device="meta")

    ByFeatures.__name__ = ByFeatures.__qualname__ = layer.__name__
    return ByFeatures


def keep_scales(model: Any) -> None:
    """Let no 8-bit linear forget its scales when its weight is read between two products, as DoRA does for its norm.

    On a processor peft 0.21 puts the weight anew into the module, without scales, and bitsandbytes 0.50 takes what it finds
    there for newer ones.
    """
    for module in model.modules():
        if type(getattr(module, "weight", None)).__name__ == EIGHT_BITS and hasattr(module, "state"):
            module.register_forward_pre_hook(_with_scales)


def _with_scales(module: Any, _arguments: Any) -> None:
    if module.weight.CB is not None and module.weight.SCB is None and module.state.SCB is not None:
        module.state.CB, module.weight.CB = module.weight.CB, None
