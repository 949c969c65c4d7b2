"""What msgspec says of a value that does not fit its type, in the words of the file where the value stands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from planner.nearest import nearest, one_of

if TYPE_CHECKING:
    from planner.asking.instead import Written

Path = tuple[str | int, ...]


class Mistyped(msgspec.Struct, frozen=True):
    """Where the value stands, one sentence about it, and what was probably meant."""

    path: Path
    sentence: str
    hint: str | None


TYPE_WORDS: Final = {
    "int": "a whole number", "float": "a number", "decimal": "an amount", "str": "text", "bool": "true or false",
    "null": "nothing", "object": "an object", "array": "a list", "date": "a date", "datetime": "a time",
}  # fmt: skip
FOUND_WORDS: Final[Mapping[str, str]] = {"float": "a fraction"}  # whole floats are read as whole numbers
MAX_VALUE_CHARS: Final = 40  # more than this of a wrong value is no help

NO_DECIMAL: Final = "Invalid decimal string"  # msgspec's whole complaint

_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>[^`]*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([A-Za-z_][A-Za-z_0-9]*)|\[(\d+)\]")
_EXPECTED = re.compile(r"Expected `(?P<expected>[^`]+)`, got `(?P<got>[^`]+)`")
_UNKNOWN = re.compile(r"unknown field `(?P<key>[^`]*)`")


def mistyped(
    error: msgspec.ValidationError,
    values: Any,
    kind: type[msgspec.Struct],
    *,
    type_words: Mapping[str, str] = TYPE_WORDS,
    written: Written | None = None,
) -> Mistyped:
    """The complaint about `values`, which were to become a `kind`. `written`: how their file has a key and its value; None =
    whoever asks has a hint of their own.
    """
    match = _AT.match(str(error))
    what, steps = (match["what"], match["path"] or "") if match else (str(error), "")
    path = _path(steps, values)
    name = ".".join(map(str, path))
    value, words = _at(values, path), words_at(kind, path)
    if expected := _EXPECTED.search(what):
        kinds = tuple(word for word in expected["expected"].split(" | ") if word != "null")
        wanted = " or ".join(type_words.get(word, word) for word in kinds)
        sentence = f"{name} must be {wanted}, not {_found(expected['got'], value, type_words)}"
        return Mistyped(path, sentence, one_of(words) or _instead(kind, path, kinds, value, written))
    if unknown := _UNKNOWN.search(what):
        struct = _struct(_kind_at(kind, path))
        fields = struct.__struct_fields__ if struct is not None else ()
        what = f"{name} has" if name else "there is"
        return Mistyped(path, f'{what} no key "{unknown["key"]}"', nearest(unknown["key"], fields))
    if "Invalid enum value" in what:
        return Mistyped(path, f"{name} can't be {_shown(value)}", nearest(str(value), words))
    if what == NO_DECIMAL:
        sentence = f"{name} must be {type_words['decimal']} such as 12.50, not {_found('str', value, type_words)}"
        return Mistyped(path, sentence, _instead(kind, path, ("decimal",), value, written))
    return Mistyped(path, f"{name or 'this'}: {what[:1].lower()}{what[1:]}", None)


def _instead(
    kind: type[msgspec.Struct], path: Path, expected: tuple[str, ...], value: Any, written: Written | None
) -> str | None:
    """What to write; of an item of a list that is the list."""
    if written is None or not path:
        return None
    from planner.asking.instead import instead

    of_list = isinstance(path[-1], int)
    *section, key = path[:-1] if of_list else path
    parts = _members(_kind_at(kind, (*section, key)))
    item = next((get_args(part)[0] for part in parts if get_origin(part) is tuple), None)
    struct = _struct(_kind_at(kind, tuple(section)))
    fields = {} if struct is None else {field.name: field.default for field in msgspec.structs.fields(struct)}
    kinds = ("array",) if of_list else expected
    return instead(str(key), kinds, value, usual=fields.get(str(key)), item=item, written=written)


def words_at(kind: type[msgspec.Struct], path: Path) -> tuple[str, ...]:
    """The words that the field of `kind` at `path` takes, or ()."""
    return tuple(str(word) for part in _members(_kind_at(kind, path)) if get_origin(part) is Literal for word in get_args(part))


def _path(text: str, values: Any) -> Path:
    """The steps of msgspec's `$.loop.layers[1]`. It names no key of free ones (`$.tags[...]`): those hold only texts."""
    steps: list[str | int] = [int(index) if index else key for key, index in _STEP.findall(text.partition("[...]")[0])]
    if text.endswith("[...]"):
        free = _at(values, tuple(steps))
        steps.append(next(key for key, value in free.items() if not isinstance(value, str)))
    return tuple(steps)


def _at(values: Any, path: Path) -> Any:
    for step in path:
        values = values[step]
    return values


def _kind_at(kind: Any, path: Path) -> Any:
    """The type of what stands at `path` in a `kind`."""
    for step in path:
        if isinstance(step, int):
            kind = next(get_args(part)[0] for part in _members(kind) if get_origin(part) is tuple)
        else:
            kind = get_type_hints(_struct(kind)).get(step) if _struct(kind) is not None else None
    return kind


def _struct(kind: Any) -> type[msgspec.Struct] | None:
    """The class whose fields a value of this type has; None for free keys."""
    return next((part for part in _members(kind) if isinstance(part, type) and issubclass(part, msgspec.Struct)), None)


def _members(kind: Any) -> tuple[Any, ...]:
    """The types between the bars of a union; of any other type itself."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _found(got: str, value: Any, type_words: Mapping[str, str]) -> str:
    """E.g. `text ("many")`."""
    word = FOUND_WORDS.get(got, type_words.get(got, got))
    return word if value is None or isinstance(value, dict | list) else f"{word} ({_shown(value)})"


def _shown(value: Any) -> str:
    import json  # only for what is refused: it costs start-up time

    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}…"
