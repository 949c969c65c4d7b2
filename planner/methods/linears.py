"""What the methods train that hang on linears of the base."""

from __future__ import annotations

from typing import Final

from catalogs.bases.architectures import Architecture
from planner.methods.adapters import AT_DEFAULT, IDLE_OPTIONS
from planner.methods.experts import adapted_experts
from planner.methods.layers import chosen_layers
from planner.methods.limits import require_possible
from planner.methods.method import Adapter, Dials, Formula
from planner.methods.targets import adapted_linears, vocabulary_modules
from planner.refusals import CaseError, Unsupported
from planner.strategy.precision import BITSANDBYTES
from remote.contract import Strategy

LORA_FA: Final = "lora_fa"  # the optimizer that trains LoRA's B and leaves its A as it was drawn (arXiv:2308.03303)


def hung(adapter: Adapter) -> Formula:
    """The formula of a method that hangs `adapter` on each target: the sum of its tensors."""

    def trainable(architecture: Architecture, strategy: Strategy) -> int:
        require_hangable(adapter, architecture, strategy)
        dials, places = dials_of(adapter, strategy), adapted_linears(architecture, strategy)
        require_possible(adapter, strategy, places, dials)
        on_linears = sum(times * sum(adapter.trained(linear, dials)) for linear, times in places)
        return on_linears + on_experts(architecture, strategy, dials) + _on_vocabulary(adapter, architecture, strategy)

    return trainable


def on_experts(architecture: Architecture, strategy: Strategy, dials: Dials) -> int:
    """How many of what trains hang on fused experts and routers."""
    return sum(
        part.num_layers * sum(fused.trained(dials)) for part in architecture.parts for fused in adapted_experts(part, strategy)
    )


def dials_of(adapter: Adapter, strategy: Strategy) -> Dials:
    """The strategy's rank and the options that the adapter reads. Raises Unsupported for options without a closed form."""
    said = strategy.method_options
    changed = {name for name, value in said.items() if name not in AT_DEFAULT or value != AT_DEFAULT[name]}
    unread = sorted(changed - set(adapter.options) - IDLE_OPTIONS)
    if unread:
        known = ", ".join(adapter.options) or "none that moves memory"
        raise Unsupported(
            "method_options", f'"{unread[0]}" of {strategy.method} has no closed form', f"leave it out; it reads {known}"
        )
    options = tuple((name, said.get(name, default)) for name, default in adapter.options.items())
    return Dials(strategy.rank or 0, options, first_stays=adapter.kind == "lora" and strategy.optimizer == LORA_FA)


def require_hangable(adapter: Adapter, architecture: Architecture, strategy: Strategy) -> None:
    """Raise CaseError where peft can't hang the adapter on this base."""
    _require_nameable(adapter, strategy)
    if strategy.quant not in ("none", *BITSANDBYTES) and adapter.kind != "lora":
        raise Unsupported("quant", f"{strategy.method} over {strategy.quant} has no closed form", "method lora has one")
    if architecture.transposed_linears and not adapter.conv1d:
        named = f"peft can't hang {strategy.method} on the transposed linears of {architecture.model_type}"
        raise CaseError("method", named, "choose lora")


def _require_nameable(adapter: Adapter, strategy: Strategy) -> None:
    if chosen_layers(strategy) is not None and not adapter.names_blocks and strategy.target_modules != "all-linear":
        words = f"peft can't choose blocks among named modules for {strategy.method}"
        raise CaseError("method_options", words, "target_modules all-linear")


def _on_vocabulary(adapter: Adapter, architecture: Architecture, strategy: Strategy) -> int:
    """A targeted vocabulary matrix counts as one of V × h."""
    matrices = len(vocabulary_modules(architecture, strategy.target_modules, "target_modules"))
    if matrices and adapter.kind != "lora":
        raise Unsupported(
            "target_modules", f"{strategy.method} on the vocabulary has no closed form", "name linears of the blocks"
        )
    return matrices * (strategy.rank or 0) * (architecture.vocab_size + architecture.hidden_size)
