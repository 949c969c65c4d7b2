"""A product beside the linear's own: LoRA and its kin, AdaLoRA, VeRA."""

from __future__ import annotations

from catalogs.bases.architectures import Linear
from planner.estimators.memory.step.operations import FP32, Block, plain_product
from planner.estimators.memory.step.tape import Tensor
from planner.strategy.precision import BITSANDBYTES
from remote.contract import CAST_INPUT


def lora_beside(block: Block, x: Tensor, module: Linear) -> Tensor:
    y = plain_product(block, x, module)
    return _fused_lora(block, x, y, module) if "lora" in block.n.fused else _lora(block, x, y, module)


def _lora(block: Block, x: Tensor, y: Tensor, module: Linear) -> Tensor:
    """The sum y + B(A(dropout(x)))·scale as peft writes it: casts, mask, and an fp32 detour where there is no autocast."""
    n, fan_in, fan_out = block.n, module.in_features, module.out_features
    result_item = block.items[y]
    bits = n.quant in BITSANDBYTES
    if bits:
        y = block.op((y,), fan_out, result_item)  # peft clones the result of a bitsandbytes layer
    as_it_comes = n.autocast and (bits or not n.dials[CAST_INPUT])
    wide = inner = x if as_it_comes else block.cast(x, fan_in, n.adapter)
    if n.dropout:
        inner = block.op((inner,), fan_in, block.items[inner], keeps=n.tokens * fan_in)  # a one-byte mask
    item = n.autocast or n.adapter
    inner = block.cast(inner, fan_in, item)
    down = _down(block, inner, fan_in, item)
    up = block.op((down,), fan_out, item, saves=(down,), weight_gradient=n.dials.rank * fan_out * n.adapter, views=True)
    up = block.op((up,), fan_out, item)
    if bits and not n.autocast:
        up = block.cast(up, fan_out, result_item)
    total = block.summed(y, up, fan_out, holds=(x, wide))
    return total if bits else block.cast(total, fan_out, result_item)


def _down(block: Block, inner: Tensor, fan_in: int, item: int) -> Tensor:
    """The product with LoRA's A. One that stays as it was drawn needs no input in backward, but autocast's copy of itself."""
    n, entries = block.n, block.n.dials.rank * fan_in
    if n.dials.first_stays:
        return block.op((inner,), n.dials.rank, item, keeps=entries * item if item != n.adapter else 0, views=True)
    return block.op((inner,), n.dials.rank, item, saves=(inner,), weight_gradient=entries * n.adapter, views=True)


def _fused_lora(block: Block, x: Tensor, y: Tensor, module: Linear) -> Tensor:
    """Unsloth's fused product: the 16-bit input is kept once, the low-rank product is made again in backward."""
    n = block.n
    dropped = n.tokens * module.in_features * block.items[x] if n.dropout else 0
    gradient = n.dials.rank * (module.in_features + module.out_features) * n.adapter
    return block.op((y,), module.out_features, block.items[y], saves=(x,), keeps=dropped, passes=True, weight_gradient=gradient)


def dora(block: Block, x: Tensor, module: Linear) -> Tensor:
    """LoRA's product and the base's, rescaled by a magnitude over the norm of the whole weight, which is made for it.

    Behind dropout the base's is made anew, of what was not dropped and of the weight that the norm was made of.
    """
    n, fan_in, fan_out = block.n, module.in_features, module.out_features
    y = plain_product(block, x, module)
    result_item = block.items[y]
    bits = n.quant in BITSANDBYTES
    if bits:
        y = block.op((y,), fan_out, result_item)
    undropped = inner = x if bits and n.autocast else block.cast(x, fan_in, n.adapter)
    wide, product = block.items[inner], n.autocast or n.adapter
    if n.dropout:
        inner = block.op((inner,), fan_in, wide, keeps=n.tokens * fan_in)
    held, hump = _dora_weights(block, module, wide)
    normed = block.matrix((y, inner), 0, FP32, grads=(), scratch=hump)
    narrow = block.cast(inner, fan_in, product)
    rank = n.dials.rank
    down = block.op((narrow, normed), rank, product, saves=(narrow,), scratch=held, weight_gradient=rank * fan_in * n.adapter)
    up = block.op((down,), fan_out, product, saves=(down,), scratch=held, weight_gradient=rank * fan_out * n.adapter)
    base = y
    if n.dropout:
        base, kept = _dora_base(block, inner, module, held)
        held -= kept
    elif module.bias:
        base = block.op((y,), fan_out, result_item)
    item = max(n.adapter, block.items[base])
    scaled_base = block.op(
        (base,),
        fan_out,
        item,
        saves=(base,),
        scratch=held,
        backward_scratch=_product_gradients(block, base, fan_out, item),
        weight_gradient=fan_out * n.adapter,
    )
    scaled = block.op(
        (up,), fan_out, item, saves=(up,), scratch=held, backward_scratch=_product_gradients(block, up, fan_out, item)
    )
    scaled = block.op((scaled,), fan_out, item, scratch=held)
    change = block.op((scaled_base, scaled), fan_out, item, scratch=held, passes=True, holds=(x, inner, base, up))
    total = block.summed(y, change, fan_out, holds=(undropped,))
    return total if bits and n.autocast else block.cast(total, fan_out, result_item)


def _product_gradients(block: Block, x: Tensor, features: int, item: int) -> int:
    """Bytes beside the gradient of `x`, which a number for each feature multiplies: that of the numbers before it is summed
    over tokens, and what that of `x` takes more before it is cast. derived: mul's backward makes both in the result's dtype.
    """
    return block.n.tokens * features * (2 * item - block.items[x])


def _dora_base(block: Block, x: Tensor, module: Linear, held: int) -> tuple[Tensor, int]:
    """The base's product of what dropout left, without its bias; and what of the frame's bytes it keeps, as its operand."""
    n, entries, wide = block.n, module.num_weights, block.items[x]
    product = n.autocast or n.adapter
    copied = _dora_copy(block, module, wide)
    narrow = block.cast(x, module.in_features, product)
    if wide == product and not copied:  # the weight itself
        return block.op((narrow,), module.out_features, product, scratch=held, asks=True), 0
    kept = copied if wide == product else 0
    weight = block.matrix((), entries, product, grads=())
    base = block.op((narrow, weight), module.out_features, product, saves=(weight,), grads=(narrow,), scratch=held - kept)
    return base, kept


def _dora_copy(block: Block, module: Linear, item: int) -> int:
    """Bytes of the base's weight as DoRA's frame has it: unpacked, or cast to the input's dtype."""
    n = block.n
    return module.num_weights * item if item != n.weight or n.quant != "none" else 0


def _dora_weights(block: Block, module: Linear, item: int) -> tuple[int, int]:
    """Bytes that DoRA's frame holds until it returns, and at most: weight and update in the input's dtype, their sum.

    The update is made of an identity matrix; its graph is never walked, yet lives as long as the frame.
    """
    n, weights, square = block.n, module.num_weights, module.in_features**2
    product = n.autocast or n.adapter
    graph = square * product + module.in_features * n.dials.rank * product
    held = graph + weights * item + _dora_copy(block, module, item)
    identity = square * n.adapter if product != n.adapter else 0  # as it was made, before autocast's copy; gone with the update
    return held, max(held + 2 * weights * item, graph + identity + weights * product)


def adalora(block: Block, x: Tensor, module: Linear) -> Tensor:
    """A product through singular values, added in place. Its tensors are no leaves: autocast casts them at every use.

    Over four bits peft clones the linear's result, over eight it adds out of place; over both, autocast casts the input.
    """
    n, fan_in, fan_out, rank = block.n, module.in_features, module.out_features, block.n.dials["init_r"]
    y = plain_product(block, x, module)
    result_item, bits = block.items[y], n.quant in BITSANDBYTES
    if n.four_bit:
        y = block.op((y,), fan_out, result_item)
    wide = inner = x if bits and n.autocast else block.cast(x, fan_in, n.adapter)
    if n.dropout:
        inner = block.op((inner,), fan_in, block.items[inner], keeps=n.tokens * fan_in)
    item = n.autocast or n.adapter
    inner = block.cast(inner, fan_in, item)
    copies = rank * item if n.autocast else 0
    down = block.op(
        (inner,),
        rank,
        item,
        saves=(inner,),
        keeps=rank * fan_in * (item if n.autocast else n.adapter),
        weight_gradient=rank * (fan_in + 1) * n.adapter,
    )
    up = block.op((down,), fan_out, item, saves=(down,), keeps=copies * fan_out, weight_gradient=rank * fan_out * n.adapter)
    if bits and not n.autocast:
        up = block.cast(up, fan_out, result_item)
    up = block.op((up,), fan_out, block.items[up])
    up = block.op((up,), fan_out, FP32)
    if bits and not n.four_bit:
        return block.summed(y, up, fan_out, holds=(x, wide))
    in_place = -n.tokens * fan_out * result_item
    return block.op((y, up), fan_out, result_item, scratch=in_place, passes=result_item == FP32, holds=(x, wide))


def vera(block: Block, x: Tensor, module: Linear) -> Tensor:
    """Two frozen projections with a learned scale behind each. Backward needs what each scale was applied to."""
    n, fan_in, fan_out, rank = block.n, module.in_features, module.out_features, block.n.dials.rank
    y = plain_product(block, x, module)
    result_item = block.items[y]
    if n.quant in BITSANDBYTES:
        y = block.op((y,), fan_out, result_item)
    wide = inner = block.cast(x, fan_in, n.adapter)
    if n.dropout:
        inner = block.op((inner,), fan_in, block.items[inner], keeps=n.tokens * fan_in)
    item = n.autocast or n.adapter
    copied = item if n.resting != item else 0
    inner = block.cast(inner, fan_in, item)
    down = block.op((inner,), rank, item, keeps=rank * fan_in * copied)
    scaled = _scaled(block, down, rank)
    up = block.op((block.cast(scaled, rank, item),), fan_out, item, keeps=rank * fan_out * copied)
    total = block.summed(y, _scaled(block, up, fan_out), fan_out, holds=(x, wide))
    return block.cast(block.cast(total, fan_out, result_item), fan_out, block.items[x])


def _scaled(block: Block, x: Tensor, features: int) -> Tensor:
    """A learned number for each feature times `x`, in the numbers' dtype."""
    n = block.n
    both = _product_gradients(block, x, features, n.adapter)
    weight = features * n.adapter
    return block.op((x,), features, n.adapter, saves=(x,), weight_gradient=weight, backward_scratch=both)
