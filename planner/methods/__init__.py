"""The ways to tune: the table of methods, the linears that they reach, and what they train."""

from planner.methods.counts import (
    NUM_LABELS,
    adapted_names,
    adapter_file_bytes,
    adapter_params,
    base_params,
    head_params,
    saved_module_params,
    total_params,
    trainable_params,
    trained_blocks,
)
from planner.methods.table import (
    DEFAULT_RANK,
    METHODS,
    NF4,
    QLORA,
    QLORA_MEANS,
    require_method,
    supported_methods,
)
from planner.methods.targets import DEFAULT_TARGETS, adapted_linears, vocabulary_modules

__all__ = [
    "DEFAULT_RANK",
    "DEFAULT_TARGETS",
    "METHODS",
    "NF4",
    "NUM_LABELS",
    "QLORA",
    "QLORA_MEANS",
    "adapted_linears",
    "adapted_names",
    "adapter_file_bytes",
    "adapter_params",
    "base_params",
    "head_params",
    "require_method",
    "saved_module_params",
    "supported_methods",
    "total_params",
    "trainable_params",
    "trained_blocks",
    "vocabulary_modules",
]
