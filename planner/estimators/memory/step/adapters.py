"""A linear with what a method hangs on it, by the kind of adapter.

Each function follows the lines of peft's module (0.21, `tuners/*/layer.py`, `bnb.py`), in their order. Where an update has
the size of the weight (`_loha`, `_lokr`, `_fourierft`) or of its input squared (`_dora`, `_boft`), it is a tensor of the tape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from catalogs.bases.architectures import Linear
from planner.estimators.memory.step.operations import FP32, Block, plain_product
from planner.estimators.memory.step.tape import Tensor
from planner.methods import Kind
from planner.methods.adapters import boft_blocks, is_factored, kronecker_factors, oft_blocks
from planner.strategy.precision import BITSANDBYTES, is_packed

KEEPS_OUTPUT: Final = frozenset({"relu", "tanh"})  # derived: by their formulas in torch's derivatives.yaml
COMPLEX64: Final = 8  # derived: bytes of two fp32 numbers


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
        return _bottleneck(block, plain_product(block, x, module), module.out_features)
    if kind is None or module.name not in block.n.adapted:
        return plain_product(block, x, module)
    return ADAPTED[kind](block, x, module)


def _bottleneck(block: Block, y: Tensor, features: int) -> Tensor:
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


# ── a product beside the linear's own ──────────────────────────────────────────────────────────────────────────────────


def _lora_beside(block: Block, x: Tensor, module: Linear) -> Tensor:
    y = plain_product(block, x, module)
    return _fused_lora(block, x, y, module) if "lora" in block.n.fused else _lora(block, x, y, module)


def _lora(block: Block, x: Tensor, y: Tensor, module: Linear) -> Tensor:
    """The sum y + B(A(dropout(x)))·scale as peft writes it: casts, mask, and an fp32 detour where there is no autocast."""
    n, fan_in, fan_out = block.n, module.in_features, module.out_features
    result_item = block.items[y]
    bits = n.quant in BITSANDBYTES
    if bits:
        y = block.op((y,), fan_out, result_item)  # peft clones the result of a bitsandbytes layer
    wide = inner = x if bits and n.autocast else block.cast(x, fan_in, n.adapter)
    if n.dropout:
        inner = block.op((inner,), fan_in, block.items[inner], keeps=n.tokens * fan_in)  # a one-byte mask
    item = n.autocast or n.adapter
    inner = block.cast(inner, fan_in, item)
    down = _down(block, inner, fan_in, item)
    up = block.op((down,), fan_out, item, saves=(down,), weight_gradient=n.dials.rank * fan_out * n.adapter)
    up = block.op((up,), fan_out, item)
    if bits and not n.autocast:
        up = block.cast(up, fan_out, result_item)
    total = block.summed(y, up, fan_out, holds=(x, wide))
    return total if bits else block.cast(total, fan_out, result_item)


def _down(block: Block, inner: Tensor, fan_in: int, item: int) -> Tensor:
    """The product with LoRA's A. One that stays as it was drawn needs no input in backward, but autocast's copy of itself."""
    n, entries = block.n, block.n.dials.rank * fan_in
    if n.dials.first_stays:
        return block.op((inner,), n.dials.rank, item, keeps=entries * item if item != n.adapter else 0)
    return block.op((inner,), n.dials.rank, item, saves=(inner,), weight_gradient=entries * n.adapter)


def _fused_lora(block: Block, x: Tensor, y: Tensor, module: Linear) -> Tensor:
    """Unsloth's fused product: the 16-bit input is kept once, the low-rank product is made again in backward."""
    n = block.n
    dropped = n.tokens * module.in_features * block.items[x] if n.dropout else 0
    gradient = n.dials.rank * (module.in_features + module.out_features) * n.adapter
    return block.op((y,), module.out_features, block.items[y], saves=(x,), keeps=dropped, passes=True, weight_gradient=gradient)


def _dora(block: Block, x: Tensor, module: Linear) -> Tensor:
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
    whole = n.tokens * fan_out * item  # of a magnitude's gradient, before it is summed over tokens
    scaled_base = block.op(
        (base,), fan_out, item, saves=(base,), scratch=held, backward_scratch=whole, weight_gradient=fan_out * n.adapter
    )
    scaled = block.op((up,), fan_out, item, saves=(up,), scratch=held, backward_scratch=whole)
    scaled = block.op((scaled,), fan_out, item, scratch=held)
    change = block.op((scaled_base, scaled), fan_out, item, scratch=held, passes=True, holds=(x, inner))
    total = block.summed(y, change, fan_out, holds=(undropped,))
    return total if bits and n.autocast else block.cast(total, fan_out, result_item)


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


def _adalora(block: Block, x: Tensor, module: Linear) -> Tensor:
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


def _vera(block: Block, x: Tensor, module: Linear) -> Tensor:
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
    """A learned number for each feature times `x`, in the numbers' dtype. derived: mul's backward makes both gradients in it
    and for every token; then that of the numbers is summed, and that of `x` cast.
    """
    n = block.n
    both = n.tokens * features * (2 * n.adapter - block.items[x])
    weight = features * n.adapter
    return block.op((x,), features, n.adapter, saves=(x,), weight_gradient=weight, backward_scratch=both)


# ── an update as large as the weight ───────────────────────────────────────────────────────────────────────────────────


def _loha(block: Block, x: Tensor, module: Linear) -> Tensor:
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


def _lokr(block: Block, x: Tensor, module: Linear) -> Tensor:
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


def _fourierft(block: Block, x: Tensor, module: Linear) -> Tensor:
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


# ── a rotation of the input ────────────────────────────────────────────────────────────────────────────────────────────


def _oft(block: Block, x: Tensor, module: Linear) -> Tensor:
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


def _boft(block: Block, x: Tensor, module: Linear) -> Tensor:
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


# ── a factor ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _ia3(block: Block, x: Tensor, module: Linear) -> Tensor:
    """IA3 (arXiv:2205.05638): a learned vector on a feed-forward module's input, on any other module's output.

    peft scales in the vector's dtype and casts back, but for a bitsandbytes layer under autocast; the product keeps what
    it scales.
    """
    n = block.n
    bits = n.quant in BITSANDBYTES
    before = block.items[x]
    if bits and not n.autocast:
        x = block.cast(x, module.in_features, FP32)
    if module.role == "down":
        scaled = _factor(block, x if bits else block.cast(x, module.in_features, n.adapter), module.in_features)
        y = plain_product(block, scaled if bits else block.cast(scaled, module.in_features, before), module)
        return block.op((y,), module.out_features, block.items[y]) if bits else y
    y = plain_product(block, x, module)
    item = block.items[y]
    scaled = _factor(block, y, module.out_features)
    if not bits:
        return block.cast(scaled, module.out_features, item)
    scaled = block.op((scaled,), module.out_features, block.items[scaled])
    return scaled if n.autocast else block.cast(scaled, module.out_features, item)


def _factor(block: Block, x: Tensor, features: int) -> Tensor:
    """A learned factor per feature. Its gradient is a product of full size before it is summed over tokens."""
    n = block.n
    item = max(block.items[x], n.adapter)
    whole = n.tokens * features * item
    return block.op((x,), features, item, saves=(x,), weight_gradient=features * n.adapter, backward_scratch=whole)


ADAPTED: Final[dict[Kind, Callable[[Block, Tensor, Linear], Tensor]]] = {
    "lora": _lora_beside,
    "dora": _dora,
    "adalora": _adalora,
    "vera": _vera,
    "loha": _loha,
    "lokr": _lokr,
    "fourierft": _fourierft,
    "oft": _oft,
    "boft": _boft,
    "ia3": _ia3,
}
