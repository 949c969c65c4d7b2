"""Attention, written onto a tape: projections, positions, the kernel, the output projection.

Each function follows the lines of transformers' attention modules, in their order.
"""

from __future__ import annotations

from typing import Final

from catalogs.bases.architectures import Architecture
from planner.estimators.memory.step.adapters import linear
from planner.estimators.memory.step.blocks.disentangled import disentangled
from planner.estimators.memory.step.blocks.mamba import mamba
from planner.estimators.memory.step.blocks.position_bias import (
    Seen,
    bias_asks,
    bias_source,
    cast_bias,
    gets_gradient,
    is_padded,
    laid_bias,
    spread_gradient_bytes,
)
from planner.estimators.memory.step.numerics import BIASED_SCORES, NARROW_HEADS, Numerics
from planner.estimators.memory.step.operations import FP32, STATISTIC_BYTES, Block, dropout, norm
from planner.estimators.memory.step.tape import Tensor

UNCAST_SCORES: Final = frozenset({"summed", "alibi_summed"})  # softmax gives the dtype of the block's norm
# derived: flash's result is `empty_like` the queries, a product's is as it comes; the memory-efficient kernel and the CPU's lay
# out a token's heads side by side
AS_QUERIES_LIE: Final = frozenset({"flash", "mathematics"})
DROPS_NOTHING: Final = frozenset({"distilbert"})  # derived: DistilBertSelfAttention hands on what its last linear gives
STAY_WIDE: Final = UNCAST_SCORES | {"narrow"}  # weights meet the values as softmax gives them


def attention(block: Block, x: Tensor) -> Tensor:
    """What mixes tokens: attention or a scan. Its input is an argument, alive until it returns, as its locals are."""
    block.mixer_locals = [x]
    mixed = mamba(block, x) if block.architecture.mixer == "mamba" else _self_attention(block, x)
    block.tape.hold(*block.mixer_locals)
    return mixed


def _self_attention(block: Block, x: Tensor) -> Tensor:
    """Projections, positions, the kernel, the output projection and its dropout."""
    a = block.architecture
    query, key, value = MIXERS[a.mixer](block, x)
    key, value = _behind_prefix(block, key), _behind_prefix(block, value)
    block.mixer_locals += [query, key, value]
    attended = KERNELS[block.n.attention](block, query, key, value, "itself")
    if a.joined_rotary and block.n.attention in AS_QUERIES_LIE:
        attended = block.op((attended,), a.query_size, block.items[attended])  # joined heads lie outermost: a true copy
    result = linear(block, attended, block.by_role["output"][0])
    return result if a.model_type in DROPS_NOTHING else dropout(block, result, a.hidden_size, a.hidden_dropout)


def cross_attention(block: Block, x: Tensor, seen: Tensor) -> Tensor:
    """Queries of `x` meet keys and values of what the encoder made."""
    a = block.architecture
    query = linear(block, x, block.by_role["cross_query"][0])
    key, value = (linear(block, seen, block.by_role[role][0]) for role in ("cross_key", "cross_value"))
    attended = KERNELS[block.n.attention](block, query, key, value, "encoder")
    result = dropout(block, linear(block, attended, block.by_role["cross_output"][0]), a.hidden_size, a.hidden_dropout)
    block.tape.hold(x)
    return result


def _heads(block: Block, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values at their positions."""
    a = block.architecture
    query, key, value = _projections(block, x)
    if a.caches_expanded:
        key, value = _expanded(block, key), _expanded(block, value)
    if a.qk_norm != "none":
        query, key = norm(block, query, a.query_size), norm(block, key, a.cached_size)
    if a.rotary:
        query, key = _rotary(block, query, a.query_size), _rotary(block, key, a.cached_size)
    return query, key, value


def _latent(block: Block, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """DeepSeek: keys and values go by way of a narrow state (arXiv:2405.04434); only a part of each head is rotated."""
    a = block.architecture
    narrow, wide = block.by_role["kv_down"][0], block.by_role["kv_up"][0]
    rotated = narrow.out_features - wide.in_features
    untouched = a.head_dim - rotated
    queries = x
    if "query_down" in block.by_role:
        down = block.by_role["query_down"][0]
        queries = norm(block, linear(block, x, down), down.out_features)
    query = linear(block, queries, block.by_role["query"][0])
    state, key_rotated = block.split(linear(block, x, narrow), (wide.in_features, rotated))
    state = norm(block, state, wide.in_features)
    query_rotated = _rotary(block, query, a.num_heads * rotated)
    key_rotated = _rotary(block, key_rotated, rotated)
    query = block.op((query, query_rotated), a.query_size, block.items[query])
    both = linear(block, state, wide)
    key, value = block.split(both, (a.num_heads * untouched, wide.out_features - a.num_heads * untouched))
    return query, block.op((key, key_rotated), a.query_size, block.items[both]), value


MIXERS = {"heads": _heads, "latent": _latent}


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
    share = block.architecture.rotary_share
    if "rope" in block.n.fused:
        return block.op((x,), features, block.items[x], backward_scratch=0)
    if share == 1.0:
        both = 2 * block.n.tokens * features * block.items[x]
        return block.op((x,), features, block.items[x], scratch=both, backward_scratch=both)
    rotated = round(features * share)
    part = 2 * block.n.tokens * rotated * block.items[x]
    turned = block.op((x,), rotated, block.items[x], scratch=part, backward_scratch=part)
    return block.op((x, turned), features, block.items[x])


def _behind_prefix(block: Block, x: Tensor) -> Tensor:
    """Keys or values behind the learned ones: the cache joins them in the wider dtype, and hands gradients back as views."""
    n, features = block.n, block.architecture.cached_size
    if not n.prefix:
        return x
    item = max(block.items[x], n.cache)
    learned = n.batch.learned * features * n.cache
    same = item == block.items[x]
    return block.op((x,), features, item, tokens=n.keys, passes=same, weight_gradient=learned)


def _repeated(block: Block, x: Tensor) -> Tensor:
    """Keys or values, one copy for each query head of the group."""
    return _expanded(block, x, tokens=block.n.keys) if block.n.repeats_kv and not block.architecture.caches_expanded else x


def _expanded(block: Block, x: Tensor, *, tokens: int | None = None) -> Tensor:
    return block.op((x,), block.architecture.query_size, block.items[x], tokens=tokens)


def _fused_attention(block: Block, query: Tensor, key: Tensor, value: Tensor, seen: Seen) -> Tensor:
    """Flash and memory-efficient kernels keep q, k, v, the output and a log-sum-exp per head."""
    n, a = block.n, block.architecture
    half = 2 if n.attention == "flash" else (n.autocast or block.items[query])
    bias = laid_bias(block, seen) if a.position_bias else None
    query = block.cast(query, a.query_size, half)
    key, value = (block.cast(tensor, a.cached_size, half, tokens=n.keys) for tensor in (key, value))
    key, value = _repeated(block, key), _repeated(block, value)
    biases = () if bias is None else (cast_bias(block, bias, half, seen),)
    given = block.by_role["output"][0].in_features
    query, key, value, features = _for_flash(block, query, key, value, half)
    attended = block.op(
        (*dict.fromkeys((query, key, value)), *biases),
        features or given,
        half,
        saves=(query, key, value, *biases),
        grads=(*dict.fromkeys((query, key, value)), *(each for each in biases if gets_gradient(block, each, seen))),
        holds=() if bias is None else (bias,),
        saves_output=True,
        keeps=n.tokens * a.num_heads * STATISTIC_BYTES + _mask_bytes(block, half),
        backward_scratch=_attention_scratch(block, half) + spread_gradient_bytes(block, half, seen),
    )
    return block.op((attended,), given, half) if features else attended


def _for_flash(block: Block, query: Tensor, key: Tensor, value: Tensor, item: int) -> tuple[Tensor, Tensor, Tensor, int | None]:
    """What flash is given, and how wide its result then is: heads that are no multiple of eight are copied with zeros behind
    (pad_last_dim of torch's attention.cpp). None = as wide as was asked for.
    """
    n, a = block.n, block.architecture
    rest = -a.head_dim % NARROW_HEADS
    if n.attention != "flash" or not rest:
        return query, key, value, None
    queries, pairs = a.num_heads * (a.head_dim + rest), a.query_size if n.repeats_kv else a.cached_size
    keys = pairs // a.head_dim * (a.head_dim + rest)
    wider = {each: block.op((each,), keys, item, tokens=n.keys) for each in dict.fromkeys((key, value))}
    return block.op((query,), queries, item), wider[key], wider[value], queries


def _mask_bytes(block: Block, item: int) -> int:
    """A mask of yes and no becomes an additive bias in the query's dtype, made anew for each block; a biased one, which has
    numbers for every head, is cast to that dtype.
    """
    n, a = block.n, block.architecture
    if a.position_bias or not n.masked or n.attention != "efficient":
        return 0
    if a.scores in BIASED_SCORES:
        return n.pairs * a.num_heads * item if n.cache != item else 0
    return n.pairs * item


def _attention_scratch(block: Block, item: int) -> int:
    """derived: flash backward accumulates dq in fp32, and dk, dv for all query heads before they are summed to groups."""
    n, a = block.n, block.architecture
    if n.attention == "efficient":
        return n.tokens * a.num_heads * STATISTIC_BYTES
    expanded = 2 * a.query_size * item if a.num_kv_heads != a.num_heads and not n.repeats_kv else 0
    return n.tokens * (a.query_size * FP32 + a.num_heads * STATISTIC_BYTES + expanded)


def _mathematics(block: Block, query: Tensor, key: Tensor, value: Tensor, _seen: Seen) -> Tensor:
    """Torch's attention without a kernel, all of it in fp32 (_scaled_dot_product_attention_math of attention.cpp).

    The one key head is scaled before it is repeated; rows without any weight are looked for.
    """
    n, a = block.n, block.architecture
    item, pairs = n.autocast or block.items[query], a.num_heads * n.seq_len
    wide, key = block.cast(query, a.query_size, FP32), block.cast(key, a.kv_size, FP32)
    value = block.cast(value, a.kv_size, FP32)
    scaled, key = block.op((wide,), a.query_size, FP32), block.op((key,), a.kv_size, FP32)
    held = (query, wide, scaled)  # by frames above, until the function returns
    key = block.op((key,), a.query_size, FP32)
    scores = block.op((scaled, key), pairs, FP32, saves=(scaled, key))
    one, looked_at = n.tokens * pairs * FP32, n.tokens * pairs  # a byte each
    weights = block.op((scores,), pairs, FP32, saves_output=True, scratch=looked_at, backward_scratch=one)
    weights = dropout(block, weights, pairs, a.attention_dropout)
    value = block.op((value,), a.query_size, FP32)
    narrow = n.tokens * pairs * item if item != FP32 else 0  # weights that are handed back as well, and dropped
    attended = block.op((weights, value), a.query_size, FP32, saves=(weights, value), scratch=narrow, holds=held)
    return block.cast(attended, a.query_size, item)


def _eager_attention(block: Block, query: Tensor, key: Tensor, value: Tensor, seen: Seen) -> Tensor:
    """Scores of every pair of tokens, made into weights, and the weighted sum."""
    n, a = block.n, block.architecture
    key, value = _repeated(block, key), _repeated(block, value)
    asked, pairs = block.items[query], a.num_heads * (n.seq_len + n.prefix)
    item = n.autocast or asked
    query, key = block.cast(query, a.query_size, item), block.cast(key, a.query_size, item, tokens=n.keys)
    if a.scores == "disentangled":
        scores = disentangled(block, query, key, pairs)
    else:
        scores = block.op(tuple(dict.fromkeys((query, key))), pairs, item, saves=(query, key))
    weights = _biased(block, scores, pairs, seen) if a.position_bias else SCORES[a.scores](block, scores, pairs)
    if a.scores not in STAY_WIDE:
        weights = block.cast(weights, pairs, asked)
    weights = dropout(block, weights, pairs, a.attention_dropout)
    if a.position_bias:  # a block of T5's attends twice, and binds both to one name
        block.last_weights = weights
    else:
        block.block_locals.append(weights)  # handed back, and bound to a name that nobody reads
    if a.returns_weights:
        block.tape.handed_back.add(weights)
    weights = block.cast(weights, pairs, n.autocast or block.items[value])
    value = block.cast(value, a.query_size, block.items[weights], tokens=n.keys)
    return block.op((weights, value), block.by_role["output"][0].in_features, block.items[value], saves=(weights, value))


def _wide(block: Block, scores: Tensor, pairs: int) -> Tensor:
    """Scaled, capped, masked; softmax in fp32."""
    a, item = block.architecture, block.items[scores]
    scores = block.op((scores,), pairs, item)
    if a.attention_softcap:
        scores = block.op((scores,), pairs, item)
        scores = block.op((scores,), pairs, item, saves_output=True)
        scores = block.op((scores,), pairs, item)
    return _softmax(block, _masked(block, scores, pairs), pairs, FP32)


def _masked(block: Block, scores: Tensor, pairs: int) -> Tensor:
    if block.architecture.kind == "encoder" and not block.n.masked:
        return scores
    return block.op((scores,), pairs, block.items[scores], passes=True)


def _softmax(block: Block, scores: Tensor, pairs: int, item: int) -> Tensor:
    """Weights of this item size, which are kept.

    torch converts bf16 first, only fp16 goes straight to an fp32 result; the frame still holds the 16-bit scores.
    derived: softmax_backward on CUDA multiplies gradient and output into a tensor of its own (SoftMax.cu).
    """
    wide = scores if block.n.float16 else block.cast(scores, pairs, item)
    held = () if wide == scores else (scores,)
    product = block.n.tokens * pairs * item
    return block.op((wide, *held), pairs, item, grads=(wide,), saves_output=True, backward_scratch=product)


def _narrow(block: Block, scores: Tensor, pairs: int) -> Tensor:
    """Llama 4, BERT, GPT-2: scaled, masked, softmax in the scores' own dtype; autocast makes that fp32."""
    scores = block.op((scores,), pairs, block.items[scores])
    scores = _masked(block, scores, pairs)
    return _softmax(block, scores, pairs, FP32 if block.n.autocast else block.items[scores])


def _biased(block: Block, scores: Tensor, pairs: int, seen: Seen) -> Tensor:
    """T5: scaled, biased, masked, softmax in the dtype of scores and bias; autocast makes that fp32."""
    n, before = block.n, block.items[scores]
    scores = block.op((scores,), pairs, before)
    bias = bias_source(block, seen)
    item = max(before, block.items[bias])
    asked = (bias,) if gets_gradient(block, bias, seen) and n.own_bias_asks else ()
    summed = n.bias_entries(block.architecture.num_heads, each=False) * block.items[bias]
    scratch = summed if bias_asks(block, seen) and not asked else 0
    same = item == before and not asked
    scores = block.op((scores, bias), pairs, item, grads=(scores, *asked), passes=same, backward_scratch=scratch)
    if is_padded(block, seen) or (seen == "itself" and block.architecture.kind != "encoder"):
        scores = block.op((scores,), pairs, item, passes=True)
    return _softmax(block, scores, pairs, FP32 if n.autocast else item)


def _sinks(block: Block, scores: Tensor, pairs: int) -> Tensor:
    """GPT-OSS: a learned score that takes weight and gives nothing stands beside every row's, in the wider dtype."""
    scores = _masked(block, block.op((scores,), pairs, block.items[scores]), pairs)
    item = max(block.items[scores], block.n.cache)
    joined = block.op((scores,), pairs, item)
    less_largest = block.op((joined,), pairs, item)
    block.mixer_locals += [scores, less_largest]  # each has a name of its own
    return block.split(_softmax(block, less_largest, pairs, item), (pairs,))[0]  # the sink is cut off


def _alibi(block: Block, scores: Tensor, pairs: int) -> Tensor:
    """BLOOM: the bias enters in the product itself; softmax in fp32. Each step has a name of its own."""
    masked = _masked(block, scores, pairs)
    block.mixer_locals += [scores, masked]
    return _softmax(block, masked, pairs, FP32)


def _alibi_wide(block: Block, scores: Tensor, pairs: int) -> Tensor:
    """MPT: scaled, a bias added in fp32, masked."""
    scores = block.op((scores,), pairs, block.items[scores])
    scores = block.op((scores,), pairs, FP32, passes=block.items[scores] == FP32)
    return _softmax(block, _masked(block, scores, pairs), pairs, FP32)


def _summed(block: Block, scores: Tensor, pairs: int) -> Tensor:
    """Falcon: scaled in place, the mask added to it in the call of softmax, whose result has the dtype of the block's norm."""
    item = block.items[scores]
    total = _masked(block, scores, pairs)
    wide = block.cast(total, pairs, weights_item(block.architecture, block.n))
    held = tuple(dict.fromkeys((scores, total)))
    product = block.n.tokens * pairs * block.items[wide]
    return block.op((wide,), pairs, max(item, block.items[wide]), holds=held, saves_output=True, backward_scratch=product)


def _alibi_summed(block: Block, scores: Tensor, pairs: int) -> Tensor:
    """Falcon with a bias of positions: added in fp32, scaled in place, the mask added in the call of softmax, whose result has
    the dtype of the block's norm. Each step has a name of its own.
    """
    wide = block.cast(scores, pairs, FP32)
    biased = block.op((wide,), pairs, FP32, passes=True)
    block.mixer_locals += [scores, wide, biased]
    total = block.cast(_masked(block, biased, pairs), pairs, weights_item(block.architecture, block.n))
    product = block.n.tokens * pairs * block.items[total]
    return block.op((total,), pairs, block.items[total], saves_output=True, backward_scratch=product)


def weights_item(architecture: Architecture, n: Numerics) -> int:
    """Bytes of a weight as attention that is written out hands it back: in the dtype of the block's norm, or of queries."""
    normed = FP32 if n.autocast and architecture.norm == "layer" else max(n.weight, n.norm_weight)
    return normed if architecture.scores in UNCAST_SCORES else n.product(normed)


def _filled(block: Block, scores: Tensor, pairs: int) -> Tensor:
    """What is masked out is filled, by a mask of yes and no that is kept; softmax in the scores' own dtype, which autocast
    makes fp32.
    """
    item = block.items[scores]
    filled = block.op((scores,), pairs, item, keeps=block.n.pairs)
    return _softmax(block, filled, pairs, FP32 if block.n.autocast else item)


SCORES = {
    "disentangled": _filled,
    "wide": _wide,
    "narrow": _narrow,
    "as_values": _narrow,
    "sinks": _sinks,
    "alibi": _alibi,
    "alibi_wide": _alibi_wide,
    "alibi_summed": _alibi_summed,
    "summed": _summed,
}
KERNELS = {
    "flash": _fused_attention,
    "efficient": _fused_attention,
    "cpu": _fused_attention,
    "mathematics": _mathematics,
    "eager": _eager_attention,
}
