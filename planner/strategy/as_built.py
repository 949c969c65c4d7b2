"""What a release of transformers makes of an architecture: mixtures were lists of MLPs before their experts were fused."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from catalogs.bases.architectures import Architecture, Linear, Role
from planner.strategy.precision import packs_experts
from planner.strategy.stack import Stack
from remote.contract import Strategy


class Listed(NamedTuple):
    """How the modules of a mixture were called: last names of the three linears of an expert, in the order of `ROLES`."""

    under: str
    linears: tuple[str, str, str]
    router: bool  # whether it was a linear, too


ROLES: Final[tuple[Role, Role, Role]] = ("gate", "up", "down")
_NUMBERED: Final[tuple[str, str, str]] = ("w1", "w3", "w2")
_NAMED: Final[tuple[str, str, str]] = ("gate_proj", "up_proj", "down_proj")
# derived: MixtralSparseMoeBlock and its kin in transformers 4.57; DeepSeek's router is a parameter
LISTED: Final[dict[str, Listed]] = {
    "mixtral": Listed("block_sparse_moe", _NUMBERED, router=True),
    "phimoe": Listed("block_sparse_moe", _NUMBERED, router=True),
    "qwen2_moe": Listed("mlp", _NAMED, router=True),
    "qwen3_moe": Listed("mlp", _NAMED, router=True),
    "deepseek_v3": Listed("mlp", _NAMED, router=False),
}


def as_built(architecture: Architecture, strategy: Strategy, stack: Stack) -> Architecture:
    """The architecture as the stack's release builds it: memory and counts are both of this one."""
    were_linears = architecture.experts_were_linears
    packed = packs_experts(strategy.quant, quantized_experts=stack.quantizes_experts(were_linears=were_linears))
    if not were_linears or not (packed or _is_older(strategy, stack)):
        return architecture
    listed = LISTED[architecture.model_type]
    built = _with_linears(architecture, listed)
    return msgspec.structs.replace(built, also=tuple(_with_linears(part, listed) for part in architecture.also))


def _is_older(strategy: Strategy, stack: Stack) -> bool:
    """Whether experts are linears by its release. Where another trainer names none, dropout says so: peft knows none on fused
    experts, so that such a run was of an older one.
    """
    return not stack.has("fused_experts") or (strategy.dropout > 0 and not stack.groups_experts)


def _with_linears(part: Architecture, listed: Listed) -> Architecture:
    if not part.num_experts:
        return part
    hidden, width, experts = part.hidden_size, part.intermediate_size, part.num_experts
    shapes = ((hidden, width), (hidden, width), (width, hidden))
    of_expert = tuple(
        Linear(name=f"{listed.under}.experts.{name}", in_features=fan_in, out_features=fan_out, role=role)
        for name, role, (fan_in, fan_out) in zip(listed.linears, ROLES, shapes, strict=True)
    )
    if not listed.router:
        return msgspec.structs.replace(part, expert_linears=of_expert)
    others = tuple(linear for linear in part.linears if linear.role != "router")
    counted_there = hidden * experts if len(others) == len(part.linears) else 0
    router = Linear(name=f"{listed.under}.gate", in_features=hidden, out_features=experts)
    return msgspec.structs.replace(
        part,
        linears=(*others, router),
        expert_linears=of_expert,
        expert_params_per_block=part.expert_params_per_block - counted_there,
    )
