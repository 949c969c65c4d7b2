"""A linear with what a method hangs on it, by the kind of adapter.

Each function follows the lines of peft's module (0.21, `tuners/*/layer.py`, `bnb.py`), in their order. Where an update has
the size of the weight (`updates`) or of its input squared (DoRA, BOFT), it is a tensor of the tape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from catalogs.bases.architectures import Linear
from planner.estimators.memory.step.adapters.beside import adalora, dora, lora_beside, vera
from planner.estimators.memory.step.adapters.bottleneck import bottleneck
from planner.estimators.memory.step.adapters.factors import ia3
from planner.estimators.memory.step.adapters.rotations import boft, oft
from planner.estimators.memory.step.adapters.updates import fourierft, loha, lokr
from planner.estimators.memory.step.operations import Block, plain_product
from planner.estimators.memory.step.tape import Tensor
from planner.methods import Kind
from planner.strategy.precision import is_packed


def linear(block: Block, x: Tensor, module: Linear) -> Tensor:
    """A linear with whatever the method hangs on it. Its input is an argument, alive until it returns."""
    y = _linear(block, x, module)
    block.tape.hold(x)
    return y


def _linear(block: Block, x: Tensor, module: Linear) -> Tensor:
    kind = block.n.adapter_kind
    if not is_packed(module, block.n.quant):
        block = block.with_kept() if block.n.quant != "none" else block
    if module.name in block.n.inserted:
        return bottleneck(block, plain_product(block, x, module), module.out_features)
    if kind is None or module.name not in block.n.adapted:
        return plain_product(block, x, module)
    return ADAPTED[kind](block, x, module)


ADAPTED: Final[dict[Kind, Callable[[Block, Tensor, Linear], Tensor]]] = {
    "lora": lora_beside,
    "dora": dora,
    "adalora": adalora,
    "vera": vera,
    "loha": loha,
    "lokr": lokr,
    "fourierft": fourierft,
    "oft": oft,
    "boft": boft,
    "ia3": ia3,
}
