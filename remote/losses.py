"""How hidden states become a loss: transformers' own way, or a few tokens at a time, so that logits are never whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import torch

from remote.adapters.wrapping import base_of
from remote.bases.given import logits_of_one, standing_in
from remote.contract import Autocast, Loss
from remote.data.batches import MicroBatch
from remote.data.tokens import IGNORED
from remote.ends import Ended, bad_job
from remote.streaming.vocabulary import matrix_of

CHUNK_TOKENS: Final = 256  # derived: chunk of TRL's chunked loss (trl 1.10, trainer/utils.py)


class Head(NamedTuple):
    """An output matrix as a loss reads it, and what the model does to its product: divided, then capped."""

    weight: torch.Tensor  # [vocabulary, hidden]
    bias: torch.Tensor | None  # [vocabulary]
    dtype: torch.dtype  # that the product is computed in
    divisor: float
    cap: float | None  # c of c·tanh(logit / c)

    def log_probs(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """float32 [tokens, vocabulary] of hidden states, and tanh of the logits where they are capped."""
        logits = torch.nn.functional.linear(hidden, self.weight, self.bias).float()
        if self.divisor != 1.0:
            logits.div_(self.divisor)
        if self.cap is None:
            return torch.log_softmax(logits, dim=-1), None
        bent = logits.div_(self.cap).tanh_()
        return torch.log_softmax(bent * self.cap, dim=-1), bent


class Asked(NamedTuple):
    """One micro-batch after the last block."""

    hidden: torch.Tensor  # [tokens, hidden], in the dtype of the head's product
    targets: torch.Tensor  # int64 [tokens]; IGNORED where nothing is learned
    head: Head
    chunk_tokens: int

    def chunks(self) -> Iterator[slice]:
        tokens = self.targets.shape[0]
        return (slice(at, min(at + self.chunk_tokens, tokens)) for at in range(0, tokens, self.chunk_tokens))


# ── which loss ─────────────────────────────────────────────────────────────────────────────────────────────────────


def mean_loss(model: torch.nn.Module, micro: MicroBatch, loss: Loss, autocast: Autocast) -> torch.Tensor:
    """Mean cross-entropy over a micro-batch's labels, a scalar that backward may be called on. To be called under `autocast`.

    `loss`: "hf" is transformers' own. "chunked" makes logits of 256 tokens at a time, and again in backward. "liger" makes the
    gradient of the hidden state beside the loss, in chunks about as large as that state or of 256 tokens: the algorithm of
    Liger's fused linear cross-entropy (arXiv:2410.10989) in plain torch, without a compiler on the box. Each of the latter two
    holds one chunk's logits at a time: 8 bytes per logit at the most, 12 where the model caps them. Raises `Ended` (bad job)
    where the output matrix is not a plain one.
    """
    if micro.labels.ndim == 1:
        per_row = class_losses(class_logits(model, micro), micro.labels)
        return per_row.mean() if micro.row_weights is None else (per_row * micro.row_weights).sum() / micro.row_weights.sum()
    if loss == "hf":
        found: torch.Tensor = model(**micro.read, labels=micro.labels, use_cache=False).loss
        return found
    asked = _asked(model, micro, loss, autocast)
    anchor = torch.zeros((), device=asked.hidden.device, requires_grad=True)  # where the head alone trains, hidden does not
    total: torch.Tensor = _IN_CHUNKS[loss].apply(asked.hidden, asked.head.weight, asked.head.bias, anchor, asked)
    return total / micro.num_targets


def class_logits(model: torch.nn.Module, micro: MicroBatch) -> torch.Tensor:
    """float32 [sequences, classes]. Nothing is written after them, so no keys and values are kept for it. Of rows as embeddings
    the head alone makes them.
    """
    if micro.embedded is not None:
        with standing_in(model, micro.embedded):
            return logits_of_one(model, len(micro.embedded), micro.embedded.device).float()
    types = {} if micro.token_type_ids is None else {"token_type_ids": micro.token_type_ids}
    read = {"input_ids": micro.input_ids, "attention_mask": micro.attention_mask, **types}
    logits: torch.Tensor = model(**read, use_cache=False).logits
    return logits.float()


def class_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each sequence's class, float32 [sequences]."""
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none")


def token_losses(model: torch.nn.Module, micro: MicroBatch, loss: Loss, autocast: Autocast) -> torch.Tensor:
    """Cross-entropy of what follows each token, float32 [sequences, tokens], 0 where nothing is learned; made in chunks."""
    asked = _asked(model, micro, loss, autocast)
    found = torch.cat([_losses(asked.head.log_probs(asked.hidden[part])[0], asked.targets[part]) for part in asked.chunks()])
    return found.view(micro.labels.shape[0], -1)


def _asked(model: torch.nn.Module, micro: MicroBatch, loss: Loss, autocast: Autocast) -> Asked:
    module = output_matrix(model)
    with _listening(module) as heard:
        model(**micro.read, use_cache=False)
    hidden = heard[0][:, -micro.labels.shape[1] :]  # without the positions that a prompt stands in
    head = _head(model, module, autocast)
    tokens, width = hidden.shape[0] * hidden.shape[1], hidden.shape[2]
    chunk = CHUNKS[loss](tokens, math.ceil(head.weight.shape[0] / width))
    targets = torch.nn.functional.pad(micro.labels[:, 1:], (0, 1), value=IGNORED)  # so that the hidden state needs no copy
    return Asked(hidden.reshape(tokens, width).to(head.dtype), targets.reshape(tokens), head, chunk)


def output_matrix(model: torch.nn.Module) -> Any:
    """The linear that makes logits. Raises `Ended` (bad job) where it is none that a chunk can be multiplied by."""
    module = base_of(model).get_output_embeddings()
    saved = getattr(module, "modules_to_save", None)  # peft's copy that trains, in place of the base's
    if saved is not None:
        module = saved[module.active_adapters[0]]
    if type(module) is not torch.nn.Linear:
        raise bad_job(f"the output matrix is a {type(module).__name__}; a loss in chunks needs a plain one: say loss hf")
    return module


def takes_chunks(model: torch.nn.Module) -> bool:
    """Whether its logits can be made a few tokens at a time: a decoder beside an encoder is read whole."""
    if base_of(model).config.is_encoder_decoder:
        return False
    try:
        output_matrix(model)
    except Ended:
        return False
    return True


@contextmanager
def _listening(module: Any) -> Iterator[list[torch.Tensor]]:
    """What comes to `module` instead of passing through it; it answers with logits of an empty vocabulary."""
    heard: list[torch.Tensor] = []

    def hear(hidden: torch.Tensor) -> torch.Tensor:
        heard.append(hidden)
        return hidden[..., :0]

    own = module.__dict__.get("forward")
    module.forward = hear
    try:
        yield heard
    finally:
        del module.forward
        if own is not None:
            module.forward = own


def _head(model: torch.nn.Module, module: Any, autocast: Autocast) -> Head:
    config = base_of(model).config.get_text_config()
    dtype = module.weight.dtype if autocast == "none" else getattr(torch, autocast)
    scale = getattr(config, "logit_scale", None)
    return Head(
        weight=matrix_of(module).to(dtype),
        bias=None if module.bias is None else module.bias.to(dtype),
        dtype=dtype,
        divisor=getattr(config, "logits_scaling", None) or (1 / scale if isinstance(scale, float) else 1.0),
        cap=getattr(config, "final_logit_softcapping", None),
    )


# ── a chunk ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _losses(log_probs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.nll_loss(log_probs, targets, ignore_index=IGNORED, reduction="none")


def _with_gradient(head: Head, hidden: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(summed loss, its gradient by the head's product: softmax minus one at the target, by the slope of a cap)."""
    log_probs, bent = head.log_probs(hidden)
    total = _losses(log_probs, targets).sum()
    learned = targets != IGNORED
    gradient = log_probs.exp_()
    index = targets.where(learned, 0).unsqueeze(1)
    gradient.scatter_add_(1, index, gradient.new_full((1, 1), -1.0).expand(index.shape))
    gradient.mul_(learned.unsqueeze(1))
    if bent is not None:  # of c·tanh(x / c): 1 - tanh²(x / c)
        gradient.mul_(bent.square_().neg_().add_(1.0))
    if head.divisor != 1.0:
        gradient.div_(head.divisor)
    return total, gradient.to(head.dtype)


class _Gradients:
    """Gradients of the summed loss, filled chunk by chunk: of the hidden state, and of the head where it trains."""

    def __init__(self, asked: Asked, needed: tuple[bool, bool, bool]) -> None:
        self._asked = asked
        sources = (asked.hidden, asked.head.weight, asked.head.bias)
        self.hidden, self.weight, self.bias = (
            torch.zeros_like(source) if wanted and source is not None else None
            for source, wanted in zip(sources, needed, strict=True)
        )

    def add(self, part: slice) -> torch.Tensor:
        """What the tokens of `part` give. Returns their summed loss."""
        total, product = _with_gradient(self._asked.head, self._asked.hidden[part], self._asked.targets[part])
        if self.hidden is not None:
            torch.mm(product, self._asked.head.weight, out=self.hidden[part])
        if self.weight is not None:
            self.weight.addmm_(product.T, self._asked.hidden[part])
        if self.bias is not None:
            self.bias.add_(product.sum(dim=0))
        return total

    def times(self, factor: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return tuple(found if found is None else found.mul_(factor) for found in (self.hidden, self.weight, self.bias))


class _Chunked(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    """Summed loss; the logits of each chunk are made once more in backward."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, _anchor: Any, asked: Asked
    ) -> Any:
        ctx.save_for_backward(hidden, weight, bias)
        ctx.asked = asked._replace(hidden=hidden.new_empty(0), head=asked.head._replace(weight=weight.new_empty(0), bias=None))
        parts = [_losses(asked.head.log_probs(hidden[part])[0], asked.targets[part]).sum() for part in asked.chunks()]
        return torch.stack(parts).sum()

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        hidden, weight, bias = ctx.saved_tensors
        asked = ctx.asked._replace(hidden=hidden, head=ctx.asked.head._replace(weight=weight, bias=bias))
        found = _Gradients(asked, ctx.needs_input_grad[:3])
        for part in asked.chunks():
            found.add(part)
        return (*found.times(outer[0]), None, None)


class _WithGradient(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    """Summed loss, its gradient made beside it: backward only multiplies."""

    @staticmethod
    def forward(ctx: Any, _hidden: Any, _weight: Any, _bias: Any, _anchor: Any, asked: Asked) -> Any:
        ctx.found = _Gradients(asked, ctx.needs_input_grad[:3])
        return torch.stack([ctx.found.add(part) for part in asked.chunks()]).sum()

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        found, ctx.found = ctx.found, None
        return (*found.times(outer[0]), None, None)


_IN_CHUNKS: Final[Mapping[str, Any]] = {"chunked": _Chunked, "liger": _WithGradient}


# ── how many tokens' logits are made at a time ─────────────────────────────────────────────────────────────────────


def _few(tokens: int, _ratio: int) -> int:
    return min(CHUNK_TOKENS, tokens)


def _as_large_as_hidden(tokens: int, ratio: int) -> int:
    """So many, up to a power of two, as make their logits about as large as the hidden state of all; no fewer than a few.

    measured: in chunks of 128 Llama 3.2 1B took 8 % longer than "chunked" in chunks of 256, which multiplies once more (one
    NVIDIA H200, 2 × 2,048 tokens, 2026-11-27).
    """
    return max(_few(tokens, ratio), min(tokens, 1 << (math.ceil(tokens / ratio) - 1).bit_length()))


CHUNKS: Final[Mapping[str, Callable[[int, int], int]]] = {"chunked": _few, "liger": _as_large_as_hidden}
