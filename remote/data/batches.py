"""Which rows make which step, and how they become tensors. All of it is a pure function of seed and step number."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from remote.contract import WIDTH_MULTIPLE, steps_sorted
from remote.data.tokens import IGNORED, Example

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """What goes through the model at once. `attention_mask` is None where no mask may reach the kernels."""

    input_ids: torch.Tensor  # int64 [sequences, tokens]
    labels: torch.Tensor  # int64 [sequences, tokens]; of a classification [sequences], the class of each
    attention_mask: torch.Tensor | None  # int64 [sequences, tokens]
    num_targets: int  # labels that the loss sees, counted before the tensors left the host
    apart: bool = False  # whether the labels are a text of their own, [sequences, its tokens], of which nothing is shifted
    position_ids: torch.Tensor | None = None  # int64 [sequences, tokens]: where they begin again, so does a document
    token_type_ids: torch.Tensor | None = None  # int64 [sequences, tokens]: which text of a pair, where the base wants to know
    embedded: torch.Tensor | None = None  # float32 [sequences, features]: what a frozen base gives, in place of the tokens
    row_weights: torch.Tensor | None = None  # float32 [sequences], of a classification: how much each counts in the loss
    weight: float | None = None  # what all of it counts in the loss; None = as many as its targets

    def pinned(self) -> MicroBatch:
        """The micro-batch in memory from which a card fetches while the host goes on."""
        return self._each(lambda tensor: tensor.pin_memory())

    def onto(self, device: str) -> MicroBatch:
        """The micro-batch on the device. Out of pinned memory nobody waits for the copy: what computes comes behind it."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def _each(self, moved: Callable[[torch.Tensor], torch.Tensor]) -> MicroBatch:
        tensors = ((name, getattr(self, name)) for name in TENSORS)
        return replace(self, **{name: moved(tensor) for name, tensor in tensors if tensor is not None})

    @property
    def read(self) -> dict[str, torch.Tensor | None]:
        """What a model that goes on with a text is given of it, by the names of its arguments. Of packed rows no mask: from
        positions that begin again transformers makes one by itself, which it does not where it is given another.
        """
        if self.position_ids is None:
            return {"input_ids": self.input_ids, "attention_mask": self.attention_mask}
        return {"input_ids": self.input_ids, "attention_mask": None, "position_ids": self.position_ids}

    @property
    def taught(self) -> dict[str, torch.Tensor]:
        """What a decoder beside an encoder has to be given to make logits: the text that it writes."""
        return {"labels": self.labels} if self.apart else {}

    @property
    def share(self) -> float:
        """What it counts in a step, beside the step's other micro-batches."""
        return self.num_targets if self.weight is None else self.weight

    @property
    def num_tokens(self) -> int:
        """Tokens computed on, padding included."""
        return int(self.input_ids.numel() + (self.labels.numel() if self.apart else 0))


TENSORS: Final = ("input_ids", "labels", "attention_mask", "position_ids", "token_type_ids", "embedded", "row_weights")
Batch = tuple[MicroBatch, ...]  # the micro-batches of one optimizer step


@dataclass(frozen=True, eq=False, kw_only=True)
class Drawn:
    """What decides the order of an epoch beside its seed. Known by which it is, not by what it holds: each step asks for its
    epoch's order, and to hash a million lengths takes longer than to look one up.
    """

    shares: tuple[float, ...] = ()  # how likely each row is drawn; () = each comes once an epoch
    lengths: tuple[int, ...] = ()  # tokens of each row, where rows of like length make a step; () = as they are drawn


EVENLY: Final = Drawn()  # each row once an epoch, in no order


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How rows are laid out: the Strategy's batch, the padding token, the device."""

    micro_batch_size: int
    gradient_accumulation_steps: int
    seq_len: int  # the longest row
    padded: bool
    pad_token_id: int
    device: str  # "cuda" or "cpu"
    class_weights: tuple[float, ...] = ()  # of a classification, what a row of each class counts in the loss
    drawn: Drawn = EVENLY
    trained_multiple: int = 1  # tokens that a width in training is a multiple of, where that is more than the device wants

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
def epoch_order(
    num_examples: int, epoch: int, seed: int, drawn: Drawn = EVENLY, sequences_per_step: int = 1
) -> tuple[int, ...]:
    """The order of the rows in one epoch; with shares each place is drawn by these, so that a row may come again.

    With lengths rows of like length stand where a step will find them together.
    """
    chance = random.Random(f"{seed}/{epoch}")  # noqa: S311 - an order, not a secret
    order = list(range(num_examples))
    if drawn.shares:
        order = chance.choices(order, weights=drawn.shares, k=num_examples)
    else:
        chance.shuffle(order)
    if drawn.lengths:
        begun = -epoch * num_examples % sequences_per_step  # rows that end a step which the epoch before began
        order = _by_length(order, drawn.lengths, range(min(begun, num_examples), num_examples, sequences_per_step), chance)
    return tuple(order)


def _by_length(order: list[int], lengths: Sequence[int], starts: range, chance: random.Random) -> list[int]:
    """`order` with rows of like length in the same step, and the steps in an order of their own. `starts`: of the steps; the
    rows of one that belongs to two epochs stay as they were drawn.
    """
    whole = starts[: (starts.stop - starts.start) // starts.step]
    together = steps_sorted(len(order), starts.step)
    steps = []
    for first in range(0, len(whole), together):
        group = whole[first : first + together]
        rows = sorted(order[group[0] : group[-1] + starts.step], key=lengths.__getitem__)
        steps += [rows[at : at + starts.step] for at in range(0, len(rows), starts.step)]
    chance.shuffle(steps)
    end = starts.start + len(whole) * starts.step
    return [*order[: starts.start], *(row for step in steps for row in step), *order[end:]]


def rows_of_step(step: int, num_examples: int, sequences_per_step: int, seed: int, drawn: Drawn = EVENLY) -> list[int]:
    """Indices of the rows of optimizer step `step` (from 0): the epochs' orders, one after the other, cut evenly."""
    positions = range(step * sequences_per_step, (step + 1) * sequences_per_step)
    epochs = range(positions[0] // num_examples, positions[-1] // num_examples + 1)
    together = sequences_per_step if drawn.lengths else 1
    orders = {epoch: epoch_order(num_examples, epoch, seed, drawn, together) for epoch in epochs}
    return [orders[at // num_examples][at % num_examples] for at in positions]


def batch_of_step(step: int, examples: Sequence[Example], shape: Shape, seed: int) -> Batch:
    """The batch of optimizer step `step`. Rows of like length share a micro-batch: the step is the same, padding is less."""
    return tuple(micro.onto(shape.device) for micro in host_batch_of_step(step, examples, shape, seed))


def host_batch_of_step(step: int, examples: Sequence[Example], shape: Shape, seed: int) -> Batch:
    """The batch of an optimizer step before it is on the device, in pinned memory where that is a card."""
    rows = rows_of_step(step, len(examples), shape.sequences_per_step, seed, shape.drawn)
    chosen = sorted((examples[index] for index in rows), key=_length, reverse=True)
    size = shape.micro_batch_size
    made = (_on_host(chosen[at : at + size], shape, trains=True) for at in range(0, len(chosen), size))
    return tuple(made if shape.device == "cpu" else (micro.pinned() for micro in made))


def longest_batch(examples: Sequence[Example], shape: Shape) -> Batch:
    """The heaviest step that this data can make: its longest rows (repeated where there are too few)."""
    longest = sorted(examples, key=_length, reverse=True)[: shape.sequences_per_step]
    repeated = [longest[index % len(longest)] for index in range(shape.sequences_per_step)]
    repeated.sort(key=_length, reverse=True)
    size = shape.micro_batch_size
    made = (_on_host(repeated[at : at + size], shape, trains=True) for at in range(0, len(repeated), size))
    return tuple(micro.onto(shape.device) for micro in made)


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
    return _on_host(examples, shape).onto(shape.device)


def width_of(longest: int, shape: Shape, *, trains: bool) -> int:
    """Tokens of each row of a micro-batch whose longest one has so many; for the sake of few widths no more than may be."""
    own = WIDTH_MULTIPLE[shape.device]
    least = _up(longest, own)
    return max(least, min(_up(longest, shape.trained_multiple), _up(shape.seq_len, own))) if trains else least


def _up(tokens: int, multiple: int) -> int:
    return math.ceil(tokens / multiple) * multiple


def _on_host(examples: Sequence[Example], shape: Shape, *, trains: bool = False) -> MicroBatch:
    import torch

    if shape.class_weights:
        return _of_classes(examples, shape)
    if examples[0].apart:
        return _of_pairs(examples, shape)
    width = width_of(max(example.num_tokens for example in examples), shape, trains=trains)
    ids = np.full((len(examples), width), shape.pad_token_id, dtype=np.int64)
    labels = np.full((len(examples), width), IGNORED, dtype=np.int64)
    mask = np.zeros((len(examples), width), dtype=np.int64)
    positions = np.zeros((len(examples), width), dtype=np.int64)
    for row, example in enumerate(examples):
        if example.positions is not None:
            positions[row, : example.num_tokens] = example.positions
            positions[row, example.num_tokens :] = np.arange(width - example.num_tokens)  # padding is a document as well
        ids[row, : example.num_tokens] = example.ids
        labels[row, : example.num_tokens] = example.labels
        mask[row, : example.num_tokens] = 1
    return MicroBatch(
        input_ids=torch.from_numpy(ids),
        labels=torch.from_numpy(labels),
        attention_mask=torch.from_numpy(mask) if shape.padded else None,
        num_targets=sum(example.num_targets for example in examples),
        position_ids=torch.from_numpy(positions) if examples[0].positions is not None else None,
    )


def _of_pairs(examples: Sequence[Example], shape: Shape) -> MicroBatch:
    """What an encoder reads, which looks everywhere and so has a mask, and what its decoder is taught."""
    import torch

    multiple = WIDTH_MULTIPLE[shape.device]
    widths = (max(example.num_tokens for example in examples), max(len(example.labels) for example in examples))
    read, taught = (math.ceil(width / multiple) * multiple for width in widths)
    ids = np.full((len(examples), read), shape.pad_token_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    labels = np.full((len(examples), taught), IGNORED, dtype=np.int64)
    for row, example in enumerate(examples):
        ids[row, : example.num_tokens] = example.ids
        mask[row, : example.num_tokens] = 1
        labels[row, : len(example.labels)] = example.labels
    return MicroBatch(
        input_ids=torch.from_numpy(ids),
        labels=torch.from_numpy(labels),
        attention_mask=torch.from_numpy(mask),
        num_targets=sum(example.num_targets for example in examples),
        apart=True,
    )


def _of_classes(examples: Sequence[Example], shape: Shape) -> MicroBatch:
    """Sequences with one label each. An encoder looks everywhere, so where the lengths differ there is a mask."""
    import torch

    multiple = WIDTH_MULTIPLE[shape.device]
    width = math.ceil(max(example.num_tokens for example in examples) / multiple) * multiple
    ids = np.full((len(examples), width), shape.pad_token_id, dtype=np.int64)
    mask, types = np.zeros_like(ids), np.zeros_like(ids)
    for row, example in enumerate(examples):
        ids[row, : example.num_tokens] = example.ids
        mask[row, : example.num_tokens] = 1
        if example.types is not None:
            types[row, : example.num_tokens] = example.types
    classes = [int(example.labels[0]) for example in examples]
    weights = [shape.class_weights[number] for number in classes]
    told = examples[0].types is not None
    embedded = [example.embedded for example in examples if example.embedded is not None]
    return MicroBatch(
        input_ids=torch.from_numpy(ids),
        labels=torch.tensor(classes, dtype=torch.int64),
        attention_mask=torch.from_numpy(mask) if shape.padded else None,
        num_targets=len(examples),
        token_type_ids=torch.from_numpy(types) if told else None,
        embedded=torch.from_numpy(np.stack(embedded)) if embedded else None,
        row_weights=torch.tensor(weights, dtype=torch.float32),
        weight=sum(weights),
    )
