"""What to write instead of a value of another type: a sentence for each kind of type, whatever the key is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from planner.asking.checks import EXAMPLES
from planner.asking.request import JOB_PLACES

Written = Callable[[str, Any], str]  # a key and its value as the file has them: YAML, TOML

# Of keys whose default is no example, by the name that a file gives them
USUAL: Final[Mapping[str, Any]] = {  # assumed: examples, as those of options
    JOB_PLACES.get(field, (field.rpartition(".")[2],))[-1]: example for field, example in EXAMPLES.items()
} | {
    "max_steps": 500,
    "warmup_steps": 100,
    "early_stopping_evaluations": 3,
    "held_out_rows": 200,
    "max_rows": 1000,
    "max_tokens": 1024,
}
BY_KIND: Final[Mapping[str, Any]] = {"int": 1, "float": 0.5, "decimal": "12.50"}  # assumed: examples
NUMBERS: Final[Mapping[str, str]] = {
    "int": "a whole number alone, such as",
    "float": "a number alone, such as",
    "decimal": "an amount alone, such as",
}
ITEMS: Final[Mapping[type, tuple[Any, ...]]] = {int: (0, 1, 2)}  # assumed: of a list, where what was written can't be one


def instead(key: str, expected: tuple[str, ...], value: Any, *, usual: Any, item: type | None, written: Written) -> str | None:
    """The hint where `key` holds `value`. `expected`: msgspec's words for what it takes; `usual`: its default; `item`: what a
    list there holds. None where there is nothing shorter than the complaint.
    """
    if value is None:
        return f"write a value behind `{key}:`, or leave the line out"
    if "bool" in expected:
        return f"write {' or '.join(f'`{written(key, answer)}`' for answer in (True, False))}"
    if "array" in expected:
        return f"write a list: `{written(key, _list_of(value, item))}`"
    if kind := next((word for word in expected if word in NUMBERS), None):
        example = usual if isinstance(usual, int | float) and not isinstance(usual, bool) else USUAL.get(key, BY_KIND[kind])
        return f"write {NUMBERS[kind]} `{written(key, Bare(str(example)))}`"
    if "str" in expected:
        text = str(USUAL[key]) if isinstance(value, bool) and key in USUAL else _plain(value)
        return f"write text, in quotes: `{written(key, Quoted(text))}`"
    return "write its keys on lines of their own, indented under it" if "object" in expected else None


class Bare(str):
    """An example that is written as it is."""

    __slots__ = ()


class Quoted(str):
    """Text that would be something else without quotes."""

    __slots__ = ()


def _list_of(value: Any, item: type | None) -> list[Any]:
    return [_plain(value)] if item is None or item not in ITEMS else [*ITEMS[item]]


def _plain(value: Any) -> str:
    return "…" if isinstance(value, dict | list) else str(value)
