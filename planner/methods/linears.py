"""What the methods train that hang on linears of the base."""

from __future__ import annotations

from catalogs.architectures import Architecture
from planner.methods.targets import adapted_linears, vocabulary_modules
from planner.refusals import CaseError
from remote.contract import Strategy


def lora(architecture: Architecture, strategy: Strategy) -> int:
    """r·(in + out) per adapted linear; a targeted vocabulary matrix counts as one of V × h."""
    if strategy.rank is None:
        raise CaseError("rank", f"method {strategy.method} needs a rank", "say rank 16, for example")
    width = sum(times * (linear.in_features + linear.out_features) for linear, times in adapted_linears(architecture, strategy))
    width += vocabulary_modules(strategy.target_modules) * (architecture.vocab_size + architecture.hidden_size)
    return strategy.rank * width


def ia3(architecture: Architecture, strategy: Strategy) -> int:
    """One factor per output of an attention module, per input of a feed-forward module."""
    chosen = adapted_linears(architecture, strategy)
    return sum(times * (linear.in_features if linear.role == "down" else linear.out_features) for linear, times in chosen)
