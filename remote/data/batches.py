"""Which rows make which step, and how they become tensors. All of it is a pure function of seed and step number."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from remote.contract import WIDTH_MULTIPLE
from remote.data.tokens import IGNORED, Example

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """What goes through the model at once. `attention_mask` is None where no mask may reach the kernels."""

    input_ids: torch.Tensor  # int64 [sequences, tokens]
    labels: torch.Tensor  # int64 [sequences, tokens]
    attention_mask: torch.Tensor | None  # int64 [sequences, tokens]
    num_targets: int  # labels that the shifted loss sees, counted before the tensors left the host

    @property
    def num_tokens(self) -> int:
        """Tokens computed on, padding included."""
        return int(self.input_ids.shape[0] * self.input_ids.shape[1])


Batch = tuple[MicroBatch, ...]  # the micro-batches of one optimizer step


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How rows are laid out: the Strategy's batch, the padding token, the device."""

    micro_batch_size: int
    gradient_accumulation_steps: int
    seq_len: int  # the longest row
    padded: bool
    pad_token_id: int
    device: str  # "cuda" or "cpu"

    @property
    def sequences_per_step(self) -> int:
        return self.micro_batch_size * self.gradient_accumulation_steps

    @property
    def tokens_per_micro_batch(self) -> int:
        """What the plan says that memory holds at once, in training; without gradients it is more than safe."""
        return self.micro_batch_size * self.seq_len


def total_steps(num_examples: int, epochs: float, max_steps: int | None, sequences_per_step: int) -> int:
    """Optimizer steps of the run: rows seen in all, divided by the rows of a step, rounded up; at least one."""
    steps = max(1, math.ceil(round(num_examples * epochs) / sequences_per_step))
    return steps if max_steps is None else min(steps, max_steps)


@lru_cache(maxsize=4)
def epoch_order(num_examples: int, epoch: int, seed: int) -> tuple[int, ...]:
    """The order of the rows in one epoch."""
    order = list(range(num_examples))
    random.Random(f"{seed}/{epoch}").shuffle(order)  # noqa: S311 - an order, not a secret
    return tuple(order)


def rows_of_step(step: int, num_examples: int, sequences_per_step: int, seed: int) -> list[int]:
    """Indices of the rows of optimizer step `step` (from 0): the epochs' orders, one after the other, cut evenly."""
    first = step * sequences_per_step
    positions = range(first, first + sequences_per_step)
    return [epoch_order(num_examples, at // num_examples, seed)[at % num_examples] for at in positions]


def batch_of_step(step: int, examples: Sequence[Example], shape: Shape, seed: int) -> Batch:
    """The batch of optimizer step `step`. Rows of like length share a micro-batch: the step is the same, padding is less."""
    chosen = [examples[index] for index in rows_of_step(step, len(examples), shape.sequences_per_step, seed)]
    return batched(sorted(chosen, key=_length, reverse=True), shape)


def longest_batch(examples: Sequence[Example], shape: Shape) -> Batch:
    """The heaviest step that this data can make: its longest rows (repeated where there are too few)."""
    longest = sorted(examples, key=_length, reverse=True)[: shape.sequences_per_step]
    repeated = [longest[index % len(longest)] for index in range(shape.sequences_per_step)]
    return batched(sorted(repeated, key=_length, reverse=True), shape)


def filled(examples: Sequence[Example], tokens: int) -> list[list[int]]:
    """Indices of `examples` in batches of rows of like length, each of at most `tokens` tokens after padding (or one row)."""
    batches: list[list[int]] = []
    for index in sorted(range(len(examples)), key=lambda index: examples[index].num_tokens):
        if batches and (len(batches[-1]) + 1) * examples[index].num_tokens <= tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def _length(example: Example) -> int:
    return example.num_tokens


def batched(examples: Sequence[Example], shape: Shape) -> Batch:
    size = shape.micro_batch_size
    return tuple(collated(examples[at : at + size], shape) for at in range(0, len(examples), size))


def collated(examples: Sequence[Example], shape: Shape) -> MicroBatch:
    """Pad on the right to the longest row. A causal model never looks right, so no mask is needed unless asked for."""
    import torch

    multiple = WIDTH_MULTIPLE[shape.device]
    width = math.ceil(max(example.num_tokens for example in examples) / multiple) * multiple
    ids = np.full((len(examples), width), shape.pad_token_id, dtype=np.int64)
    labels = np.full((len(examples), width), IGNORED, dtype=np.int64)
    mask = np.zeros((len(examples), width), dtype=np.int64)
    for row, example in enumerate(examples):
        ids[row, : example.num_tokens] = example.ids
        labels[row, : example.num_tokens] = example.labels
        mask[row, : example.num_tokens] = 1
    return MicroBatch(
        input_ids=torch.from_numpy(ids).to(shape.device),
        labels=torch.from_numpy(labels).to(shape.device),
        attention_mask=torch.from_numpy(mask).to(shape.device) if shape.padded else None,
        num_targets=sum(example.num_targets for example in examples),
    )
