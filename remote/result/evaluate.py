"""Held-out loss, row by row, so that before and after can be compared in pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import torch

from remote.contract import Evaluation
from remote.data.batches import MicroBatch, Shape, collated, filled
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

    Batches are as heavy as those in training, and cut the same way every time: the same weights give the same figures to
    the last bit. `between(done, total)` is called after each batch and may raise to break off.
    """
    losses: dict[int, float] = {}
    was_training = model.training
    model.eval()
    try:
        for rows in filled(examples, shape.tokens_per_micro_batch):
            found = row_losses(model, collated([examples[row] for row in rows], shape), settings)
            losses.update(zip(rows, found, strict=True))
            between(len(losses), len(examples))
    finally:
        model.train(was_training)
    by_row = tuple(losses[row] for row in range(len(examples)))
    return Evaluation(step=step, mean_loss=fmean(by_row), row_losses=by_row)


def row_losses(model: Any, micro: MicroBatch, settings: StepSettings) -> list[float]:
    """Mean cross-entropy of each sequence's labels. Logits become fp32 at labelled positions only."""
    with torch.no_grad(), autocast(settings):
        logits = model(input_ids=micro.input_ids, attention_mask=micro.attention_mask, use_cache=False).logits
    logits = logits[:, -micro.labels.shape[1] :]  # without the positions that a prompt stands in
    targets = micro.labels[:, 1:]
    learned = targets != IGNORED
    per_token = torch.nn.functional.cross_entropy(logits[:, :-1][learned].float(), targets[learned], reduction="none")
    spread = torch.zeros(targets.shape, dtype=torch.float64, device=per_token.device)
    spread[learned] = per_token.double()
    means: list[float] = (spread.sum(dim=1) / learned.sum(dim=1)).tolist()
    return means
