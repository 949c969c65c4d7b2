"""Methods of peft that the trainer has no row for, hung on a base by peft's own defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

from planner.refusals import CaseError, Untraceable
from remote.contract import Strategy

# A field of peft's configurations -> what the Strategy says of it; None leaves it at peft's default.
SAID: Final[Mapping[str, Callable[[Strategy], Any]]] = {
    "r": lambda strategy: strategy.rank,
    "num_virtual_tokens": lambda strategy: strategy.num_virtual_tokens,
    "target_modules": lambda strategy: None if strategy.target_modules == "default" else strategy.target_modules,
    "modules_to_save": lambda strategy: list(strategy.modules_to_save) or None,
}
TARGETS_NO_LINEAR: Final = frozenset({"adaption_prompt", "trainable_tokens"})  # peft's own targets are attention and words


def by_default(model: Any, strategy: Strategy) -> Any:
    """`model`, frozen, with what peft makes of the method's name, its rank and targets. Raises Untraceable, CaseError."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    from remote.adapters.wrapping import with_adapter

    model.requires_grad_(requires_grad=False)
    kind = PEFT_TYPE_TO_CONFIG_MAPPING[strategy.method.upper()]
    known = set(inspect.signature(kind).parameters)
    if unknown := sorted(set(strategy.method_options) - known):
        raise CaseError("method_options", f"peft's {kind.__name__} has no option {unknown[0]}", "leave it out")
    said = {field: value for field, read in SAID.items() if field in known and (value := read(strategy)) is not None}
    if strategy.method in TARGETS_NO_LINEAR:
        said.pop("target_modules", None)
    fields = {**strategy.method_options, **{name: _plain(value) for name, value in said.items()}}
    adapted = with_adapter(model, kind(**fields, task_type="CAUSAL_LM"), strategy, None)
    if not any(parameter.requires_grad and parameter.numel() for parameter in adapted.parameters()):
        raise Untraceable("method", f"{strategy.method} trains nothing by peft's own defaults; method_options say what")
    return adapted


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
