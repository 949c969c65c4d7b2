"""A learned factor for each feature of what comes into a linear, or out of it: IA3."""

from __future__ import annotations

from catalogs.bases.architectures import Linear
from planner.estimators.memory.step.operations import FP32, Block, plain_product
from planner.estimators.memory.step.tape import Tensor
from planner.methods.adapters import scaled_before
from planner.strategy.precision import BITSANDBYTES


def ia3(block: Block, x: Tensor, module: Linear) -> Tensor:
    """IA3 (arXiv:2205.05638): a learned vector on a feed-forward module's input, on any other module's output.

    peft scales in the vector's dtype and casts back, but for a bitsandbytes layer under autocast; the product keeps what
    it scales.
    """
    n = block.n
    bits = n.quant in BITSANDBYTES
    before = block.items[x]
    if bits and not n.autocast:
        x = block.cast(x, module.in_features, FP32)
    if scaled_before(module):
        wide = x if bits else block.cast(x, module.in_features, n.adapter)
        factored = _factor(block, wide, module.in_features)
        scaled = factored if bits else block.cast(factored, module.in_features, before)
        block.tape.hold(wide)
        y = plain_product(block, scaled, module)
        block.tape.hold(wide, scaled)  # locals of the module, until its linear has answered
        return block.op((y,), module.out_features, block.items[y]) if bits else y
    y = plain_product(block, x, module)
    item = block.items[y]
    scaled = _factor(block, y, module.out_features)
    if not bits:
        narrow = block.cast(scaled, module.out_features, item)
        block.tape.hold(y)
        return narrow
    scaled = block.op((scaled,), module.out_features, block.items[scaled])
    return scaled if n.autocast else block.cast(scaled, module.out_features, item)


def _factor(block: Block, x: Tensor, features: int) -> Tensor:
    """A learned factor per feature. Its gradient is a product of full size before it is summed over tokens."""
    n = block.n
    item = max(block.items[x], n.adapter)
    whole = n.tokens * features * item
    return block.op((x,), features, item, saves=(x,), weight_gradient=features * n.adapter, backward_scratch=whole)
