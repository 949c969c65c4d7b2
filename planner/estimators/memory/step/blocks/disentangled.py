"""DeBERTa's scores, written onto a tape: contents with contents, contents with positions, positions with contents.

By the lines of DisentangledSelfAttention in transformers (modeling_deberta_v2.py).
"""

from __future__ import annotations

from typing import Final

from planner.estimators.memory.step.adapters import linear
from planner.estimators.memory.step.operations import Block, dropout
from planner.estimators.memory.step.tape import Tensor

INDEX_BYTES: Final = 8  # derived: of an int64


def disentangled(block: Block, query: Tensor, key: Tensor, pairs: int) -> Tensor:
    """DeBERTa (arXiv:2006.03654): to the scores come those of contents with positions, and of positions with contents.

    Keys are scaled before they meet queries, and what stands for positions is repeated for every sequence of the batch; both
    are kept. Sums begin at the number 0, so that the first is a copy as well, and go on in place.
    """
    n, a, item = block.n, block.architecture, block.items[query]
    scaled = block.op((key,), a.query_size, item)
    scores = block.op((query, scaled), pairs, item, saves=(query, scaled))
    queries, keys = _positions(block, item)
    reached, to_positions = _by_position(block, query, keys, pairs)
    begun = block.op((to_positions,), pairs, item, passes=True)
    again, of_positions = _by_position(block, key, queries, pairs)
    bias = block.op((begun, of_positions), pairs, item, passes=True, scratch=-n.tokens * pairs * item)
    block.tape.hold(queries, keys, reached, again)  # locals of the function, which returns here
    block.mixer_locals.append(bias)
    return block.op((scores, bias), pairs, item, passes=True)


def _positions(block: Block, item: int) -> tuple[Tensor, Tensor]:
    """What stands for positions, by the projections of queries and of keys, repeated for every sequence of the batch."""
    a, once = block.architecture, block.of_positions()
    span, sequences = a.relative_span * a.query_size, block.n.batch.sequences
    states = once.op((), a.hidden_size, block.n.residual, grads=())
    states = dropout(once, states, a.hidden_size, a.attention_dropout)
    found = []
    for role in ("query", "key"):
        projected = linear(once, states, block.by_role[role][0])
        found.append(block.op((projected,), span, item, tokens=sequences))
    return found[0], found[1]


def _by_position(block: Block, content: Tensor, positions: Tensor, pairs: int) -> tuple[Tensor, Tensor]:
    """Of scores of queries or keys with every position in reach the one that each pair of tokens is apart, and that scaled."""
    n, a, item = block.n, block.architecture, block.items[content]
    every = block.op((content, positions), a.num_heads * a.relative_span, item, saves=(content, positions))
    index = INDEX_BYTES * n.seq_len * n.seq_len  # one for all heads and sequences
    reached = block.op((every,), pairs, item, saves=(every,), keeps=index)
    return reached, block.op((reached,), pairs, item)
