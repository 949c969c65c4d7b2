"""What bottleneck adapters train: modules of ours (`remote/adapters/bottleneck.py`), behind linears of the base."""

from __future__ import annotations

from typing import Final

from catalogs.bases.architectures import Architecture, Linear
from planner.methods import options
from planner.methods.layers import LAYERS, carriers
from planner.refusals import CaseError
from remote.contract import Strategy

# `after` → the roles of the linears that it stands behind; a decoder beside an encoder attends twice
PLACES: Final = {"attention": ("output", "cross_output"), "feed_forward": ("down",)}
NON_LINEARITIES: Final = ("relu", "gelu", "silu", "tanh")


def bottleneck(architecture: Architecture, strategy: Strategy) -> int:
    """Two linears with biases, h × r and r × h, at each place."""
    if strategy.rank is None:
        raise CaseError("rank", "method bottleneck needs a rank: the width of its adapters", "say rank 16, for example")
    r = strategy.rank
    places = (
        (linear, times) for part, times in carriers(architecture, strategy) for linear in bottleneck_places(part, strategy)
    )
    return sum(times * (2 * r * linear.out_features + r + linear.out_features) for linear, times in places)


def bottleneck_places(architecture: Architecture, strategy: Strategy) -> tuple[Linear, ...]:
    """Linears of a block that an adapter stands behind. Raises CaseError where there is none."""
    options.known_only(strategy, ("after", "non_linearity", LAYERS))
    options.word(strategy, "non_linearity", NON_LINEARITIES)
    after = options.words(strategy, "after", tuple(PLACES))
    for place in after:
        if place not in PLACES:
            raise CaseError("method_options", f"after can't be {place!r}", f"it lists some of {', '.join(PLACES)}")
    roles = {role for place in after for role in PLACES[place]}
    chosen = tuple(linear for linear in architecture.linears if linear.role in roles)
    if not chosen:
        raise CaseError("method_options", f"{architecture.name} has no linear behind its {after[0]}", "after attention")
    return chosen
