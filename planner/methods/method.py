"""`Method`: all that the estimators ask of a way to tune."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, get_args

import msgspec

from catalogs.architectures import Architecture
from remote.contract import Strategy

Formula = Callable[[Architecture, Strategy], int]
Part = Literal["weights", "norms", "biases"]
EVERYTHING: Final[frozenset[Part]] = frozenset(get_args(Part))


class Adapter(msgspec.Struct, frozen=True):
    """What a method hangs on linears of the base. Which where `target_modules` says "default": DEFAULT_TARGETS."""

    computes: Literal["product", "scale"]  # a low-rank product beside the linear's own; a learned factor per feature


class Method(msgspec.Struct, frozen=True):
    """A way to tune, with all that the estimators ask of one. `trainable` None: known, but without a closed form yet."""

    paper: str
    trainable: Formula | None
    has_rank: bool = False
    moves: frozenset[Part] = frozenset()  # parts of the base itself that are trained; empty = all that moves is added to it
    top_blocks_only: bool = False  # what moves does so in the last `trainable_layers` blocks, and nowhere else
    adapter: Adapter | None = None
    prompt: bool = False  # trains `num_virtual_tokens` tokens that stand in front of each sequence

    @property
    def moves_linears(self) -> bool:
        """Whether parameters of the base's linears are trained, so that these can't be quantized."""
        return bool(self.moves & {"weights", "biases"})

    @property
    def moves_in_every_block(self) -> frozenset[Part]:
        """What is trained in each block alike."""
        return frozenset() if self.top_blocks_only else self.moves

    @property
    def moves_all(self) -> bool:
        """Whether every parameter is trained: all blocks, the vocabulary, the task's head."""
        return self.moves_in_every_block == EVERYTHING
