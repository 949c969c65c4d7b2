"""What the methods train that move parts of the base itself."""

from __future__ import annotations

from catalogs.architectures import Architecture
from planner.refusals import CaseError
from remote.contract import Strategy


def whole(architecture: Architecture, _strategy: Strategy) -> int:
    return architecture.num_params


def bitfit(architecture: Architecture, _strategy: Strategy) -> int:
    """Every bias of a linear."""
    biases = architecture.num_layers * sum(linear.out_features for linear in architecture.linears if linear.bias)
    if not biases:
        raise CaseError("method", f"bitfit trains biases, and {architecture.name} has none", "choose lora")
    return biases


def ln_tuning(architecture: Architecture, _strategy: Strategy) -> int:
    """Every norm of the blocks, and the last one."""
    last = architecture.hidden_size * (2 if architecture.norm == "layer" else 1)
    return architecture.num_layers * architecture.norm_params_per_block + (last if architecture.layout != "post" else 0)


def freeze(architecture: Architecture, strategy: Strategy) -> int:
    """The top blocks whole."""
    return top_blocks(architecture, strategy) * architecture.block_params


def top_blocks(architecture: Architecture, strategy: Strategy) -> int:
    """How many blocks, from the top, are trained. Raises CaseError where nothing says so."""
    if strategy.trainable_layers is None:
        needs = f"method {strategy.method} needs trainable_layers"
        raise CaseError("trainable_layers", needs, "say how many top blocks are trained")
    return min(strategy.trainable_layers, architecture.num_layers)
