"""One block of a decoder or an encoder, written onto a tape operation by operation.

Each function follows the module of the same name in transformers (`modeling_llama.py` and its kin) and peft
(`tuners/lora/layer.py`, `bnb.py`), in the order of their lines: that order decides what is alive together.
"""

from __future__ import annotations

from typing import Final

import msgspec

from catalogs.bases.architectures import Architecture
from planner.estimators.memory.step.blocks.attention import attention, cross_attention
from planner.estimators.memory.step.blocks.feed_forward import feed_forward
from planner.estimators.memory.step.numerics import Numerics
from planner.estimators.memory.step.operations import Block, norm
from planner.estimators.memory.step.tape import Tape, Tensor

HALF: Final = 2  # derived: bytes of a number of 16 bits


class BlockTape(msgspec.Struct, frozen=True):
    """A block written down."""

    tape: Tape
    source: Tensor  # the hidden state that comes in
    attribute_bytes: int  # kept as plain attributes: a non-re-entrant checkpoint keeps them for every block
    attributes_again: int  # of them what is saved elsewhere as well, and so is there twice once it is made again


def record_block(architecture: Architecture, numerics: Numerics) -> BlockTape:
    """Write one block."""
    block = Block(architecture, numerics)
    x = block.source(architecture.hidden_size, numerics.residual)
    LAYOUTS[architecture.layout](block, x)
    block.tape.hold(*block.block_locals)
    attributes = block.tape.attributes - {x}
    kept, again = (sum(map(block.tape.sizes.__getitem__, which)) for which in (attributes, attributes & block.tape.saved_apart))
    return BlockTape(block.tape, x, kept, again)


# ── layouts: where norms and residuals stand ───────────────────────────────────────────────────────────────────────────


def _pre(block: Block, x: Tensor) -> Tensor:
    """Llama, GPT-2: x + f(norm(x)), twice."""
    h = block.architecture.hidden_size
    normed = norm(block, x, h)
    attended = attention(block, normed)
    held = {"attention": attended, "norm": normed}
    block.block_locals += [held[which] for which in NAMED_APART.get(block.architecture.model_type, ())]
    middle = _residual(block, x, attended)
    return _residual(block, middle, feed_forward(block, norm(block, middle, h)))


# derived: their blocks give these names of their own, where others use one name for each state in turn
NAMED_APART: Final[dict[str, tuple[str, ...]]] = {
    "gpt2": ("attention",),
    "gpt_bigcode": ("attention",),
    "falcon": ("attention", "norm"),
    "llama4_text": ("attention",),
    "mpt": ("attention",),
    "stablelm": ("attention", "norm"),
}


def _pre_cross(block: Block, x: Tensor) -> Tensor:
    """T5's decoder: x + f(norm(x)), three times; the second looks at what the encoder made."""
    h = block.architecture.hidden_size
    seen = block.source(h, block.n.residual)
    block.tape.outside.add(seen)
    middle = _residual(block, x, attention(block, norm(block, x, h)))
    middle = _residual(block, middle, cross_attention(block, norm(block, middle, h), seen))
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
    fed = feed_forward(block, middle)
    inner = () if block.architecture.model_type in NORMS_OUTSIDE or block.inner is None else (block.inner,)
    block.block_locals += [middle, fed, *inner]
    return norm(block, _residual(block, middle, fed), h)


# derived: its blocks norm where the MLP has returned; BERT's and its kin's within a module that was given the MLP's inner state
NORMS_OUTSIDE: Final = frozenset({"distilbert"})


def _parallel(block: Block, x: Tensor) -> Tensor:
    """GPT-NeoX: x + attention(norm(x)) + mlp(norm(x))."""
    h = block.architecture.hidden_size
    attended = attention(block, norm(block, x, h))
    return _residual(block, x, _residual(block, attended, feed_forward(block, norm(block, x, h))))


def _parallel_shared(block: Block, x: Tensor) -> Tensor:
    """Phi, Falcon 7B: x + attention(y) + mlp(y), where y = norm(x)."""
    normed = norm(block, x, block.architecture.hidden_size)
    attended = attention(block, normed)
    return _residual(block, x, _residual(block, attended, feed_forward(block, normed)))


LAYOUTS = {
    "pre": _pre,
    "pre_cross": _pre_cross,
    "sandwich": _sandwich,
    "after_sublayer": _after_sublayer,
    "post": _post,
    "parallel": _parallel,
    "parallel_shared": _parallel_shared,
}


def _residual(block: Block, x: Tensor, branch: Tensor) -> Tensor:
    """X + branch, after the branch's multiplier (Granite). The gradient goes on to both as it is, unless dtypes differ."""
    h = block.architecture.hidden_size
    if block.architecture.scaled_residual:
        branch = block.op((branch,), h, block.items[branch])
    held = () if block.last_weights is None else (block.last_weights,)  # a local of the block, until the next ones come
    total = block.summed(x, branch, h, holds=held)
    if block.architecture.position_bias and block.n.float16 and block.items[total] == HALF:
        return block.op((total,), h, HALF, saves=(total,))  # T5 clamps an fp16 stream, whether anything overflows or not
    return total
