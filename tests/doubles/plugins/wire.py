"""Property values on the wire between engine and plugin, as Pulumi's protocol defines them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import json_format, struct_pb2

UNKNOWN: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"  # a string that is not known before the create (preview)
SIGNATURE: Final = "4dabf18193072939515e22adb298388d"  # the key that marks a special object
WRAPPED: Final = frozenset({"1b47061264138c4ac30d75fd1eb44270", "d0e6a833031e9bbcd3f4e8bde6ca49a4"})  # secret, output value

Properties = dict[str, Any]


def encode(properties: Mapping[str, Any]) -> struct_pb2.Struct:
    """A protobuf Struct of plain values; None is left out, as a provider leaves out what is not set."""
    struct = struct_pb2.Struct()
    json_format.ParseDict({key: value for key, value in properties.items() if value is not None}, struct)
    return struct


def decode(struct: struct_pb2.Struct) -> Properties:
    """Plain values: secrets unwrapped, whole numbers as int, unknowns left as the marker."""
    decoded: Properties = _plain(json_format.MessageToDict(struct))
    return decoded


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get(SIGNATURE) in WRAPPED:
            return _plain(value["value"]) if "value" in value else UNKNOWN
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
