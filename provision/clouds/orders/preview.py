"""What would be created at a cloud, in the words of the engine that would create it: flat, readable, without a secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import msgspec

from provision.clouds.engine.stack import Foreseen

OWN: Final = "__"  # what the SDK adds for itself begins so
UNKNOWN: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"  # what the engine writes for what nobody knows before the create
LATER: Final = "known once it is made"
SECRET: Final = "4dabf18193072939515e22adb298388d"  # noqa: S105 - a key of what the engine writes in the place of a secret
HIDDEN: Final = "hidden: a secret"


class WouldBe(msgspec.Struct, frozen=True, kw_only=True):
    """One resource. `properties`: as the program asks for them, by their paths ("rootBlockDevice.volumeSize")."""

    kind: str  # instance, security_group, …
    name: str  # in the program
    properties: dict[str, str]


def would_be(foreseen: Foreseen, kind: str) -> WouldBe:
    """A foreseen resource as a person reads it."""
    flat = _flat(foreseen.inputs, "")
    return WouldBe(kind=kind, name=foreseen.name, properties={path: _words(value) for path, value in flat})


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every value with its path; a text that holds a JSON object is read."""
    if isinstance(value, str) and value.startswith("{"):
        with suppress(ValueError):  # of somebody's own, that only looks like one
            value = json.loads(value)
    if isinstance(value, dict) and SECRET in value:
        yield path, HIDDEN
    elif isinstance(value, dict):
        for name, inner in value.items():
            if not name.startswith(OWN):
                yield from _flat(inner, f"{path}.{name}".removeprefix("."))
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        for number, inner in enumerate(value):
            yield from _flat(inner, f"{path}.{number}")
    else:
        yield path, value


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    if value == UNKNOWN:
        return LATER
    return value if isinstance(value, str) else json.dumps(value)
