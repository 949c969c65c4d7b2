"""Mamba 2 (arXiv:2405.21060), written onto a tape: as transformers writes it out, or as mamba_ssm's kernels do.

transformers looks for the kernels when it runs; where they are not installed, as on our own boxes, a chunk of positions is
computed as a matrix of pairs, in fp32.
"""

from __future__ import annotations

from catalogs.bases.architectures import Mamba
from planner.estimators.memory.step.adapters import linear
from planner.estimators.memory.step.operations import FP32, Block
from planner.estimators.memory.step.tape import Tensor


def mamba(block: Block, x: Tensor) -> Tensor:
    """The projection into gate, states and steps; the scan; the gated norm; the projection out."""
    m: Mamba = block.architecture.mamba  # type: ignore[assignment]  # a family that says mixer "mamba" says how wide
    projected = linear(block, _without_padding(block, x, block.architecture.hidden_size), block.by_role["mamba_in"][0])
    scanned = _by_kernel(block, m, projected) if "mamba" in block.n.fused else _written_out(block, m, projected)
    item = block.items[x]
    return linear(block, block.cast(scanned, m.inner, item), block.by_role["output"][0])


def _without_padding(block: Block, x: Tensor, features: int) -> Tensor:
    """`x` times the mask of padding: a copy."""
    return block.op((x,), features, block.items[x]) if block.n.masked else x


def _by_kernel(block: Block, m: Mamba, projected: Tensor) -> Tensor:
    """One node of autograd: it keeps what it read and what the scan gave, and makes the rest again in backward.

    assumed from memory of mamba_ssm 2.2, ops/triton/ssd_combined.py: MambaSplitConv1dScanCombinedFn.
    """
    n, item = block.n, block.items[projected]
    convolved = n.tokens * m.convolved * item
    states = n.tokens * m.inner * m.state * FP32 // m.chunk
    again = convolved + states + n.tokens * (m.inner + m.convolved) * item
    return block.op(
        (projected,),
        m.inner,
        item,
        saves=(projected,),
        keeps=n.tokens * m.inner * item,
        scratch=convolved + states,
        backward_scratch=again,
    )


def _written_out(block: Block, m: Mamba, projected: Tensor) -> Tensor:
    """`torch_forward` of transformers' GraniteMoeHybridMambaLayer, its lines in their order."""
    item = block.n.autocast or block.items[projected]
    gate, both, steps = block.split(projected, (m.inner, m.convolved, m.heads))
    convolved = block.op((block.cast(both, m.convolved, item),), m.convolved, item, saves=(both,))
    active = _without_padding(block, block.op((convolved,), m.convolved, item, saves=(convolved,)), m.convolved)
    block.mixer_locals.append(active)
    hidden, keys, queries = block.split(active, (m.inner, m.groups * m.state, m.groups * m.state))
    scanned = _scan(block, m, hidden, keys, queries, steps)
    return _gated_norm(block, m, scanned, gate)


def _scan(block: Block, m: Mamba, hidden: Tensor, keys: Tensor, queries: Tensor, steps: Tensor) -> Tensor:
    """`mamba2_chunk_scan`: pairs within a chunk, states between chunks. B are keys, C queries of an attention that decays."""
    item, whole = block.n.autocast or FP32, block.n.batch.scanned
    each_head, pairs, states = m.heads * m.state, m.heads * m.chunk, m.inner * m.state // m.chunk
    steps = block.op((steps,), m.heads, FP32, saves_output=True)
    hidden = block.cast(hidden, m.inner, FP32)
    keys = block.op((block.cast(keys, m.groups * m.state, FP32),), each_head, FP32)
    queries = block.op((block.cast(queries, m.groups * m.state, FP32),), each_head, FP32)
    filled_up = block.op((hidden,), m.inner, FP32, tokens=whole)  # to whole chunks: a copy also where there is nothing to fill
    around = block.op((filled_up,), m.inner, FP32, tokens=whole)  # D · x, added at the end
    hidden = block.op((hidden, steps), m.inner, FP32, saves=(hidden, steps))
    hidden = block.op((hidden,), m.inner, FP32, tokens=whole)
    decays = block.op((block.op((steps,), m.heads, FP32),), m.heads, FP32, tokens=whole)
    keys, queries = (block.op((tensor,), each_head, FP32, tokens=whole) for tensor in (keys, queries))
    summed = block.op((decays,), m.heads, FP32, tokens=whole)
    filled = block.op((decays,), pairs, FP32, tokens=whole)
    sums = block.op((filled,), pairs, FP32, tokens=whole)
    within = block.op((block.op((sums,), pairs, FP32, tokens=whole),), pairs, FP32, tokens=whole, saves_output=True)
    scores = _product(block, (queries, each_head), (keys, each_head), pairs, item)
    weights = block.op((scores, within), pairs, FP32, tokens=whole, saves=(scores, within))
    inside = _product(block, (weights, pairs), (hidden, m.inner), m.inner, item, as_they_lie=weights)
    decayed = block.op((keys, summed), each_head, FP32, tokens=whole, saves=(keys, summed))
    states_of = _product(block, (decayed, each_head), (hidden, m.inner), states, item)
    joined = block.op((block.cast(states_of, states, item, tokens=whole),), states, item, tokens=whole)
    started = _product(block, (joined, states), (joined, states), states, item)
    across = _product(block, (queries, each_head), (started, states), m.inner, item)
    kept = whole * m.heads * FP32
    scaled = block.op((across, summed), m.inner, FP32, tokens=whole, saves=(across,), keeps=kept)
    total = block.op((inside, scaled), m.inner, FP32, tokens=whole)
    total = block.op((total,), m.inner, FP32, tokens=whole, passes=True)  # laid out anew
    named = (hidden, keys, queries, around, within, scores, weights, inside, decayed, started, across, scaled)
    return block.op((total, around), m.inner, FP32, tokens=whole, grads=(total, around), passes=True, holds=named)


def _product(
    block: Block,
    one: tuple[Tensor, int],
    other: tuple[Tensor, int],
    features: int,
    item: int,
    *,
    as_they_lie: Tensor | None = None,
) -> Tensor:
    """An einsum: both operands in the dtype of products, laid out anew but for one that lies right, and kept."""
    whole = block.n.batch.scanned

    def laid_out(x: Tensor, width: int) -> Tensor:
        narrow = block.cast(x, width, item, tokens=whole)
        return narrow if x == as_they_lie else block.op((narrow,), width, item, tokens=whole)

    laid = tuple(laid_out(*operand) for operand in dict.fromkeys((one, other)))
    return block.op(laid, features, item, tokens=whole, saves=laid)


def _gated_norm(block: Block, m: Mamba, x: Tensor, gate: Tensor) -> Tensor:
    """An RMS norm of x · silu(gate), in fp32."""
    wide = block.cast(gate, m.inner, FP32)
    opened = block.op((wide,), m.inner, FP32, saves=(wide,))
    product = block.op((x, opened), m.inner, FP32, saves=(x, opened))
    one = block.n.tokens * m.inner * FP32
    scaled = block.op((product,), m.inner, FP32, saves=(product,), backward_scratch=one)
    return block.op((scaled,), m.inner, FP32, saves=(scaled,) if block.n.trains_norms else ())
