"""A double beside the SDK whose plugin it stands for."""

from __future__ import annotations

import inspect
from typing import Any

from tests.doubles.plugins.plugin import Kind


def require_likeness(kind: Kind, resource: Any, arguments: Any) -> None:
    """What the double accepts exists in the SDK's class, and what that requires the double requires."""
    known = {camel(name) for name in inspect.signature(resource._internal_init).parameters}
    signature = inspect.signature(arguments.__init__).parameters.values()
    required = {camel(p.name) for p in signature if p.default is p.empty and p.name not in ("__self__", "self")}
    assert kind.replaces <= kind.accepts <= known
    assert kind.required == required


def camel(name: str) -> str:
    """A property's name as the wire has it."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
