"""An update as large as the weight, which the method makes anew at every use: LoHa, LoKr, FourierFT."""

from __future__ import annotations

from typing import Final

from catalogs.bases.architectures import Linear
from planner.estimators.memory.step.operations import FP32, Block, plain_product
from planner.estimators.memory.step.tape import Tensor
from planner.methods.adapters import is_factored, kronecker_factors

COMPLEX64: Final = 8  # derived: bytes of two fp32 numbers


def loha(block: Block, x: Tensor, module: Linear) -> Tensor:
    """The update is one node of peft's own (HadaWeight), which multiplies again in backward, without autocast."""
    n, weights = block.n, module.num_weights
    y = plain_product(block, x, module)
    item = n.autocast or n.adapter
    delta = block.matrix(
        (),
        weights,
        item,
        scratch=2 * weights * item,
        backward_scratch=weights * (item + 3 * n.adapter),
        weight_gradient=sum(n.sizes(module)) * n.adapter,
    )
    return _with_update(block, x, y, delta, module)


def lokr(block: Block, x: Tensor, module: Linear) -> Tensor:
    """The update is a Kronecker product, then scaled. Of both factors the gradients are of full size before they are summed."""
    n, weights = block.n, module.num_weights
    y = plain_product(block, x, module)
    _, large = kronecker_factors(module, n.dials)
    kept = large[0] * large[1] * (n.autocast or n.adapter) if is_factored(large, n.dials.rank) else 0
    product = block.matrix(
        (),
        weights,
        n.adapter,
        keeps=kept,
        backward_scratch=2 * weights * n.adapter,
        weight_gradient=sum(n.sizes(module)) * n.adapter,
    )
    return _with_update(block, x, y, block.matrix((product,), weights, n.adapter), module)


def fourierft(block: Block, x: Tensor, module: Linear) -> Tensor:
    """The update is the inverse transform of a sparse spectrum, in complex numbers, handed on in the spectrum's dtype."""
    n, weights = block.n, module.num_weights
    y = plain_product(block, x, module)
    spectrum = block.matrix((), weights, FP32, weight_gradient=sum(n.sizes(module)) * n.adapter)
    update = block.matrix((spectrum,), weights, COMPLEX64, scratch=weights * COMPLEX64, backward_scratch=weights * COMPLEX64)
    wide = block.matrix((update,), weights, FP32)
    delta = wide if n.adapter == FP32 else block.matrix((wide,), weights, n.adapter)
    return _with_update(block, x, y, delta, module)


def _with_update(block: Block, x: Tensor, y: Tensor, delta: Tensor, module: Linear) -> Tensor:
    """The sum y + x·delta: both operands in the update's dtype, then in that of the product."""
    n, fan_in, fan_out = block.n, module.in_features, module.out_features
    result_item = block.items[x]
    item = n.autocast or n.adapter
    inner = block.cast(block.cast(x, fan_in, block.items[delta]), fan_in, item)
    narrow = delta if block.items[delta] == item else block.matrix((delta,), module.num_weights, item)
    change = block.op((inner, narrow), fan_out, item, saves=(inner, narrow))
    total = block.summed(y, change, fan_out, holds=(x,))
    return block.cast(total, fan_out, result_item)
