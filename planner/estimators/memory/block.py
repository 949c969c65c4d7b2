"""One block of a decoder or an encoder, written onto a tape operation by operation.

Each function follows the module of the same name in transformers (`modeling_llama.py` and its kin) and peft
(`tuners/lora/layer.py`, `bnb.py`), in the order of their lines: that order decides what is alive together.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from catalogs.architectures import Architecture
from planner.estimators.memory.numerics import Numerics
from planner.estimators.memory.operations import FP32, STATISTIC_BYTES, Block, activation, dropout, linear, norm
from planner.estimators.memory.tape import Tape, Tensor


class BlockTape(msgspec.Struct, frozen=True):
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
