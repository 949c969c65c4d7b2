"""T5's biases of positions: one that each stack learns, and zeros between encoder and decoder.

Each function follows the lines of T5Attention and of create_position_bias_mask in transformers 5.24.
"""

from __future__ import annotations

from typing import Literal

from planner.estimators.memory.step.operations import Block
from planner.estimators.memory.step.tape import Tensor

Seen = Literal["itself", "encoder"]  # what a sequence attends to


def bias_asks(block: Block, seen: Seen) -> bool:
    """Whether a bias of positions asks for a gradient.

    derived: T5Attention lets the zeros between encoder and decoder ask for one under checkpointing; a re-entrant checkpoint
    hands nothing on that does not ask.
    """
    n = block.n
    return block.architecture.position_bias and (n.trains_all or (n.zero_bias_asks if seen == "encoder" else n.own_bias_asks))


def gets_gradient(block: Block, bias: Tensor, seen: Seen) -> bool:
    """Whether its gradient is a tensor of the block's own: that of zeros which all blocks share is added in place to what
    stands, but a re-entrant checkpoint sums it anew.
    """
    return bias_asks(block, seen) and (block.n.own_bias_asks or bias not in block.tape.outside)


def bias_source(block: Block, seen: Seen) -> Tensor:
    """The bias as it comes to the block, one for all sequences: learned, in an embedding's dtype, or zeros in queries'."""
    n = block.n
    item = n.queries if seen == "encoder" else n.cache
    source = block.tape.tensor(n.bias_entries(block.architecture.num_heads, each=False) * item)
    block.items[source] = item
    block.tape.outside.add(source)
    return source


def is_padded(block: Block, seen: Seen) -> bool:
    """Whether a bias differs between sequences. What the decoder itself reads is not told as padded."""
    return block.n.masked and (seen == "encoder" or block.architecture.kind == "encoder")


def laid_bias(block: Block, seen: Seen) -> Tensor:
    """The bias with the mask laid over it, then in its own storage: heads of what an embedding gave lie innermost.

    Zeros that nothing is laid over stay those that all blocks share.
    """
    n, heads, padded = block.n, block.architecture.num_heads, is_padded(block, seen)
    bias = bias_source(block, seen)
    item, entries = block.items[bias], n.bias_entries(heads, each=padded)
    joins = (bias,) if n.own_bias_asks else ()  # what a re-entrant checkpoint hands on adds up to a tensor of its own
    asks = bias_asks(block, seen)
    if padded or (seen == "itself" and block.architecture.kind != "encoder"):
        summed = n.bias_entries(heads, each=False) if padded else 0  # over sequences, once the mask has been laid over it
        scratch = (entries + summed) * item if asks else 0
        bias = block.matrix((bias,), entries, item, grads=joins, backward_scratch=scratch)
        joins = (bias,)
    return block.matrix((bias,), entries, item, grads=joins) if seen == "itself" else bias


def cast_bias(block: Block, bias: Tensor, item: int, seen: Seen) -> Tensor:
    """The bias as the kernel needs it."""
    if block.items[bias] == item:
        return bias
    entries = block.n.bias_entries(block.architecture.num_heads, each=is_padded(block, seen))
    if gets_gradient(block, bias, seen):
        return block.matrix((bias,), entries, item)
    return block.matrix((bias,), entries, item, grads=())


def spread_gradient_bytes(block: Block, item: int, seen: Seen) -> int:
    """Of a bias that asks for a gradient: one for every sequence, before they are summed."""
    if not bias_asks(block, seen) or is_padded(block, seen):
        return 0
    return block.n.bias_entries(block.architecture.num_heads, each=True) * item
