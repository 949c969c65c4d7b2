"""The ways to tune: the table of methods, the linears that they reach, and what they train."""

from planner.methods.adapters import ADAPTERS, LAUNCHES, WORK
from planner.methods.counts import (
    NUM_LABELS,
    adapted_names,
    adapter_file_bytes,
    adapter_params,
    adapter_tensors,
    base_params,
    carrying_blocks,
    embedding_params,
    expert_params,
    frozen_bytes,
    head_params,
    moved_in_block,
    resting_entries,
    saved_module_params,
    saved_modules,
    total_params,
    trainable_params,
    trained_blocks,
    trains_embedding,
    trains_head,
)
from planner.methods.experts import Fused, Parameter, adapted_experts
from planner.methods.layers import LAYERS, chosen_layers, require_layers
from planner.methods.limits import require_within
from planner.methods.linears import dials_of
from planner.methods.method import DEFAULT_RANK, EVERYTHING, Both, Dials, Kind, Launches, Work
from planner.methods.parts import TOP_BLOCKS
from planner.methods.prompts import NUM_VIRTUAL_TOKENS
from planner.methods.table import (
    METHODS,
    NF4,
    QLORA,
    QLORA_MEANS,
    known_method,
    require_method,
    supported_methods,
)
from planner.methods.targets import DEFAULT_TARGETS, adapted_linears

__all__ = [
    "ADAPTERS",
    "DEFAULT_RANK",
    "DEFAULT_TARGETS",
    "EVERYTHING",
    "LAUNCHES",
    "LAYERS",
    "METHODS",
    "NF4",
    "NUM_LABELS",
    "NUM_VIRTUAL_TOKENS",
    "QLORA",
    "QLORA_MEANS",
    "TOP_BLOCKS",
    "WORK",
    "Both",
    "Dials",
    "Fused",
    "Kind",
    "Launches",
    "Parameter",
    "Work",
    "adapted_experts",
    "adapted_linears",
    "adapted_names",
    "adapter_file_bytes",
    "adapter_params",
    "adapter_tensors",
    "base_params",
    "carrying_blocks",
    "chosen_layers",
    "dials_of",
    "embedding_params",
    "expert_params",
    "frozen_bytes",
    "head_params",
    "known_method",
    "moved_in_block",
    "require_layers",
    "require_method",
    "require_within",
    "resting_entries",
    "saved_module_params",
    "saved_modules",
    "supported_methods",
    "total_params",
    "trainable_params",
    "trained_blocks",
    "trains_embedding",
    "trains_head",
]
