"""A strategy on a kind of machine: whether that holds it, and what is left."""

from __future__ import annotations

import msgspec

from planner.choice.goals import SURELY_BETTER
from planner.plan import Verdict
from planner.search.ways.ladders import LEVERS
from remote.contract import Strategy


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy that a machine can hold. On a CPU box the verdict is on RAM."""

    strategy: Strategy
    verdict: Verdict
    margin_bytes: int
    lever: int = 0  # how far from the usual: not at all, or by the first of LEVERS, the second …
    spare: bool = False  # it would learn a little else, and the card holds what trains the same: only for want of RAM

    @property
    def num_moves(self) -> int:
        """How many moves lie between it and the usual."""
        return moves_of(self.lever)

    def counted(self, amount: float) -> float:
        """Dollars or seconds as ways are compared by them: each move from the usual has to save a good deal."""
        return amount * SURELY_BETTER**self.num_moves


def moves_of(lever: int) -> int:
    """Moves of a lever, told as a Fit tells it."""
    return len(LEVERS[lever - 1]) if lever else 0
