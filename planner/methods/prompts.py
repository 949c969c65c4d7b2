"""What the methods train that put learned tokens in front of a sequence."""

from __future__ import annotations

from catalogs.architectures import Architecture
from planner.refusals import CaseError
from remote.contract import Strategy


def prompt_tuning(architecture: Architecture, strategy: Strategy) -> int:
    if strategy.num_virtual_tokens is None:
        raise CaseError("num_virtual_tokens", f"{strategy.method} needs num_virtual_tokens", "say 20, for example")
    return strategy.num_virtual_tokens * architecture.hidden_size
