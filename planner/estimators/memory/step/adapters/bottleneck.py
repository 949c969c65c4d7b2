"""A bottleneck adapter behind a linear."""

from __future__ import annotations

from typing import Final

from planner.estimators.memory.step.operations import Block
from planner.estimators.memory.step.tape import Tensor

KEEPS_OUTPUT: Final = frozenset({"relu", "tanh"})  # derived: by their formulas in torch's derivatives.yaml


def bottleneck(block: Block, y: Tensor, features: int) -> Tensor:
    """The sum y + up(f(down(y))), as `remote/adapters/bottleneck.py` writes it: in the adapter's dtype, or that of autocast."""
    n, item, width = block.n, block.n.autocast or block.n.adapter, block.n.inserted_width
    inner = block.cast(block.cast(y, features, n.adapter), features, item)
    down = block.op((inner,), width, item, saves=(inner,), weight_gradient=(features + 1) * width * n.adapter)
    if n.non_linearity in KEEPS_OUTPUT:
        bent = block.op((down,), width, item, saves_output=True)
    else:
        bent = block.op((down,), width, item, saves=(down,))
    up = block.op((bent,), features, item, saves=(bent,), weight_gradient=(width + 1) * features * n.adapter)
    narrow = block.cast(up, features, block.items[y])
    return block.op((y, narrow), features, block.items[y], passes=True, holds=(up,))  # a local of the module's function
