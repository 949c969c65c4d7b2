"""A double beside the SDK whose plugin it stands for."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from pulumi.runtime import mocks

from tests.doubles.plugins.plugin import Kind


def require_likeness(kind: Kind, resource: Any, arguments: Any) -> None:
    """What the double accepts exists in the SDK's class, and what that requires the double requires."""
    known = {camel(name) for name in inspect.signature(resource._internal_init).parameters}
    signature = inspect.signature(arguments.__init__).parameters.values()
    required = {camel(p.name) for p in signature if p.default is p.empty and p.name not in ("__self__", "self")}
    assert kind.replaces <= kind.accepts <= known
    assert kind.required == required


def left_as_it_is(program: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """By type: which properties of what stands already the program leaves as they are, though its own are others by then."""
    heard: dict[str, set[str]] = {}
    register = mocks.MockMonitor.RegisterResource

    def hear(monitor: mocks.MockMonitor, request: Any) -> Any:
        heard[request.type] = set(request.ignoreChanges)
        return register(monitor, request)

    monkeypatch.setattr(mocks.MockMonitor, "RegisterResource", hear)
    program()
    return {type: properties for type, properties in heard.items() if properties}


def camel(name: str) -> str:
    """A property's name as the wire has it."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
