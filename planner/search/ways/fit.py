"""A strategy on a kind of machine: whether that holds it, and what is left."""

from __future__ import annotations

import msgspec

from planner.plan import Verdict
from remote.contract import Strategy


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy that a machine can hold. On a CPU box the verdict is on RAM."""

    strategy: Strategy
    verdict: Verdict
    margin_bytes: int
    lever: int = 0  # how far from the usual: not at all, or by the first of LEVERS, the second …
