"""Held-out loss, row by row, so that before and after can be compared in pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import torch

from remote.contract import Evaluation
from remote.data.batches import MicroBatch, Shape, collated, filled
from remote.data.tokens import IGNORED, Example
from remote.losses import class_logits, class_losses, token_losses
from remote.result.metrics import metrics_of, taken_for
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
    chances: dict[int, list[float]] = {}
    was_training = model.training
    model.eval()
    try:
        for rows in filled(examples, shape.tokens_per_micro_batch):
            micro = collated([examples[row] for row in rows], shape)
            if shape.class_weights:
                found, likely = _judged_classes(model, micro, settings)
                chances.update(zip(rows, likely, strict=True))
            else:
                found = row_losses(model, micro, settings)
            losses.update(zip(rows, found, strict=True))
            between(len(losses), len(examples))
    finally:
        model.train(was_training)
    by_row = tuple(losses[row] for row in range(len(examples)))
    in_order = np.asarray([chances[row] for row in sorted(chances)])
    labels = [int(example.labels[0]) for example in examples] if chances else []
    return Evaluation(
        step=step,
        mean_loss=fmean(by_row),
        row_losses=by_row,
        metrics=metrics_of(in_order, labels) if chances else {},
        confusion=taken_for(in_order, labels) if chances else (),
    )


def _judged_classes(model: Any, micro: MicroBatch, settings: StepSettings) -> tuple[list[float], list[list[float]]]:
    """Cross-entropy of each sequence's class, unweighted, and how likely each class is."""
    logits = class_logits_of(model, micro, settings)
    losses: list[float] = class_losses(logits, micro.labels).double().tolist()
    chances: list[list[float]] = torch.softmax(logits.double(), dim=-1).tolist()
    return losses, chances


def class_logits_of(model: Any, micro: MicroBatch, settings: StepSettings) -> torch.Tensor:
    """float32 [sequences, classes], without a gradient."""
    with torch.no_grad(), autocast(settings):
        return class_logits(model, micro)


def row_losses(model: Any, micro: MicroBatch, settings: StepSettings) -> list[float]:
    """Mean cross-entropy of each sequence's labels."""
    if settings.loss != "hf":
        return means(losses_in_chunks(model, micro, settings).double(), micro.labels[:, 1:] != IGNORED)
    answers = answers_to(model, micro, settings)
    learned = answers.targets != IGNORED
    per_token = answers.losses(lambda each: each[learned])
    spread = torch.zeros(learned.shape, dtype=torch.float64, device=per_token.device)
    spread[learned] = per_token.double()
    return means(spread, learned)


def losses_in_chunks(model: Any, micro: MicroBatch, settings: StepSettings) -> torch.Tensor:
    """Cross-entropy of what follows each token, float32 [sequences, tokens], without a gradient; logits are never whole."""
    with torch.no_grad(), autocast(settings):
        return token_losses(model, micro, settings.loss, settings.autocast)


class Answers(NamedTuple):
    """What a model says, whole, and what it was to say."""

    logits: torch.Tensor  # [sequences, tokens, vocabulary]
    targets: torch.Tensor  # int64 [sequences, tokens]; IGNORED where nothing is learned

    def losses(self, picked: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Cross-entropy, float32 [tokens], of the tokens that `picked` takes out of both. Logits become fp32 of these alone."""
        return torch.nn.functional.cross_entropy(picked(self.logits).float(), picked(self.targets), reduction="none")


def answers_to(model: Any, micro: MicroBatch, settings: StepSettings) -> Answers:
    """A forward pass over a micro-batch, without a gradient."""
    with torch.no_grad(), autocast(settings):
        logits = model(**micro.read, **micro.taught, use_cache=False).logits
    logits = logits[:, -micro.labels.shape[1] :]  # without the positions that a prompt stands in
    return Answers(logits, micro.labels) if micro.apart else Answers(logits[:, :-1], micro.labels[:, 1:])


def means(losses: torch.Tensor, learned: torch.Tensor) -> list[float]:
    """Of each row of losses, over the tokens that are learned."""
    found: list[float] = (losses.sum(dim=1) / learned.sum(dim=1)).tolist()
    return found
