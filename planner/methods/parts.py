"""What the methods train that move parts of the base itself."""

from __future__ import annotations

from catalogs.architectures import Architecture
from planner.refusals import CaseError
from remote.contract import Strategy


def whole(architecture: Architecture, _strategy: Strategy) -> int:
    return architecture.num_params


def bitfit(architecture: Architecture, _strategy: Strategy) -> int:
    """Every bias of a linear."""
    in_blocks = ((linear, part.num_layers) for part in architecture.parts for linear in part.linears)
    biases = sum(times * linear.out_features for linear, times in in_blocks if linear.bias)
    if not biases:
        raise CaseError("method", f"bitfit trains biases, and {architecture.name} has none", "choose lora")
    return biases


def ln_tuning(architecture: Architecture, _strategy: Strategy) -> int:
    """Every norm of the blocks, and the last one."""
    last = architecture.hidden_size * (2 if architecture.norm == "layer" else 1)
    norms = sum(part.num_layers * part.norm_params_per_block for part in architecture.parts)
    return norms + (last if architecture.layout != "post" else 0)


def freeze(architecture: Architecture, strategy: Strategy) -> int:
    """The top blocks whole; where blocks are of several kinds, so many of average size."""
    in_blocks = sum(part.num_layers * part.block_params for part in architecture.parts)
    return top_blocks(architecture, strategy) * in_blocks // architecture.depth


def top_blocks(architecture: Architecture, strategy: Strategy) -> int:
    """How many blocks, from the top, are trained. Raises CaseError where nothing says so."""
    if strategy.trainable_layers is None:
        needs = f"method {strategy.method} needs trainable_layers"
        raise CaseError("trainable_layers", needs, "say how many top blocks are trained")
    return min(strategy.trainable_layers, architecture.depth)
