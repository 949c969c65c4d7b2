"""The operations that a block is made of: norms, linears, activations, dropout.

Each function follows the lines of transformers' modules, in their order.
"""

from __future__ import annotations

from copy import copy
from typing import Any, Final

from msgspec.structs import replace

from catalogs.bases.architectures import Architecture, Linear, Role
from planner.estimators.memory.step.numerics import Numerics
from planner.estimators.memory.step.tape import Tape, Tensor
from planner.strategy.precision import BITSANDBYTES, BNB_BLOCK, quantization_of

FP32 = 4
STATISTIC_BYTES = 4  # derived: one fp32 figure per token: a reciprocal root mean square, a log-sum-exp


class Block:
    """A block being written: the tape, and the item size of every tensor on it."""

    def __init__(self, architecture: Architecture, numerics: Numerics) -> None:
        self.architecture = architecture
        self.n = numerics
        self.tape = Tape()
        self.items: dict[Tensor, int] = {}
        self.last_weights: Tensor | None = None  # of attention, that a module handed back to the block
        self.inner: Tensor | None = None  # what came into the last linear of a plain MLP
        self.mixer_locals: list[Tensor] = []  # of the module that mixes tokens: alive until it returns
        self.block_locals: list[Tensor] = []  # of the block itself
        self.times = 1  # linears of each name that compute side by side: experts
        self.counted = False  # whether gradients of the weights that are used here are counted where they are used first
        self.flat = False  # whether linears are given a matrix of tokens: a gradient is then no view of the product
        self.by_role: dict[Role, list[Linear]] = {}
        for linear in architecture.linears:
            self.by_role.setdefault(linear.role, []).append(linear)

    def with_kept(self) -> Block:
        """The same block being written, where linears are such as the quantization leaves."""
        block = copy(self)
        block.n = replace(self.n, quant="none", four_bit=False, weight=self.n.kept_weight)
        return block

    def of_experts(self) -> Block:
        """The same block being written, where each token goes to some experts, all of which meet some tokens."""
        block = copy(self)
        block.times, block.flat = self.architecture.num_experts, True
        batch = replace(self.n.batch, tokens=self.n.tokens * self.architecture.experts_per_token)
        block.n = replace(self.n, batch=batch)
        return block

    def of_positions(self) -> Block:
        """The same block being written, where its weights meet relative positions after the tokens (DeBERTa)."""
        block = copy(self)
        block.counted = True
        block.n = replace(self.n, batch=replace(self.n.batch, tokens=self.architecture.relative_span))
        return block

    def source(self, features: int, item: int) -> Tensor:
        tensor = self.tape.tensor(self.n.tokens * features * item)
        self.items[tensor] = item
        return tensor

    def op(
        self,
        inputs: tuple[Tensor, ...],
        features: int,
        item: int,
        *,
        tokens: int | None = None,
        holds: tuple[Tensor, ...] = (),
        **lifetimes: object,
    ) -> Tensor:
        """An operation on tokens, or on so many. `holds`: tensors that Python frames keep alive until it is done."""
        if held := tuple(tensor for tensor in dict.fromkeys(holds) if tensor not in inputs):
            lifetimes = {"grads": inputs} | lifetimes
        if self.flat:
            lifetimes |= {"views": False}
        if self.counted:
            lifetimes |= {"weight_gradient": 0}
        num_bytes = (self.n.tokens if tokens is None else tokens) * features * item
        if self.times > 1:
            lifetimes |= {"weight_gradient": self.times * lifetimes.get("weight_gradient", 0)}  # type: ignore[operator]
        output = self.tape.op((*inputs, *held), num_bytes, **lifetimes)  # type: ignore[arg-type]
        self.items[output] = item
        return output

    def matrix(self, inputs: tuple[Tensor, ...], entries: int, item: int, **lifetimes: object) -> Tensor:
        """An operation on weights, whose size follows from no token. Its gradient is made where the next one is."""
        if self.counted:
            lifetimes |= {"weight_gradient": 0}
        if self.times > 1:
            lifetimes |= {name: self.times * lifetimes.get(name, 0) for name in ("keeps", "weight_gradient")}  # type: ignore[operator]
        output = self.tape.op(inputs, self.times * entries * item, **lifetimes)  # type: ignore[arg-type]
        self.items[output] = item
        return output

    def times_copy(self, x: Tensor, features: int, item: int, *, entries: int, **lifetimes: Any) -> Tensor:
        """The product of `x` with a copy of a weight in the dtype of the product, as autocast makes it; backward needs it.
        Of a weight that trains, the gradient of the copy is made first, then cast to that of the weight.
        """
        gradient = lifetimes.pop("weight_gradient", 0)
        copy = self.matrix((), entries, item, grads=(), weight_gradient=gradient)
        saves = (*lifetimes.pop("saves", ()), copy)
        grads = (x, copy) if gradient else (x,)
        return self.op((x, copy), features, item, saves=saves, grads=grads, views=True, **lifetimes)

    def split(self, x: Tensor, features: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Views of `x`, cut along its features."""
        parts = self.tape.split(x, tuple(self.n.tokens * width * self.items[x] for width in features))
        self.items.update(dict.fromkeys(parts, self.items[x]))
        return parts

    def summed(self, x: Tensor, y: Tensor, features: int, *, holds: tuple[Tensor, ...] = ()) -> Tensor:
        """The sum of two, in the wider dtype. The gradient goes on to both as it is, cast for the one that is narrower."""
        item = max(self.items[x], self.items[y])
        both = tuple(self._widened(each, features, item) for each in (x, y))
        return self.op(both, features, item, passes=True, holds=holds)

    def _widened(self, x: Tensor, features: int, item: int) -> Tensor:
        """`x` as a sum of wider numbers takes it: no copy, but its gradient comes wide."""
        if self.items[x] == item:
            return x
        (view,) = self.tape.split(x, (self.n.tokens * features * item,))
        self.items[view] = item
        return view

    def uncast(self, features: int, one: int, other: int) -> int:
        """Bytes that the gradients of two factors of these item sizes take more while the narrower one's, made in the wider
        dtype, is cast. By then what was saved is gone where hooks of a checkpoint had it, and as much more fits.
        """
        narrow, wide = sorted((one, other))
        if narrow == wide:
            return 0
        return self.n.tokens * features * (wide - narrow if self.n.gives_up_early else wide)

    def cast(self, x: Tensor, features: int, item: int, *, tokens: int | None = None) -> Tensor:
        """`x.to(dtype)`: nothing when it has that item size already."""
        return x if self.items[x] == item else self.op((x,), features, item, tokens=tokens)


# ── norms ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def norm(block: Block, x: Tensor, features: int) -> Tensor:
    """A norm over `features` per token, as the architecture's module or a fused kernel computes it."""
    normed = _norm(block, x, features)
    block.tape.hold(x)
    return normed


def _norm(block: Block, x: Tensor, features: int) -> Tensor:
    n, kind = block.n, block.architecture.norm
    item = block.items[x]
    statistic = n.tokens * STATISTIC_BYTES
    weight = features * n.norm_weight if n.trains_norms else 0
    bias = features * n.norm_weight if n.trains_norms or (n.trains_biases and not n.trains_linears) else 0
    if kind == "layer":
        # autocast runs layer_norm in fp32
        x = block.cast(x, features, FP32) if n.autocast else x
        return block.op((x,), features, block.items[x], saves=(x,), keeps=2 * statistic, weight_gradient=weight + bias)
    if "norm" in n.fused:
        return block.op((x,), features, max(item, n.norm_weight), saves=(x,), keeps=statistic, weight_gradient=weight)
    wide = block.cast(x, features, FP32)
    # derived: in pow_backward of torch's FunctionsManual.cpp the power, its multiple and their product with what mean's
    # backward has spread out are there at once, beside the gradient of the scaled state; the one that came in is gone by then
    whole = n.tokens * features * FP32
    if kind == "rms_t5":  # the variance is that of an fp32 copy, and what is scaled is x itself: both are kept
        scaled = block.op((x, wide), features, FP32, saves=(x, wide), keeps=statistic, backward_scratch=2 * whole)
        return _weighted(block, block.cast(scaled, features, n.norm_weight), features, n.norm_weight, weight)
    scaled = block.op((wide,), features, FP32, saves=(wide,), keeps=statistic, backward_scratch=3 * whole)
    if kind == "rms_fp32":
        return block.cast(_weighted(block, scaled, features, FP32, weight), features, item)
    narrow = block.cast(scaled, features, item)
    return _weighted(block, narrow, features, max(item, n.norm_weight), weight)


def _weighted(block: Block, x: Tensor, features: int, item: int, weight_gradient: int) -> Tensor:
    """x·weight. A trained weight keeps x, and its gradient is a product of full size before it is summed over tokens."""
    if not block.n.trains_norms:
        return block.op((x,), features, item, asks=True)
    product = block.n.tokens * features * item
    return block.op((x,), features, item, saves=(x,), backward_scratch=product, weight_gradient=weight_gradient)


# ── linears ────────────────────────────────────────────────────────────────────────────────────────────────────────────


ADDS_BIAS_APART: Final = frozenset({"falcon"})  # derived: FalconLinear.forward adds it in a line of its own


def plain_product(block: Block, x: Tensor, module: Linear) -> Tensor:
    """The frozen or trained product, and its bias where that is added to it: in the wider dtype."""
    y = _product(block, x, module)
    if block.architecture.model_type not in ADDS_BIAS_APART or not module.bias or block.n.quant != "none":
        return y
    item = max(block.items[y], block.n.weight)
    return block.op((y,), module.out_features, item, passes=item == block.items[y])


def _product(block: Block, x: Tensor, module: Linear) -> Tensor:
    """The product alone. A frozen weight needs no input in backward, a trained one does."""
    n = block.n
    item = n.product(block.items[x])
    if n.four_bit:
        return _four_bit_product(block, x, module, item)
    saves: tuple[Tensor, ...] = ()
    if n.quant == "int8":
        saves = (x,)
    compute = item if n.quant in BITSANDBYTES else (n.autocast or n.weight)
    operand = block.cast(x, module.in_features, compute) if n.quant not in BITSANDBYTES else x
    trains = n.trains_all or module.name in n.trains_linears
    if trains or (n.quant != "none" and quantization_of(n.quant).saves_input):
        saves = (operand,)
    gradient = _linear_gradient(block, module)
    features = module.out_features
    if n.copies_weights and n.weight != n.autocast and n.quant == "none":
        entries = module.num_weights
        return block.times_copy(operand, features, item, entries=entries, saves=saves, weight_gradient=gradient, asks=True)
    scratch, backward_scratch = _kernel_scratch(block, module, item)
    return block.op(
        (operand,),
        features,
        item,
        saves=saves,
        scratch=scratch,
        backward_scratch=backward_scratch,
        weight_gradient=gradient,
        views=True,
        on_node=n.quant == "int8",  # MatMul8bitLt keeps its input on ctx, outside save_for_backward
        asks=n.quant not in BITSANDBYTES,  # its functions hold their weight there, where no hook asks for it
    )


def _linear_gradient(block: Block, module: Linear) -> int:
    """Bytes of the gradients of a linear's own weight and bias, where those train."""
    n = block.n
    trains = n.trains_all or module.name in n.trains_linears
    bias_alone = n.trains_biases and not n.trains_linears and module.bias
    return ((module.num_params if trains else 0) + (module.out_features if bias_alone else 0)) * n.weight


def _four_bit_product(block: Block, x: Tensor, module: Linear, item: int) -> Tensor:
    """The product with a weight that is unpacked for it, forward in the dtype of the product, its own scales beside it;
    backward in what it was loaded in, then cast. Input and result are cast as well where they have another dtype
    (bitsandbytes' Linear4bit, `gemm_4bit` and MatMul4Bit).
    """
    n = block.n
    compute = n.autocast or n.weight
    scales = FP32 * module.num_weights // BNB_BLOCK if n.nested_scales else 0
    operand = block.cast(x, module.in_features, compute)
    product = block.op(
        (operand,),
        module.out_features,
        compute,
        scratch=module.num_weights * compute + scales,
        backward_scratch=module.num_weights * (n.weight + (compute if n.weight != compute else 0)),
        weight_gradient=_linear_gradient(block, module),
    )
    if item == compute:
        return product
    held = (operand, x)  # a local of the module's function, and its argument
    return block.op((product,), module.out_features, item, holds=held)


def _kernel_scratch(block: Block, module: Linear, item: int) -> tuple[int, int]:
    """What a quantized product takes beside its output, forward and backward. derived: bitsandbytes' autograd functions.

    One weight at a time is unpacked. LLM.int8 unpacks to the input's dtype for backward.
    """
    n = block.n
    if n.quant == "none":
        return 0, 0
    if n.quant == "int8":
        return n.tokens * _int8_scratch(module, item, float16=n.float16 and item == 2), module.num_weights * item
    row = quantization_of(n.quant)
    packed = n.tokens * module.in_features * row.packed_input
    return module.num_weights * row.unpacked_forward + packed, module.num_weights * row.unpacked_backward


def _int8_scratch(module: Linear, item: int, *, float16: bool) -> int:
    """Bytes of a token beside input and output, at the larger of two moments: the input in fp16, in bytes, in absolute values
    and where it lies out; then in bytes alone, its sums, and those in fp16 before they are cast.
    """
    narrow = 0 if float16 else 2
    quantized = module.in_features * (narrow + 1 + 2 + 1) - module.out_features * item  # nothing has come out yet
    return max(quantized, module.in_features + module.out_features * (FP32 + narrow))


# ── elementwise ────────────────────────────────────────────────────────────────────────────────────────────────────────


def activation(block: Block, x: Tensor, width: int) -> Tensor:
    """Of silu and gelu the input is kept, of relu the output; GPT-2's gelu_new and BLOOM's are written out."""
    item = block.items[x]
    match block.architecture.activation:
        case "relu":
            return block.op((x,), width, item, saves_output=True)
        case "gelu_new":
            return _gelu_new(block, x, width)
        case "gelu_bloom":
            one = block.n.tokens * width * item  # derived: what bloom_gelu_forward and bloom_gelu_back have at once
            return block.op((x,), width, item, saves=(x,), scratch=3 * one, backward_scratch=4 * one)
        case _:
            return block.op((x,), width, item, saves=(x,))


def _gelu_new(block: Block, x: Tensor, width: int) -> Tensor:
    """GELU as 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))), line by line. pow is fp32 under autocast."""
    item = block.items[x]
    half = block.op((x,), width, item)
    wide = block.cast(x, width, FP32) if block.n.autocast else x
    squares = 2 * block.n.tokens * width * block.items[wide]  # x² and 3x², before they meet the gradient
    cube = block.op((wide,), width, block.items[wide], saves=(wide,), backward_scratch=squares)
    cube = block.op((cube,), width, block.items[cube])
    inner = block.op((x, cube), width, block.items[cube], passes=block.items[x] == block.items[cube])
    inner = block.op((inner,), width, block.items[inner])
    bent = block.op((inner,), width, block.items[inner], saves_output=True)
    bent = block.op((bent,), width, block.items[bent], passes=True)
    wider = max(item, block.items[bent])
    uncast = block.uncast(width, item, block.items[bent])
    return block.op((half, bent), width, wider, saves=(half, bent), backward_scratch=uncast)


def dropout(block: Block, x: Tensor, features: int, share: float) -> Tensor:
    """CUDA's dropout keeps a one-byte mask."""
    if not share:
        return x
    return block.op((x,), features, block.items[x], keeps=block.n.tokens * features)
