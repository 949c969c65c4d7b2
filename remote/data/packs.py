"""Several sequences in one row, one behind the other, each with positions of its own from 0 on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from remote.contract import packed
from remote.data.batches import Shape, epoch_order, width_of
from remote.data.tokens import IGNORED, Example, Ids


class Pack(Example):
    """Several sequences in one row. Their tokens stay where they lie, in a file mostly, until the row is looked at."""

    def __init__(self, parts: Sequence[Example]) -> None:
        held = {"parts": tuple(parts), "num_targets": sum(example.num_targets for example in parts)}
        for name, value in (held | {"types": None, "apart": False, "embedded": None}).items():
            object.__setattr__(self, name, value)

    parts: tuple[Example, ...]

    @property
    def num_tokens(self) -> int:
        return sum(example.num_tokens for example in self.parts)

    @property
    def ids(self) -> Ids:
        return np.concatenate([example.ids for example in self.parts])

    @property
    def labels(self) -> Ids:
        """The first token of a sequence is no target: in a row of its own nothing predicts it."""
        labels = np.concatenate([example.labels for example in self.parts])
        labels[np.cumsum([0, *(example.num_tokens for example in self.parts[:-1])])] = IGNORED
        return labels

    @property
    def positions(self) -> Ids:
        return np.concatenate([np.arange(example.num_tokens, dtype=np.int32) for example in self.parts])


def packs_of(examples: Sequence[Example], seq_len: int) -> tuple[Pack, ...]:
    """The same sequences in as few rows of at most `seq_len` tokens as best fit, longest first, makes of them."""
    rows = packed([example.num_tokens for example in examples], seq_len)
    return tuple(Pack([examples[place] for place in row]) for row in rows)


class Saved(NamedTuple):
    """What packing makes of an epoch: rows before and after, and which share of what is computed on is padding."""

    rows: int
    packs: int
    padding_before: float
    padding_after: float


def saved_by(examples: Sequence[Example], packs: Sequence[Example], shape: Shape, seed: int) -> Saved:
    """Of the first epoch, in the micro-batches that are made of it and would have been."""
    return Saved(len(examples), len(packs), padding_share(examples, shape, seed), padding_share(packs, shape, seed))


def padding_share(examples: Sequence[Example], shape: Shape, seed: int) -> float:
    """Of the tokens that the first epoch computes on, those that fill rows up to the longest of their micro-batch."""
    order = epoch_order(len(examples), 0, seed)
    lengths = np.asarray([examples[row].num_tokens for row in order], dtype=np.int64)
    computed = 0
    for start in range(0, len(lengths), shape.sequences_per_step):
        step = np.sort(lengths[start : start + shape.sequences_per_step])[::-1]
        for at in range(0, len(step), shape.micro_batch_size):
            micro = step[at : at + shape.micro_batch_size]
            computed += len(micro) * width_of(int(micro[0]), shape, trains=True)
    return 1 - int(lengths.sum()) / computed
