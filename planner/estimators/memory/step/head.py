"""What follows the last block: the final norm, the output head and the loss, written onto a tape of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import msgspec

from catalogs.bases.architectures import Architecture, Linear
from planner.estimators.memory.step.adapters import linear
from planner.estimators.memory.step.numerics import Numerics
from planner.estimators.memory.step.operations import FP32, Block, activation, norm, plain_product
from planner.estimators.memory.step.tape import Tape, Tensor
from planner.methods import NUM_LABELS, saved_modules, trains_head
from planner.strategy.precision import DTYPE_BYTES
from planner.strategy.stack import PINNED_STACK, Stack
from remote.contract import Loss, Strategy, Task

VOCABULARY_TASKS: Final = ("causal_lm", "seq2seq")  # their head gives a score to every word
CHUNK_TOKENS: Final = 256  # derived: chunk of TRL's chunked loss (trl 1.10, trainer/utils.py)
# derived: a logit of a chunk in 16 bits, its cast to fp32 and its log-softmax; in backward the gradient of that beside them
CHUNK_FORWARD_BYTES: Final = 2 + FP32 + FP32
CHUNK_BACKWARD_BYTES: Final = CHUNK_FORWARD_BYTES + FP32
# derived from remote/losses.py: a logit in fp32 and its log-softmax, which becomes the gradient; tanh of it where it is capped
OWN_CHUNK_BYTES: Final = FP32 + FP32
OWN_CAPPED_BYTES: Final = OWN_CHUNK_BYTES + FP32
MAKE_THE_GRADIENT: Final = frozenset({"chunked", "liger"})  # of the head, in a tensor of its own
NUM_CHUNKS: Final = 8  # derived: torchtune's CEWithChunkedOutputLoss cuts its logits into eight


class HeadAsked(msgspec.Struct, frozen=True):
    """What the head depends on, beside the architecture and the numerics of its blocks."""

    task: Task
    loss: Loss
    trains_head: bool
    lm_head_item: int  # of the output matrix that computes, at rest
    stack_name: str
    rebinds_logits: bool  # the 16-bit logits die at once
    shifts_logits: bool  # by a contiguous copy


def head_asked(architecture: Architecture, strategy: Strategy, *, task: Task, stack: Stack, lm_head_item: int) -> HeadAsked:
    """What a strategy, a task and a stack ask of the head. One that peft saves computes in the adapter's dtype."""
    saved = architecture.head_name in saved_modules(architecture, strategy)
    return HeadAsked(
        task=task,
        loss=strategy.loss,
        trains_head=trains_head(architecture, strategy),
        lm_head_item=DTYPE_BYTES[strategy.adapter_dtype] if saved else lm_head_item,
        stack_name=stack.name,
        rebinds_logits=strategy.loss == "hf_shifted" or not stack.has("kept_16_bit_logits"),
        shifts_logits=strategy.loss == "hf_shifted" or not stack.has("shifted_labels"),
    )


class Head(Block):
    """The head being written."""

    def __init__(self, architecture: Architecture, numerics: Numerics, asked: HeadAsked) -> None:
        super().__init__(architecture, numerics)
        self.asked = asked
        self.returned: Tensor | None = None  # the logits that the model hands back; none where they are never whole
        self.width = architecture.vocab_size if asked.task in VOCABULARY_TASKS else NUM_LABELS


class HeadTape(msgspec.Struct, frozen=True):
    """The head written down."""

    tape: Tape
    source: Tensor  # the hidden state that comes in
    width: int  # the vocabulary, or the labels of a task
    returned_bytes: int  # of the logits that the model hands back to the loop


def record_head(architecture: Architecture, numerics: Numerics, asked: HeadAsked) -> HeadTape:
    """Write the final norm, the output head and the loss."""
    head = Head(architecture, numerics, asked)
    x = head.source(architecture.hidden_size, numerics.residual)
    prepare = _final_norm if architecture.layout != "post" else PREPARED_AFTER_POST[architecture.kind]
    normed = _projected_out(head, prepare(head, x))
    LOSSES[asked.loss if asked.task in VOCABULARY_TASKS else "hf"](head, normed)
    return HeadTape(head.tape, x, head.width, head.tape.sizes[head.returned] if head.returned is not None else 0)


def _transform(head: Head, x: Tensor) -> Tensor:
    """What BERT puts before its output matrix: a square linear, the activation, a norm. Other heads read x itself."""
    if head.asked.task != "causal_lm":
        return x
    h = head.architecture.hidden_size
    square = Linear(name="transform", in_features=h, out_features=h, bias=True)
    return norm(head, activation(head, plain_product(head, x, square), h), h)


def _final_norm(head: Head, x: Tensor) -> Tensor:
    """The last norm. What upcast norms hand to a 16-bit output head is 16-bit in another trainer's loop, fp32 in ours."""
    normed = norm(head, x, head.architecture.hidden_size)
    elsewhere = head.asked.stack_name != PINNED_STACK.name and head.asked.lm_head_item == 2 and not head.n.trains_norms
    if elsewhere and head.items[normed] == FP32:  # measured: 2h and not 4h are alive (fms-acceleration, baseline-peft-bnb)
        head.items[normed] = 2
        head.tape.sizes[normed] = head.n.tokens * head.architecture.hidden_size * 2
    return normed


BEHIND_BLOCKS: Final = "project_out"  # derived: OPT-350m's, by its decoder's forward


def _projected_out(head: Head, x: Tensor) -> Tensor:
    """What a linear between blocks and head makes of it, with what a method hangs on that."""
    for module in head.architecture.outer_linears:
        if module.name == BEHIND_BLOCKS:
            return linear(head, x, module)
    return x


def _as_it_is(_head: Head, x: Tensor) -> Tensor:
    return x


# where the blocks end in a norm of their own
PREPARED_AFTER_POST: Final = {"encoder": _transform, "decoder": _as_it_is, "encoder_decoder": _as_it_is}


def _logits(head: Head, normed: Tensor) -> Tensor:
    """The output product, and what some models do to it."""
    a, n = head.architecture, head.n
    item = n.autocast or head.asked.lm_head_item
    gradient = _gradient_bytes(head)
    kept = (normed,) if head.asked.trains_head else ()
    if n.copies_weights and head.asked.lm_head_item != n.autocast:
        logits = head.times_copy(normed, head.width, item, entries=_entries(head), saves=kept, weight_gradient=gradient)
    else:
        logits = head.op((normed,), head.width, item, saves=kept, weight_gradient=gradient)
    if a.scaled_logits:
        logits = head.op((logits,), head.width, item)
    if a.logits_softcap:
        logits = head.op((logits,), head.width, item)
        logits = head.op((logits,), head.width, item, saves_output=True)
        logits = head.op((logits,), head.width, item)
    return logits


def _entries(head: Head) -> int:
    """Of the output matrix: that of the vocabulary, or of a task's labels."""
    a = head.architecture
    return a.vocabulary_size if head.asked.task in VOCABULARY_TASKS else head.width * a.hidden_size


def _gradient_bytes(head: Head) -> int:
    """Of the output matrix, where it trains."""
    return _entries(head) * head.asked.lm_head_item if head.asked.trains_head else 0


def evaluates_apart(asked: HeadAsked) -> bool:
    """Whether evaluation asks the model for logits and makes the loss of them itself, as `remote.result.evaluate` does.
    Another stack's loop, or a loss that is not transformers', does as in training.
    """
    return asked.stack_name == PINNED_STACK.name and asked.loss == "hf" and asked.task in ("causal_lm", "seq2seq")


def record_logits(architecture: Architecture, numerics: Numerics, asked: HeadAsked) -> HeadTape:
    """Write the final norm and the output head, and no loss."""
    head = Head(architecture, numerics, asked)
    x = head.source(architecture.hidden_size, numerics.residual)
    prepare = _final_norm if architecture.layout != "post" else PREPARED_AFTER_POST[architecture.kind]
    logits = _logits(head, _projected_out(head, prepare(head, x)))
    return HeadTape(head.tape, x, head.width, head.tape.sizes[logits])


def record_loss(architecture: Architecture, numerics: Numerics, asked: HeadAsked) -> HeadTape:
    """Write a loss for each word of given logits: all but the last word's are copied, then cast."""
    head = Head(architecture, numerics, asked)
    logits = head.source(head.width, numerics.autocast or asked.lm_head_item)
    others = head.op((logits,), head.width, head.items[logits])
    wide = head.cast(others, head.width, FP32)
    _finish(head, head.op((wide,), head.width, FP32), (logits, wide))
    return HeadTape(head.tape, logits, head.width, head.tape.sizes[logits])


def _operand(head: Head, logits: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What the cross-entropy reads, and the locals that Python frames hold meanwhile."""
    if head.architecture.kind == "encoder_decoder":  # T5 hands its logits to the loss as they are; autocast raises them
        head.returned = logits
        return head.cast(logits, head.width, FP32 if head.n.autocast else head.items[logits]), (logits,)
    wide = head.cast(logits, head.width, FP32)
    held = (wide,) if head.asked.rebinds_logits else (logits, wide)
    head.returned = wide if head.asked.rebinds_logits else logits
    if head.asked.shifts_logits:
        return head.op((wide,), head.width, FP32), held
    return wide, held


def _finish(head: Head, operand: Tensor, held: tuple[Tensor, ...], **lifetimes: Any) -> None:
    """The last operation: a loss of no size. What frames hold counts as read here, so it lives until now."""
    locals_only = tuple(tensor for tensor in dict.fromkeys(held) if tensor != operand)
    head.op((operand, *locals_only), 0, FP32, grads=(operand,), **lifetimes)


def _hf(head: Head, normed: Tensor) -> None:
    """The loss of transformers (ForCausalLMLoss), by release. log-softmax and what follows each have a full-size gradient."""
    operand, held = _operand(head, _logits(head, normed))
    log_probs = head.op((operand,), head.width, head.items[operand], saves_output=True)
    _finish(head, log_probs, (normed, operand, *held))


def _fused_inplace(head: Head, normed: Tensor) -> None:
    """The kernel in place of log-softmax writes the gradient over its operand. Unsloth's reads the 16-bit logits."""
    logits = _logits(head, normed)
    head.returned = logits
    operand, held = (logits, ()) if head.asked.stack_name == "unsloth" else _operand(head, logits)
    overwritten = -head.tape.sizes[operand]  # the gradient is no tensor of its own
    _finish(head, operand, (normed, *held), saves=(operand,), backward_scratch=overwritten)


def _chunked_logits(head: Head, normed: Tensor) -> None:
    """Whole 16-bit logits; cast, log-softmax and its gradient an eighth at a time, every eighth's log-softmax kept."""
    logits = _logits(head, normed)
    head.returned = logits
    whole, part = (tokens * head.width * FP32 for tokens in (head.n.tokens, head.n.batch.chunk))
    _finish(head, logits, (normed,), keeps=whole, scratch=part, backward_scratch=2 * part)


def _for_chunks(head: Head, normed: Tensor) -> tuple[Tensor, tuple[Tensor, ...], int]:
    """What a loss in chunks is given: the hidden state in the dtype of the product, the head's matrix where that is a copy
    (autocast's dtype is another than the matrix's own), and bytes of the gradient of one that is none.
    """
    a, n, asked = head.architecture, head.n, head.asked
    item, gradient = n.autocast or asked.lm_head_item, _gradient_bytes(head)
    hidden = head.cast(normed, a.hidden_size, item)
    if not n.copies_weights or asked.lm_head_item == item:
        return hidden, (), gradient
    return hidden, (head.matrix((), _entries(head), item, grads=(), weight_gradient=gradient),), 0


def _chunked(head: Head, normed: Tensor) -> None:
    """Logits of a few tokens at a time, made again in backward. The hidden state is kept, and a copy of the matrix."""
    hidden, matrix, gradient = _for_chunks(head, normed)
    chunk = head.n.batch.chunk * head.width
    own = _own_chunk_bytes(head)
    forward, backward = (own, own) if own else (chunk * CHUNK_FORWARD_BYTES, chunk * CHUNK_BACKWARD_BYTES)
    head.op(
        (hidden, *matrix),
        0,
        FP32,
        grads=(hidden, *(matrix if head.asked.trains_head else ())),
        saves=(hidden, *matrix),
        scratch=forward,
        backward_scratch=backward,
        weight_gradient=gradient,
    )


def _own_chunk_bytes(head: Head) -> int:
    """What our own trainer holds of one chunk's logits at a time; none in other stacks."""
    if head.asked.stack_name != PINNED_STACK.name:
        return 0
    return head.n.batch.chunk * head.width * (OWN_CAPPED_BYTES if head.architecture.logits_softcap else OWN_CHUNK_BYTES)


def _liger(head: Head, normed: Tensor) -> None:
    """Liger's fused linear cross-entropy (arXiv:2410.10989): the hidden state's gradient is made in forward, chunk by chunk."""
    hidden, matrix, gradient = _for_chunks(head, normed)
    chunk = head.n.batch.chunk * head.width
    trained = matrix if head.asked.trains_head else ()
    made = gradient + sum(head.tape.sizes[tensor] for tensor in (hidden, *trained))
    head.op(
        (hidden, *matrix),
        0,
        FP32,
        grads=(hidden, *trained),
        keeps=made,
        scratch=_own_chunk_bytes(head) or chunk * (head.asked.lm_head_item + FP32),
        weight_gradient=gradient,
        backward_scratch=-made,  # these gradients lie where forward put them
    )


LOSSES: Final[dict[str, Callable[[Head, Tensor], None]]] = {
    "hf": _hf,
    "hf_shifted": _hf,
    "fused_inplace": _fused_inplace,
    "chunked_logits": _chunked_logits,
    "chunked": _chunked,
    "liger": _liger,
}


# ── how many tokens' logits are made at a time ─────────────────────────────────────────────────────────────────────────


def _eighth(tokens: int, _ratio: int) -> int:
    return math.ceil(tokens / NUM_CHUNKS)


def _few(tokens: int, _ratio: int) -> int:
    return min(CHUNK_TOKENS, tokens)


def _as_large_as_hidden(tokens: int, ratio: int) -> int:
    """So many, rounded up to a power of two, as make their logits about as large as the hidden state of all."""
    wanted = math.ceil(tokens / ratio)
    return min(tokens, 1 << (wanted - 1).bit_length())


CHUNKS: Final[dict[str, Callable[[int, int], int]]] = {
    "chunked_logits": _eighth,
    "chunked": _few,
    "liger": _as_large_as_hidden,
}


def _as_large_or_a_few(tokens: int, ratio: int) -> int:
    return max(_few(tokens, ratio), _as_large_as_hidden(tokens, ratio))


# derived from remote/losses.py: products of fewer tokens leave a card waiting for the head's weights
OWN_CHUNKS: Final[dict[str, Callable[[int, int], int]]] = CHUNKS | {"liger": _as_large_or_a_few}


def chunk_tokens(tokens: int, loss: str, architecture: Architecture, stack: Stack) -> int:
    """Tokens of a chunk of this loss; all of them where it has none."""
    chunks = OWN_CHUNKS if stack.name == PINNED_STACK.name else CHUNKS
    ratio = math.ceil(architecture.vocab_size / architecture.hidden_size)  # of a token's logits to its hidden state
    return chunks[loss](tokens, ratio) if loss in chunks else tokens
