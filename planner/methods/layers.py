"""Which blocks carry what a method trains: all of them, or those that the case names."""

from __future__ import annotations

from typing import Final

from catalogs.bases.architectures import Architecture
from planner.refusals import CaseError, Unsupported
from remote.contract import Strategy

LAYERS: Final = "layers_to_transform"  # peft's word for them, in `method_options`, and ours for methods that peft does not have


def chosen_layers(strategy: Strategy) -> tuple[int, ...] | None:
    """The blocks that are named, counted from 0; None = all. Raises CaseError for what names none."""
    said = strategy.method_options.get(LAYERS)
    if said is None:
        return None
    layers = said if isinstance(said, list | tuple) else [said]
    if not layers or not all(isinstance(layer, int) and not isinstance(layer, bool) and layer >= 0 for layer in layers):
        raise CaseError("method_options", f"{LAYERS} must list blocks, counted from 0, not {said!r}", "such as [0, 1]")
    return tuple(sorted(set(layers)))


def require_layers(architecture: Architecture, strategy: Strategy) -> None:
    """Raise CaseError for a block that is not there, Unsupported where it matters which of two unlike blocks is meant."""
    chosen, last = chosen_layers(strategy), architecture.depth - 1
    if chosen is None:
        return
    if chosen[-1] > last:
        hint = f"{LAYERS} {[layer for layer in chosen if layer <= last] or [last]}"
        raise CaseError("method_options", f"{architecture.name} has blocks 0 to {last}, and no {chosen[-1]}", hint)
    own = (architecture.linears, architecture.norm_params_per_block, architecture.num_experts)
    if any((part.linears, part.norm_params_per_block, part.num_experts) != own for part in architecture.also):
        words = f"chosen blocks have no closed form on {architecture.model_type}, whose blocks are built in several ways"
        raise Unsupported("method_options", words, "engine trace")


def carriers(architecture: Architecture, strategy: Strategy) -> tuple[tuple[Architecture, int], ...]:
    """Each kind of block that carries something, with how many do. Where some are chosen, all kinds are built alike."""
    chosen = chosen_layers(strategy)
    if chosen is None:
        return tuple((part, part.num_layers) for part in architecture.parts)
    return ((architecture, len(chosen)),)
