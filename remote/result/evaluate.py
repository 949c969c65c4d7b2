"""Held-out loss, row by row, so that before and after can be compared in pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import torch

from remote.contract import Evaluation
from remote.data.batches import MicroBatch, Shape, collated
from remote.data.tokens import IGNORED, Example
from remote.step import StepSettings, autocast


def evaluate(
    model: Any,
    examples: Sequence[Example],
    shape: Shape,
    settings: StepSettings,
    *,
    step: int,
    between: Callable[[int, int], None],
) -> Evaluation:
    """Mean loss over its labels for each example, in their order, and the mean of those means.

    Rows of like length share a batch, cut the same way every time: the same weights give the same figures to the last
    bit. `between(done, total)` is called after each batch and may raise to break off.
    """
    losses = [0.0] * len(examples)
    order = sorted(range(len(examples)), key=lambda index: examples[index].num_tokens)
    was_training = model.training
    model.eval()
    try:
        for at in range(0, len(order), shape.micro_batch_size):
            rows = order[at : at + shape.micro_batch_size]
            found = _row_losses(model, collated([examples[row] for row in rows], shape), settings)
            for row, loss in zip(rows, found, strict=True):
                losses[row] = loss
            between(at + len(rows), len(order))
    finally:
        model.train(was_training)
    return Evaluation(step=step, mean_loss=fmean(losses), row_losses=tuple(losses))


def _row_losses(model: Any, micro: MicroBatch, settings: StepSettings) -> list[float]:
    """Mean cross-entropy of each sequence's labels. Logits become fp32 at labelled positions only."""
    with torch.no_grad(), autocast(settings):
        logits = model(input_ids=micro.input_ids, attention_mask=micro.attention_mask, use_cache=False).logits
    targets = micro.labels[:, 1:]
    learned = targets != IGNORED
    per_token = torch.nn.functional.cross_entropy(logits[:, :-1][learned].float(), targets[learned], reduction="none")
    spread = torch.zeros(targets.shape, dtype=torch.float64, device=per_token.device)
    spread[learned] = per_token.double()
    means: list[float] = (spread.sum(dim=1) / learned.sum(dim=1)).tolist()
    return means
