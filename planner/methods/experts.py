"""LoRA on fused experts and their routers: no linears in transformers 5, and yet what the old names of linears mean to peft."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from catalogs.bases.architectures import Architecture
from planner.methods.method import Dials
from planner.refusals import CaseError
from remote.contract import Strategy

Parameter = Literal["gate_up_proj", "down_proj", "gate"]


class Fused(msgspec.Struct, frozen=True):
    """One parameter of a block: a matrix for each expert in one tensor, or a router's."""

    parameter: Parameter
    in_features: int
    out_features: int
    experts: int  # that have factors of their own
    ranks: int = 1  # how many times the rank: once for each matrix that was fused

    def tensors(self, dials: Dials) -> tuple[int, int]:
        """Entries of A and of B, those of all experts together."""
        rank = dials.rank * self.ranks * self.experts
        return rank * self.in_features, rank * self.out_features

    def trained(self, dials: Dials) -> tuple[int, ...]:
        """Entries of those that get a gradient."""
        return self.tensors(dials)[dials.first_stays :]


# derived: _MOE_TARGET_MODULE_MAPPING and _MOE_FUSED_TARGETS of peft 0.21 (utils/transformers_weight_conversion.py), looked up
# by what transformers' _MODEL_TO_CONVERSION_PATTERN (conversion_mapping.py) has for the model's type: qwen2_moe's for qwen3_moe
# and deepseek_v3. qwen2_moe itself is no key of it, so nothing of it is renamed; mixtral, which is none either, peft adds.
# Linears of these names elsewhere in such a model, those of DeepSeek's dense blocks and shared experts, then carry nothing.
MIXTRAL: Final[Mapping[str, Parameter]] = {"gate": "gate", "w1": "gate_up_proj", "w3": "gate_up_proj", "w2": "down_proj"}
QWEN: Final[Mapping[str, Parameter]] = {
    "gate": "gate",
    "gate_proj": "gate_up_proj",
    "up_proj": "gate_up_proj",
    "down_proj": "down_proj",
}
RENAMED: Final[Mapping[str, Mapping[str, Parameter]]] = {"mixtral": MIXTRAL, "qwen3_moe": QWEN, "deepseek_v3": QWEN}


# derived: peft converts names for configurations of LoRA alone; the methods that have one
HANGS_ON_EXPERTS: Final = frozenset({"lora", "rslora", "lora_plus", "lora_prompt"})
BY_LORA_CONFIG: Final = HANGS_ON_EXPERTS | {"dora", "pissa"}


def renamed(architecture: Architecture, method: str) -> Mapping[str, Parameter]:
    """The names of linears that peft takes for parameters of experts on this base; none for methods beside LoRA."""
    fused = not architecture.expert_linears
    return RENAMED.get(architecture.model_type, {}) if fused and method in BY_LORA_CONFIG else {}


def adapted_experts(part: Architecture, strategy: Strategy) -> tuple[Fused, ...]:
    """What of a block's experts carries LoRA. Raises CaseError for what peft can't hang there."""
    if part.expert_linears:
        return ()
    targets, names = strategy.target_modules, renamed(part, strategy.method)
    if not part.num_experts or not names or targets == "default":
        return ()
    meant = set(names) if isinstance(targets, str) else {target.rpartition(".")[2] for target in targets} & set(names)
    if meant:
        _require_possible(names, meant, strategy)
    hidden, width, experts = part.hidden_size, part.intermediate_size, part.num_experts
    there = (
        Fused("gate_up_proj", hidden, 2 * width, experts, ranks=2),
        Fused("down_proj", width, hidden, experts),
        Fused("gate", hidden, experts, 1),
    )
    parameters = {names[name] for name in meant}
    return tuple(fused for fused in there if fused.parameter in parameters)


def _require_possible(names: Mapping[str, Parameter], meant: set[str], strategy: Strategy) -> None:
    """derived: what peft 0.21's ParamWrapper (tuners/lora/layer.py) and its conversion of names refuse."""
    both = [name for name, parameter in names.items() if parameter == "gate_up_proj"]
    if len(meant.intersection(both)) == 1:
        words = f"{' and '.join(both)} are one tensor in transformers 5: peft adapts both or neither"
        raise CaseError("target_modules", words, f"name both, {both[0]} and {both[1]}")
    attention = "or target the linears of attention alone"
    if strategy.dropout:
        raise CaseError("dropout", "peft knows no dropout for LoRA on experts", f"dropout 0, {attention}")
    if strategy.method not in HANGS_ON_EXPERTS:
        raise CaseError("method", f"peft can't hang {strategy.method} on experts", f"method lora, {attention}")
