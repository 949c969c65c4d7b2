"""A key and its value as a line of YAML that nothing can be mistaken in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from planner.asking.instead import Bare, Quoted

_PLAIN = re.compile(r"^[A-Za-z/~][A-Za-z0-9_./~@-]*$")
_WORDS_WITH_A_MEANING: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}


def written(key: str, value: Any) -> str:
    """A line of a job file."""
    return f"{_text(key)}: {_flow(value)}"


def _flow(value: Any) -> str:
    """A value in YAML's flow style, on one line."""
    if isinstance(value, Bare | Quoted):
        return value if isinstance(value, Bare) else _quoted(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(str(key))}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) if isinstance(value, (int, float, Decimal)) else _text(str(value))


def _text(text: str) -> str:
    """Plain where nothing can be mistaken, else in double quotes with everything unusual escaped."""
    return text if _PLAIN.match(text) and text.lower() not in _WORDS_WITH_A_MEANING | {"~"} else _quoted(text)


def _quoted(text: str) -> str:
    return '"' + "".join(_ESCAPES.get(character) or _escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character.isprintable() and ord(character) < 0xFFFF and character != "\ufeff":
        return character
    return f"\\U{ord(character):08x}"
