"""One block of a decoder or an encoder, written onto a tape operation by operation.

Each function follows the module of the same name in transformers (`modeling_llama.py` and its kin) and peft
(`tuners/lora/layer.py`, `bnb.py`), in the order of their lines: that order decides what is alive together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from catalogs.architectures import Architecture, Linear, Role
from planner.estimators.memory.numerics import Numerics
from planner.estimators.memory.tape import Tape, Tensor
from planner.precision import BITSANDBYTES

FP32 = 4
STATISTIC_BYTES = 4  # derived: one fp32 figure per token: a reciprocal root mean square, a log-sum-exp


class Block:
    """A block being written: the tape, and the item size of every tensor on it."""

    def __init__(self, architecture: Architecture, numerics: Numerics) -> None:
        self.architecture = architecture
        self.n = numerics
        self.tape = Tape()
        self.items: dict[Tensor, int] = {}
        self.plain_attributes: set[Tensor] = set()  # kept where checkpointing can't drop them
        self.by_role: dict[Role, list[Linear]] = {}
        for linear in architecture.linears:
            self.by_role.setdefault(linear.role, []).append(linear)

    def source(self, features: int, item: int) -> Tensor:
        tensor = self.tape.tensor(self.n.tokens * features * item)
        self.items[tensor] = item
        return tensor

    def op(self, inputs: tuple[Tensor, ...], features: float, item: int, **lifetimes: object) -> Tensor:
        output = self.tape.op(inputs, self.n.tokens * features * item, **lifetimes)  # type: ignore[arg-type]
        self.items[output] = item
        return output

    def split(self, x: Tensor, features: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Views of `x`, cut along its features."""
        parts = self.tape.split(x, tuple(self.n.tokens * width * self.items[x] for width in features))
        self.items.update(dict.fromkeys(parts, self.items[x]))
        return parts

    def cast(self, x: Tensor, features: float, item: int) -> Tensor:
        """`x.to(dtype)`: nothing when it has that item size already."""
        return x if self.items[x] == item else self.op((x,), features, item)


class BlockTape(NamedTuple):
    """A block written down."""

    tape: Tape
    source: Tensor  # the hidden state that comes in
    attribute_bytes: int  # kept as plain attributes: a non-re-entrant checkpoint keeps them for every block


def record_block(architecture: Architecture, numerics: Numerics) -> BlockTape:
    """Write one block."""
    block = Block(architecture, numerics)
    x = block.source(architecture.hidden_size, numerics.residual)
    LAYOUTS[architecture.layout](block, x)
    kept = sum(block.tape.sizes[tensor] for tensor in block.plain_attributes if tensor != x)
    return BlockTape(block.tape, x, kept)


# ── layouts: where norms and residuals stand ───────────────────────────────────────────────────────────────────────────


def _pre(block: Block, x: Tensor) -> Tensor:
    """Llama, GPT-2: x + f(norm(x)), twice."""
    h = block.architecture.hidden_size
    middle = _residual(block, x, attention(block, norm(block, x, h)))
    return _residual(block, middle, feed_forward(block, norm(block, middle, h)))


def _sandwich(block: Block, x: Tensor) -> Tensor:
    """Gemma 2 and 3: x + norm(f(norm(x))), twice."""
    h = block.architecture.hidden_size
    middle = _residual(block, x, norm(block, attention(block, norm(block, x, h)), h))
    return _residual(block, middle, norm(block, feed_forward(block, norm(block, middle, h)), h))


def _after_sublayer(block: Block, x: Tensor) -> Tensor:
    """OLMo 2: x + norm(f(x)), twice."""
    h = block.architecture.hidden_size
    middle = _residual(block, x, norm(block, attention(block, x), h))
    return _residual(block, middle, norm(block, feed_forward(block, middle), h))


def _post(block: Block, x: Tensor) -> Tensor:
    """BERT: norm(x + f(x)), twice."""
    h = block.architecture.hidden_size
    middle = norm(block, _residual(block, x, attention(block, x)), h)
    return norm(block, _residual(block, middle, feed_forward(block, middle)), h)


def _parallel(block: Block, x: Tensor) -> Tensor:
    """GPT-NeoX: x + attention(norm(x)) + mlp(norm(x))."""
    h = block.architecture.hidden_size
    attended = attention(block, norm(block, x, h))
    return _residual(block, x, _residual(block, attended, feed_forward(block, norm(block, x, h))))


LAYOUTS = {"pre": _pre, "sandwich": _sandwich, "after_sublayer": _after_sublayer, "post": _post, "parallel": _parallel}


def _residual(block: Block, x: Tensor, branch: Tensor) -> Tensor:
    """X + branch, after the branch's multiplier (Granite). The gradient goes on to both as it is, unless dtypes differ."""
    h = block.architecture.hidden_size
    if block.architecture.scaled_residual:
        branch = block.op((branch,), h, block.items[branch])
    item = max(block.items[x], block.items[branch])
    return block.op((x, branch), h, item, passes=block.items[x] == block.items[branch])


# ── norms ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def norm(block: Block, x: Tensor, features: float) -> Tensor:
    """A norm over `features` per token, as the architecture's module or a fused kernel computes it."""
    n, kind = block.n, block.architecture.norm
    item = block.items[x]
    statistic = n.tokens * STATISTIC_BYTES
    weight = features * n.norm_weight if n.trains_norms else 0
    if kind == "layer":
        # autocast runs layer_norm in fp32
        x = block.cast(x, features, FP32) if n.autocast else x
        return block.op((x,), features, block.items[x], saves=(x,), keeps=2 * statistic, weight_gradient=2 * weight)
    if "norm" in n.fused:
        return block.op((x,), features, max(item, n.norm_weight), saves=(x,), keeps=statistic, weight_gradient=weight)
    wide = block.cast(x, features, FP32)
    scaled = block.op((wide,), features, FP32, saves=(wide,), keeps=statistic, backward_scratch=n.tokens * features * FP32)
    if kind == "rms_fp32":
        return block.cast(_weighted(block, scaled, features, FP32, weight), features, item)
    narrow = block.cast(scaled, features, item)
    return _weighted(block, narrow, features, max(item, n.norm_weight), weight)


def _weighted(block: Block, x: Tensor, features: float, item: int, weight_gradient: float) -> Tensor:
    """x·weight. A trained weight keeps x, and its gradient is a product of full size before it is summed over tokens."""
    if not block.n.trains_norms:
        return block.op((x,), features, item)
    product = block.n.tokens * features * item
    return block.op((x,), features, item, saves=(x,), backward_scratch=product, weight_gradient=weight_gradient)


# ── linears and their adapters ─────────────────────────────────────────────────────────────────────────────────────────


def linear(block: Block, x: Tensor, module: Linear) -> Tensor:
    """A linear with whatever the method hangs on it."""
    if module.name in block.n.scales:
        return _scaled(block, x, module)
    y = plain_product(block, x, module)
    if module.name not in block.n.adapted:
        return y
    return _fused_lora(block, x, y, module) if "lora" in block.n.fused else _lora(block, x, y, module)


def plain_product(block: Block, x: Tensor, module: Linear) -> Tensor:
    """The frozen or trained product. A frozen weight needs no input in backward, a trained one does."""
    n = block.n
    item = n.product(block.items[x])
    keeps = 0
    saves: tuple[Tensor, ...] = ()
    if n.quant == "int8":
        saves = (x,)
        block.plain_attributes.add(x)  # MatMul8bitLt keeps its input on ctx, outside save_for_backward
    compute = item if n.quant in BITSANDBYTES else (n.autocast or n.weight)
    operand = block.cast(x, module.in_features, compute) if n.quant not in BITSANDBYTES else x
    if n.trains_linears:
        saves = (operand,)
    if n.autocast and n.weight != n.autocast and n.quant == "none" and not n.trains_linears:
        keeps = module.num_weights * n.autocast  # a frozen fp32 weight is cast anew, and backward needs the copy
    gradient = (module.num_params if n.trains_linears else 0) + (
        module.out_features if n.trains_biases and not n.trains_linears and module.bias else 0
    )
    scratch, backward_scratch = _kernel_scratch(block, module, item)
    return block.op(
        (operand,),
        module.out_features,
        item,
        saves=saves,
        keeps=keeps,
        scratch=scratch,
        backward_scratch=backward_scratch,
        weight_gradient=gradient * n.weight,
    )


def _kernel_scratch(block: Block, module: Linear, item: int) -> tuple[int, int]:
    """What a quantized product takes beside its output, forward and backward. derived: bitsandbytes' autograd functions.

    One weight at a time is unpacked. Four bits compute in 16 bits and cast back where the input is fp32. LLM.int8 casts
    its input to fp16 and to bytes, sums in int32, and unpacks to the input's dtype for backward.
    """
    n = block.n
    if n.quant == "none":
        return 0, 0
    if n.quant == "int8":
        forward = n.tokens * (module.in_features * (2 + 1) + module.out_features * FP32)
        return forward, module.num_weights * item
    cast = n.tokens * (module.in_features + module.out_features) * 2 if n.four_bit and item == FP32 else 0
    return module.num_weights * 2 + cast, module.num_weights * 2 + cast


def _lora(block: Block, x: Tensor, y: Tensor, module: Linear) -> Tensor:
    """The sum y + B(A(dropout(x)))·scale as peft writes it: casts, mask, and an fp32 detour where there is no autocast."""
    n, fan_in, fan_out = block.n, module.in_features, module.out_features
    result_item = block.items[y]
    bits = n.quant in BITSANDBYTES
    if bits:
        y = block.op((y,), fan_out, result_item)  # peft clones the result of a bitsandbytes layer
    inner = x if bits and n.autocast else block.cast(x, fan_in, n.adapter)
    if n.dropout:
        inner = block.op((inner,), fan_in, block.items[inner], keeps=n.tokens * fan_in)  # a one-byte mask
    item = n.autocast or n.adapter
    inner = block.cast(inner, fan_in, item)
    down = block.op((inner,), n.rank, item, saves=(inner,), weight_gradient=n.rank * fan_in * n.adapter)
    up = block.op((down,), fan_out, item, saves=(down,), weight_gradient=n.rank * fan_out * n.adapter)
    up = block.op((up,), fan_out, item)
    if bits and not n.autocast:
        up = block.cast(up, fan_out, result_item)
    same = block.items[y] == block.items[up]
    total = block.op((y, up), fan_out, max(block.items[y], block.items[up]), passes=same)
    return total if bits else block.cast(total, fan_out, result_item)


def _fused_lora(block: Block, x: Tensor, y: Tensor, module: Linear) -> Tensor:
    """Unsloth's fused product: the 16-bit input is kept once, the low-rank product is made again in backward."""
    n = block.n
    dropped = n.tokens * module.in_features * block.items[x] if n.dropout else 0
    gradient = n.rank * (module.in_features + module.out_features) * n.adapter
    return block.op((y,), module.out_features, block.items[y], saves=(x,), keeps=dropped, passes=True, weight_gradient=gradient)


def _scaled(block: Block, x: Tensor, module: Linear) -> Tensor:
    """IA3 (arXiv:2205.05638): a learned vector on a feed-forward module's input, on any other module's output.

    peft scales in the vector's dtype and casts back; the product keeps what it scales.
    """
    n = block.n
    gradient = (module.in_features if module.role == "down" else module.out_features) * n.adapter
    if module.role == "down":
        item = block.items[x]
        wide = block.op((x,), module.in_features, max(item, n.adapter), saves=(x,), weight_gradient=gradient)
        return plain_product(block, block.cast(wide, module.in_features, item), module)
    y = plain_product(block, x, module)
    item = block.items[y]
    wide = block.op((y,), module.out_features, max(item, n.adapter), saves=(y,), weight_gradient=gradient)
    return block.cast(wide, module.out_features, item)


# ── attention ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def attention(block: Block, x: Tensor) -> Tensor:
    """Projections, positions, the kernel, the output projection and its dropout."""
    a = block.architecture
    query, key, value = _projections(block, x)
    if a.qk_norm != "none":
        query, key = norm(block, query, a.query_size), norm(block, key, a.kv_size)
    if a.rotary:
        query, key = _rotary(block, query, a.query_size), _rotary(block, key, a.kv_size)
    attended = KERNELS[block.n.attention](block, query, key, value)
    if a.joined_rotary and block.n.attention != "eager":
        attended = block.op((attended,), a.query_size, block.items[attended])  # joined heads lie outermost: a true copy
    result = linear(block, attended, block.by_role["output"][0])
    return dropout(block, result, a.hidden_size, a.hidden_dropout)


def _projections(block: Block, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys, values: three products, or one whose output is cut into views."""
    if "qkv" not in block.by_role:
        query, key, value = (linear(block, x, block.by_role[role][0]) for role in ("query", "key", "value"))
        return query, key, value
    a = block.architecture
    query, key, value = block.split(linear(block, x, block.by_role["qkv"][0]), (a.query_size, a.kv_size, a.kv_size))
    return query, key, value


def _rotary(block: Block, x: Tensor, features: int) -> Tensor:
    """Rotated: x·cos + rotate_half(x)·sin: cos and sin need no gradient, so nothing is saved."""
    if "rope" in block.n.fused:
        return block.op((x,), features, block.items[x], backward_scratch=0)
    one = block.n.tokens * features * block.items[x]
    return block.op((x,), features, block.items[x], scratch=2 * one, backward_scratch=2 * one)


def _repeated(block: Block, x: Tensor) -> Tensor:
    """Keys or values, one copy for each query head of the group."""
    if not block.n.repeats_kv:
        return x
    return block.op((x,), block.architecture.query_size, block.items[x])


def _fused_attention(block: Block, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Flash and memory-efficient kernels keep q, k, v, the output and a log-sum-exp per head."""
    n, a = block.n, block.architecture
    half = 2 if n.attention == "flash" else (n.autocast or block.items[query])
    query, key, value = (
        block.cast(tensor, features, half) for tensor, features in ((query, a.query_size), (key, a.kv_size), (value, a.kv_size))
    )
    key, value = _repeated(block, key), _repeated(block, value)
    return block.op(
        tuple(dict.fromkeys((query, key, value))),
        a.query_size,
        half,
        saves=(query, key, value),
        saves_output=True,
        keeps=n.tokens * a.num_heads * STATISTIC_BYTES + _mask_bytes(block, half),
        backward_scratch=_attention_scratch(block, half),
    )


def _mask_bytes(block: Block, item: int) -> int:
    """A padding mask becomes an additive bias in the query's dtype, made anew for each block."""
    return block.n.tokens * block.n.seq_len * item if block.n.padded and block.n.attention == "efficient" else 0


def _attention_scratch(block: Block, item: int) -> int:
    """derived: flash backward accumulates dq in fp32, and dk, dv for all query heads before they are summed to groups."""
    n, a = block.n, block.architecture
    if n.attention == "efficient":
        return n.tokens * a.num_heads * STATISTIC_BYTES
    expanded = 2 * a.query_size * item if a.num_kv_heads != a.num_heads and not n.repeats_kv else 0
    return n.tokens * (a.query_size * FP32 + a.num_heads * STATISTIC_BYTES + expanded)


def _eager_attention(block: Block, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scores of every pair of tokens, softmax in fp32, cast back, weighted sum."""
    n, a = block.n, block.architecture
    key, value = _repeated(block, key), _repeated(block, value)
    item, pairs = n.autocast or block.items[query], a.num_heads * n.seq_len
    query, key = block.cast(query, a.query_size, item), block.cast(key, a.query_size, item)
    scores = block.op(tuple(dict.fromkeys((query, key))), pairs, item, saves=(query, key))
    scores = block.op((scores,), pairs, item)
    if a.attention_softcap:
        scores = block.op((scores,), pairs, item)
        scores = block.op((scores,), pairs, item, saves_output=True)
        scores = block.op((scores,), pairs, item)
    if a.kind == "decoder" or n.padded:
        scores = block.op((scores,), pairs, item, passes=True)
    # torch converts bf16 first, only fp16 goes straight to an fp32 result; the frame still holds the 16-bit scores
    wide = scores if n.float16 else block.cast(scores, pairs, FP32)
    held = () if wide == scores else (scores,)
    # derived: torch's softmax_backward on CUDA multiplies gradient and output into a tensor of its own (SoftMax.cu)
    product = n.tokens * pairs * FP32
    weights = block.op((wide, *held), pairs, FP32, grads=(wide,), saves_output=True, backward_scratch=product)
    weights = dropout(block, block.cast(weights, pairs, block.items[value]), pairs, a.attention_dropout)
    return block.op((weights, value), a.query_size, block.items[value], saves=(weights, value))


KERNELS = {"flash": _fused_attention, "efficient": _fused_attention, "cpu": _fused_attention, "eager": _eager_attention}


# ── feed-forward ───────────────────────────────────────────────────────────────────────────────────────────────────────


def feed_forward(block: Block, x: Tensor) -> Tensor:
    """The MLP of a block: dense, experts, or both side by side."""
    a = block.architecture
    dense = _gated_mlp if a.gated_mlp else _plain_mlp
    if not a.num_experts:
        return dropout(block, dense(block, x), a.hidden_size, a.hidden_dropout)
    routed = _experts(block, x)
    if "down" not in block.by_role:
        return routed
    shared = dense(block, x)
    return block.op((routed, shared), a.hidden_size, block.items[routed], passes=True)


def _gated_mlp(block: Block, x: Tensor) -> Tensor:
    """down(act(gate(x))·up(x)). The product keeps both factors, the activation its input."""
    down = block.by_role["down"][0]
    width = down.in_features
    if "gate_up" in block.by_role:
        gate, up = block.split(linear(block, x, block.by_role["gate_up"][0]), (width, width))
        inner = _gated(block, gate, lambda: up, width)
    else:
        gate = linear(block, x, block.by_role["gate"][0])
        inner = _gated(block, gate, lambda: linear(block, x, block.by_role["up"][0]), width)
    return linear(block, inner, down)


def _gated(block: Block, gate: Tensor, make_up: Callable[[], Tensor], width: int) -> Tensor:
    """act(gate)·up, where up is made after the activation, as the module's line is evaluated."""
    if "mlp" in block.n.fused:
        up = make_up()
        overwritten = -block.n.tokens * width * (block.items[gate] + block.items[up])  # gradients lie where gate and up lay
        return block.op((gate, up), width, block.items[gate], saves=(gate, up), backward_scratch=overwritten)
    activated = activation(block, gate, width)
    up = make_up()
    return block.op((activated, up), width, block.items[up], saves=(activated, up))


def _plain_mlp(block: Block, x: Tensor) -> Tensor:
    """down(act(up(x)))."""
    up, down = block.by_role["up"][0], block.by_role["down"][0]
    return linear(block, activation(block, linear(block, x, up), up.out_features), down)


def activation(block: Block, x: Tensor, width: int) -> Tensor:
    """Of silu and gelu the input is kept, of relu the output; GPT-2's gelu_new is written out."""
    item = block.items[x]
    match block.architecture.activation:
        case "relu":
            return block.op((x,), width, item, saves_output=True)
        case "gelu_new":
            return _gelu_new(block, x, width)
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
    uncast = block.n.tokens * width * wider if item != block.items[bent] else 0  # a gradient before it is cast down
    return block.op((half, bent), width, wider, saves=(half, bent), backward_scratch=uncast)


def _experts(block: Block, x: Tensor) -> Tensor:
    """Grouped products over the routed copies of each token (transformers' `grouped_mm` path); the router is negligible."""
    a, n = block.architecture, block.n
    copies, width, item = a.experts_per_token, a.intermediate_size, n.autocast or n.weight
    per_block = a.expert_params_per_block * n.weight if n.trains_linears else 0
    gathered = block.op((x,), copies * a.hidden_size, item)
    both = block.op(
        (gathered,), copies * 2 * width, item, saves=(gathered,) if n.trains_linears else (), weight_gradient=per_block * 2 / 3
    )
    activated = block.op((both,), copies * width, item, saves=(both,))
    inner = block.op((activated, both), copies * width, item, saves=(activated,))
    out = block.op(
        (inner,), copies * a.hidden_size, item, saves=(inner,) if n.trains_linears else (), weight_gradient=per_block / 3
    )
    weighted = block.op((out,), copies * a.hidden_size, item, saves=(out,))
    return block.op((weighted,), a.hidden_size, block.items[x])


def dropout(block: Block, x: Tensor, features: float, share: float) -> Tensor:
    """CUDA's dropout keeps a one-byte mask."""
    if not share:
        return x
    return block.op((x,), features, block.items[x], keeps=block.n.tokens * features)
