"""Moves that lower what a job takes of a GPU, by name: the keys of a strategy that each sets, and where it may be made.

Whoever asks what would spare memory takes them from here: the levers beside an estimate, the ladders of a search.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from catalogs.hardware import Gpu
from planner.estimators.memory.held.optimizers import is_paged
from planner.methods import METHODS
from planner.strategy.cuts import cut_of
from remote.contract import PASSING_TOO, Strategy

MoveName = Literal[
    "states of 8 bits",
    "paged states",
    "no logits",
    "logits in chunks",
    "parted by ZeRO",
    "states in RAM",
    "streamed",
    "weights in RAM",
    "no upcast",
    "vocabulary passes",
]


class Move(msgspec.Struct, frozen=True):
    """A change of a strategy that makes the job take less of the card."""

    sets: dict[str, Any]
    may: Callable[[Strategy], bool]  # whether it can be made at all; whether it is worth making is for whoever asks


def may_stream(strategy: Strategy) -> bool:
    """Whether blocks can pass through a GPU one after the other: frozen, and whole on each GPU."""
    return not METHODS[strategy.method].moves and cut_of(strategy).keeps_whole


def may_pass_vocabulary(strategy: Strategy) -> bool:
    """Whether embedding and head can wait in RAM as well, beside blocks that do: no learned prompt begins at their rows."""
    return may_stream(strategy) and METHODS[strategy.method].prompt is None


def keeps_in_ram(strategy: Strategy) -> bool:
    """Whether something of it lies in RAM so as not to lie on the GPU."""
    offloads = strategy.offload != "none" or strategy.activation_offload or strategy.gradient_checkpointing == "offloaded"
    return offloads or is_paged(strategy.optimizer)


def takes_card_as_ram(gpu: Gpu | None, strategy: Strategy) -> bool:
    """Whether what it keeps in RAM takes room of the card, as that is the card's own memory."""
    return gpu is not None and gpu.shares_ram and keeps_in_ram(strategy)


def _has_torch_states(strategy: Strategy) -> bool:
    return strategy.optimizer.startswith("adamw_torch")


def _has_logits(strategy: Strategy) -> bool:
    return strategy.loss in ("hf", "hf_shifted")


MOVES: Final[dict[MoveName, Move]] = {
    "states of 8 bits": Move({"optimizer": "adamw_8bit"}, _has_torch_states),
    "paged states": Move({"optimizer": "paged_adamw_8bit"}, _has_torch_states),
    "no logits": Move({"loss": "liger"}, _has_logits),
    "logits in chunks": Move({"loss": "chunked"}, _has_logits),
    "parted by ZeRO": Move({"sharding": "zero3"}, lambda strategy: cut_of(strategy).states),
    "states in RAM": Move({"offload": "optimizer"}, lambda strategy: strategy.offload == "none"),
    "streamed": Move({"offload": "stream"}, lambda strategy: strategy.offload == "none" and may_stream(strategy)),
    "weights in RAM": Move({"offload": "params"}, lambda strategy: strategy.offload == "none" and not may_stream(strategy)),
    "no upcast": Move({"kbit_upcast": "none"}, lambda strategy: strategy.kbit_upcast != "none"),
    "vocabulary passes": Move({"streaming": PASSING_TOO}, may_pass_vocabulary),
}
