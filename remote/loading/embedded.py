"""Rows as a frozen base sees them, once, for a head that learns alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from remote.bases.given import PLACES, given_by, place_of
from remote.data.batches import Shape, collated, filled
from remote.data.smote import drawn_between
from remote.data.tokens import Example
from remote.desk import Desk
from remote.step import StepSettings, autocast


def with_drawn_rows(
    model: Any, examples: Sequence[Example], shape: Shape, settings: StepSettings, *, seed: int, desk: Desk
) -> tuple[Example, ...]:
    """The rows as embeddings, and as many drawn between them as make every class as common as the commonest."""
    rows = _embedded(model, examples, shape, settings, desk)
    classes = [int(example.labels[0]) for example in examples]
    drawn, named = drawn_between(rows, classes, seed)
    told = f"smote: {len(examples):,} rows are shown as {len(examples) + len(named):,} in each epoch"
    desk.events.warn(f"{told}, {len(named):,} of them drawn between the embeddings of two")
    return tuple(
        Example(ids=np.zeros(1, dtype=np.int32), labels=np.asarray([number], dtype=np.int32), num_targets=1, embedded=row)
        for row, number in zip(torch.cat([rows, drawn]).numpy(), (*classes, *named), strict=True)
    )


def _embedded(model: Any, examples: Sequence[Example], shape: Shape, settings: StepSettings, desk: Desk) -> torch.Tensor:
    """float32 [rows, features], in the rows' order, in batches as heavy as an evaluation's."""
    found: list[torch.Tensor | None] = [None] * len(examples)
    place: str | None = None
    was_training = model.training
    model.eval()
    try:
        for rows in reversed(filled(examples, shape.tokens_per_micro_batch)):  # in the longest rows each place is another one
            desk.watch.check()
            micro = collated([examples[row] for row in rows], shape)
            read = {"input_ids": micro.input_ids} | (
                {} if micro.token_type_ids is None else {"token_type_ids": micro.token_type_ids}
            )
            mask = micro.attention_mask if micro.attention_mask is not None else torch.ones_like(micro.input_ids)
            with torch.no_grad(), autocast(settings):
                place = place or place_of(model, read, mask)
                given = PLACES[place](given_by(model, read, mask)[0], mask).float().cpu()
            for row, each in zip(rows, given, strict=True):
                found[row] = each
    finally:
        model.train(was_training)
    return torch.stack([row for row in found if row is not None])
