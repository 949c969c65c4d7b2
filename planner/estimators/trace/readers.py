"""Adapters of peft whose own code reads values where shapes would do: what stands in their place while a step is traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """An attribute of a module, and what stands there meanwhile."""

    place: Any
    name: str
    value: Any


def readers() -> list[Answer]:
    """What BOFT, WaveFT and SHiRA ask of indices, answered by their shapes."""
    import torch
    from peft.tuners.boft.layer import BOFTLayer
    from peft.tuners.shira.layer import Linear as ShiraLinear
    from peft.tuners.shira.layer import ShiraLayer
    from peft.tuners.waveft.layer import WaveFTLayer

    return [
        Answer(BOFTLayer, "perm2mat", lambda _, indices: torch.empty(len(indices), len(indices))),
        Answer(WaveFTLayer, "get_delta_weight", _all_inside(WaveFTLayer.get_delta_weight)),
        Answer(ShiraLayer, "update_layer", _unmasked(ShiraLayer.update_layer)),
        Answer(ShiraLinear, "get_delta_weight", _entries),
    ]


def _all_inside(delta_weight: Callable[..., Any]) -> Callable[..., Any]:
    """WaveFT leaves out what a wavelet's margin pushes over the edge, which is nothing: half of it lies on each side."""

    def whole(layer: Any, adapter: str) -> Any:
        import torch.fx.experimental._config as asked

        before, asked.meta_nonzero_assume_all_nonzero = asked.meta_nonzero_assume_all_nonzero, True
        try:
            return delta_weight(layer, adapter)
        finally:
            asked.meta_nonzero_assume_all_nonzero = before

    return whole


def _unmasked(update: Callable[..., None]) -> Callable[..., None]:
    """SHiRA finds the places of its entries in a mask of the weight's size; how many there are is known before."""

    def placed(layer: Any, adapter: str, mask: Any, *arguments: Any, **options: Any) -> None:
        import torch

        update(layer, adapter, None, *arguments, **options)
        if mask is not None:
            entries = layer.shira_weight[adapter].numel()
            layer.shira_indices[adapter] = torch.empty((2, entries), dtype=torch.int, device=mask.device)

    return placed


def _entries(layer: Any, adapter: str) -> Any:
    """SHiRA's change of the weight: a tensor of entries and places, which meta tensors have no storage for."""
    return _Entries(layer.shira_indices[adapter], layer.shira_weight[adapter] * layer.scaling[adapter])


class _Entries:
    """What `torch.sparse_coo_tensor` holds, in so far as it is added to a weight."""

    def __init__(self, places: Any, entries: Any) -> None:
        import torch

        self._places, self._entries = places.to(torch.int64), entries  # as sparse tensors keep their places

    def __radd__(self, weight: Any) -> Any:
        """The weight with the entries added, in place: nothing of the weight's size is made for them."""
        rows, columns = self._places
        return weight.index_put_((rows, columns), self._entries.to(weight.dtype), accumulate=True)
