"""What stands under one key of a record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Unusable(Exception):
    """It is not what is wanted there; the message says why."""


def text_at(record: Mapping[str, Any], key: str) -> str:
    """The text there. Raises `Unusable` for what is none, or has no letter."""
    value = record[key]
    if not isinstance(value, str):
        raise Unusable(f'"{key}" must be text, not {name_of(value)}')
    if not value.strip():
        raise Unusable(f'"{key}" is empty')
    return value


def name_of(value: object) -> str:
    """What JSON's users call a value of that kind."""
    if value is None:
        return "null"
    return {dict: "an object", list: "a list", str: "text", bool: "true or false"}.get(type(value), "a number")
