"""All ways to do a job on so many GPUs: ladders of batches, and what becomes of each where a lever spares memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final

import msgspec

from planner.estimators.memory.card.moves import MOVES, MoveName
from planner.estimators.memory.held.optimizers import is_paged
from planner.methods import METHODS
from planner.strategy.cuts import cut_of
from remote.contract import Strategy

Ladder = tuple[Strategy, ...]  # strategies that differ only in their micro-batch, the largest first

# Pulled where no ladder fits as it stands, from what is nearest to the usual to what is furthest: the first that does is taken
LEVERS: Final[tuple[tuple[MoveName, ...], ...]] = (
    ("states of 8 bits",),
    ("paged states",),
    ("no logits",),
    ("parted by ZeRO",),
    ("states of 8 bits", "no logits"),
    ("paged states", "no logits"),
    ("states in RAM",),
    ("streamed",),
    ("streamed", "no logits"),
    ("streamed", "no logits", "vocabulary passes"),
    ("states of 8 bits", "no logits", "streamed"),
    ("states of 8 bits", "no logits", "no upcast"),
    ("states of 8 bits", "no logits", "streamed", "no upcast"),
    ("states of 8 bits", "no logits", "streamed", "no upcast", "vocabulary passes"),
    ("weights in RAM",),
)
SETS: Final = tuple({key: value for name in lever for key, value in MOVES[name].sets.items()} for lever in LEVERS)
SMALL_STATES: Final = LEVERS.index(("states of 8 bits",))
NO_LOGITS: Final = LEVERS.index(("no logits",))
PARTS: Final = "fsdp"
# Moves after which the same is trained: what is learned doesn't depend on where a tensor lies, or whether it is whole
SAME: Final[frozenset[MoveName]] = frozenset({"no logits", "parted by ZeRO", "states in RAM", "streamed", "weights in RAM"})
SAME_LEVERS: Final = tuple(place for place, lever in enumerate(LEVERS) if SAME.issuperset(lever))
USUAL: Final = {
    "optimizer": "adamw_torch_fused",
    "loss": "hf",
    "sharding": PARTS,
    "offload": "none",
    "streaming": None,
    "kbit_upcast": "norms",
}  # what each takes the place of
# How a job may be parted -> where that may be the quickest way
QUICK_PARTS: Final[Mapping[str, Callable[[Strategy], bool]]] = {
    "zero1": lambda step: step.gradient_accumulation_steps > 1,
    "zero2": lambda _step: True,
    "zero3": lambda step: METHODS[step.method].moves_all,
}
SLOWER: Final = frozenset({"sharding", "offload", "streaming"})  # keys by which no lever spares time


class Ladders:
    """The usual ones, whole; those of a lever are made when they are asked for, since most machines need none."""

    def __init__(self, usual: tuple[Ladder, ...], *, said: Collection[str]) -> None:
        """`said`: keys that the request states, so no lever may change them."""
        self.usual = usual
        self._levers = tuple(tuple(_free(ladder[0], said)) for ladder in usual)
        self._pulled: dict[int, tuple[Ladder, ...]] = {}
        self._quickest: tuple[Strategy, ...] | None = None

    @property
    def num_strategies(self) -> int:
        """How many strategies these are in all."""
        return sum(len(ladder) * (1 + len(levers)) for ladder, levers in zip(self.usual, self._levers, strict=True))

    def pulled(self, lever: int) -> tuple[Ladder, ...]:
        """The usual ladders that can pull this lever (its place in LEVERS), with it pulled."""
        if lever not in self._pulled:
            self._pulled[lever] = tuple(tuple(_with(step, lever) for step in ladder) for ladder in self._able(lever))
        return self._pulled[lever]

    def last_steps(self, lever: int) -> Iterator[Strategy]:
        """Of each ladder with this lever pulled the step with the smallest batch."""
        return (_with(ladder[-1], lever) for ladder in self._able(lever))

    @property
    def quickest(self) -> tuple[Strategy, ...]:
        """Strategies of which one is as quick as anything in the ladders: the largest batch, nothing recomputed, every lever
        pulled that spares time, with each optimizer: one of 8 bits moves less, and is walked in Python. Whether it fits, or the
        trainer could do it, is not asked.

        Derived: ZeRO-2 gathers no weights in a pass, as FSDP and ZeRO-3 do, and steps a part of the states, where copies step
        all. Only its gradients cross the link in every pass; with several passes a step ZeRO-1 may be quicker, and where all
        trains and the link is as quick as the memory ZeRO-3, which hands out no weights after the step.
        """
        if self._quickest is None:
            self._quickest = tuple(self._quick())
        return self._quickest

    def _quick(self) -> Iterator[Strategy]:
        parts = next((place for place, ladder in enumerate(self.usual) if ladder[0].sharding == PARTS), None)
        for first in self._spared(parts or 0):
            if parts is None:
                yield first
                continue
            for sharding, is_quick in QUICK_PARTS.items():
                if is_quick(first):
                    yield msgspec.structs.replace(first, sharding=sharding)

    def _spared(self, place: int) -> Iterator[Strategy]:
        """The first step of a ladder by each optimizer, with every lever pulled but those that never spare time: a paged
        optimizer is as quick as the same unpaged, which stands beside it.
        """
        usual, pulled = self.usual[place][0], [SETS[lever] for lever in self._levers[place]]
        spared = {key: value for lever in pulled for key, value in lever.items() if key not in SLOWER}
        tried = (lever["optimizer"] for lever in pulled if "optimizer" in lever)
        optimizers = {usual.optimizer, *(each for each in tried if not is_paged(each))}
        return (msgspec.structs.replace(usual, **spared | {"optimizer": each}) for each in sorted(optimizers))

    def _able(self, lever: int) -> Iterator[Ladder]:
        return (ladder for ladder, levers in zip(self.usual, self._levers, strict=True) if lever in levers)


# Whether a move that may be made is worth it. Of adapters the states are small, and a paged optimizer's are in RAM already;
# what no block computes again would have to be kept of blocks that are gone
WORTH: Final[Mapping[MoveName, Callable[[Strategy], bool]]] = {
    "states in RAM": lambda step: METHODS[step.method].moves_all and cut_of(step).engine != PARTS,
    "streamed": lambda step: step.gradient_checkpointing != "off",
    "weights in RAM": lambda step: METHODS[step.method].moves_all and (cut_of(step).weights or step.sharding == "none"),
}


def _free(step: Strategy, said: Collection[str]) -> Iterator[int]:
    """The levers that a strategy has not pulled, and may."""
    for place, lever in enumerate(LEVERS):
        unsaid = all(key not in said and getattr(step, key) == USUAL[key] for key in SETS[place])
        if unsaid and all(MOVES[name].may(step) and (name not in WORTH or WORTH[name](step)) for name in lever):
            yield place


def _with(step: Strategy, lever: int) -> Strategy:
    return msgspec.structs.replace(step, **SETS[lever])
