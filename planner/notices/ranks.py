"""What a rank means where a higher one makes an adapter smaller: told with the plan, for nobody expects it."""

from __future__ import annotations

import math

import msgspec

from catalogs.bases.architectures import Architecture
from planner.methods import METHODS
from planner.methods.adapters import kronecker_factors
from planner.methods.counts import adapter_params
from planner.methods.linears import dials_of
from planner.methods.method import Adapter
from planner.methods.targets import adapted_linears
from remote.contract import Strategy


def rank_words(architecture: Architecture, strategy: Strategy) -> str | None:
    """In one sentence; None where a higher rank is a larger adapter."""
    adapter = METHODS[strategy.method].adapter
    if strategy.rank is None or adapter is None or adapter.ranked == "size":
        return None
    if adapter.ranked == "count":
        return f"of {strategy.method} rank counts the blocks of a rotation: the more of them, the smaller each, and the adapter"
    return _of_cut(architecture, strategy, strategy.rank, adapter)


def _of_cut(architecture: Architecture, strategy: Strategy, rank: int, adapter: Adapter) -> str | None:
    """A factor is cut in two where the rank is below half of its longer side (`is_factored`), also where both parts together
    have more parameters than the whole: peft's rule.
    """
    dials = dials_of(adapter, strategy)
    sides = [
        max(large) for _, large in (kronecker_factors(linear, dials) for linear, _ in adapted_linears(architecture, strategy))
    ]
    whole = math.ceil(max(sides, default=0) / 2)
    if rank >= whole:
        return f"rank has no effect here: from {whole:,} on {strategy.method}'s factors are whole"
    whole_params = adapter_params(architecture, msgspec.structs.replace(strategy, rank=whole))
    params = adapter_params(architecture, strategy)
    if params <= whole_params:
        return None
    name = strategy.method
    return (
        f"by rank {rank:,} {name} has {params:,} parameters, by {whole:,} or more {whole_params:,}: its factors are whole then"
    )
