"""A rotation of what comes into a linear: OFT, BOFT."""

from __future__ import annotations

from catalogs.bases.architectures import Linear
from planner.estimators.memory.step.operations import FP32, Block, plain_product
from planner.estimators.memory.step.tape import Tensor
from planner.methods.adapters import boft_blocks, oft_blocks


def oft(block: Block, x: Tensor, module: Linear) -> Tensor:
    """Blocks of features, each rotated; the rotations are a power series of skew-symmetric matrices."""
    n, fan_in = block.n, module.in_features
    before = block.items[x]
    item = n.autocast or n.adapter
    _, width = oft_blocks(module, n.dials)
    rotations = fan_in * width
    inner = block.cast(x, fan_in, n.adapter)
    kept = rotations * item * n.dials["num_cayley_neumann_terms"]
    rotation = block.matrix(
        (), rotations, item, keeps=kept, backward_scratch=4 * rotations * FP32, weight_gradient=sum(n.sizes(module)) * n.adapter
    )
    narrow = block.cast(inner, fan_in, item)
    rotated = block.op((narrow, rotation), fan_in, item, saves=(narrow, rotation))
    copied = block.op((rotated,), fan_in, item)  # blocks lie outermost: a true copy
    wide = block.cast(copied, fan_in, n.adapter)
    block.tape.hold(inner, rotated)  # a local of the linear's function, and one of the rotation's
    y = plain_product(block, block.cast(wide, fan_in, before), module)
    block.tape.hold(wide)
    return block.cast(y, module.out_features, before)


def boft(block: Block, x: Tensor, module: Linear) -> Tensor:
    """A square rotation of the whole input, of which all but a diagonal of blocks is zero, and a scale of the output.

    The diagonal comes in fp32; identity and permutation, which are frozen, in the input's dtype. Products are autocast's.
    """
    n, fan_in, fan_out = block.n, module.in_features, module.out_features
    before, square = block.items[x], module.in_features**2
    item = n.autocast or before
    _, width = boft_blocks(module, n.dials)

    def cast(matrix: Tensor, to: int) -> Tensor:
        return matrix if block.items[matrix] == to else block.matrix((matrix,), square, to)

    def frozen(to: int) -> Tensor:
        return block.matrix((), square, to, grads=())

    identity = frozen(before)
    small = fan_in * width
    diagonal = block.matrix((), square, FP32, keeps=3 * small * FP32, weight_gradient=small * n.adapter)
    permutation = () if before == FP32 else (frozen(before),)  # that in fp32 lies among the weights
    narrow = cast(diagonal, before)
    product = cast(narrow, item)
    for _ in ("from the right", "from the left"):
        factor = permutation if before == item else (frozen(item),)
        product = block.matrix((product, *factor), square, item, saves=factor, grads=(product,))
    turning = identity if before == item else frozen(item)
    rotation = block.matrix((product, turning), square, item, saves=(turning,), grads=(product,))
    block.tape.hold(identity)
    rotation = cast(rotation, before)
    operand = cast(rotation, item)
    inner = block.cast(x, fan_in, item)
    rotated = block.op((inner, operand), fan_in, item, saves=(inner, operand))
    y = plain_product(block, rotated, module)
    wide = max(block.items[y], n.adapter)
    scaled = block.op(
        (y,), fan_out, wide, saves=(y,), weight_gradient=fan_out * n.adapter, backward_scratch=n.tokens * fan_out * wide
    )
    if module.bias:
        scaled = block.op((scaled,), fan_out, wide)
    return block.op((scaled,), fan_out, before, passes=wide == before, holds=(narrow, product, rotation, rotated, *permutation))
