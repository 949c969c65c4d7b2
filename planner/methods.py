"""METHODS: one row per way to tune, with what it trains."""

from __future__ import annotations

from catalogs.architectures import Architecture
from remote.contract import Strategy, Task


def trainable_params(architecture: Architecture, strategy: Strategy, *, task: Task = "causal_lm") -> int:
    """How many parameters get a gradient, over all GPUs."""
    raise NotImplementedError


def adapter_file_bytes(architecture: Architecture, strategy: Strategy, *, task: Task = "causal_lm") -> int:
    """Bytes of the file that comes home: the trained parameters in the adapter's dtype."""
    raise NotImplementedError
