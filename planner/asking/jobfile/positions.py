"""YAML text -> plain values, and where each of them stands. So that a complaint can name line and column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from catalogs.failure import KeyPath
from planner.asking.request import RequestError

MAX_DEPTH: Final = 20  # assumed: a job file is four deep; an anchor that contains itself would have no end
MAX_VALUES: Final = 10_000  # assumed: aliases of aliases grow without end; no job says a hundredth of it

Path = KeyPath  # ("training", "rank"), ("where", "gpus", 0)


class JobFileError(RequestError):
    """A job file that can't be understood; the message starts with file, line and column."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A YAML file's values, and the positions of its keys and items."""

    name: str
    values: Any
    positions: dict[Path, tuple[int, int]]  # line and column, counted from 1

    def error(self, path: Path, message: str, *, hint: str | None = None) -> JobFileError:
        """A complaint at the position of `path`."""
        return JobFileError(f"{self.where(path)}: {message}", hint=hint)

    def where(self, path: Path) -> str:
        """File, line and column of `path`, or of its nearest ancestor that stands in the file."""
        while path not in self.positions and path:
            path = path[:-1]
        line, column = self.positions.get(path, (1, 1))
        return f"{self.name}:{line}:{column}"

    def without(self, paths: Iterable[Path]) -> Document:
        """The same without the values at these places."""
        values = self.values
        for path in paths:
            values = _without(values, path)
        return msgspec.structs.replace(self, values=values)


def _without(values: Any, path: Path) -> Any:
    if not isinstance(values, dict) or path[0] not in values:
        return values
    if len(path) == 1:
        return {key: value for key, value in values.items() if key != path[0]}
    return values | {path[0]: _without(values[path[0]], path[1:])}


def read_document(text: str, *, name: str) -> Document:
    """Parse YAML 1.2. Raises JobFileError for broken YAML, a repeated key or a key that is not text."""
    yaml = YAML(typ="safe", pure=True)
    positions: dict[Path, tuple[int, int]] = {}
    try:
        _require_small(text, name)
        root = yaml.compose(text)
        values = _value(yaml, root, (), positions, name) if root is not None else None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
        problem = str(error.problem or error.context)
        raise JobFileError(f"{name}{where}: not valid YAML: {problem}", hint=_remedy(problem)) from None
    except RecursionError:
        raise JobFileError(f"{name}: nested more than {MAX_DEPTH} levels deep", hint=OF_LINES) from None
    except YAMLError as error:
        problem = str(error).splitlines()[0]
        raise JobFileError(f"{name}: not valid YAML: {problem}", hint=_remedy(problem)) from None
    return Document(name=name, values=values, positions=positions)


def _require_small(text: str, name: str) -> None:
    """Raises JobFileError for what no job is, before any of it is kept: a parser that follows 20,000 levels takes minutes."""
    depth, num_values = 0, 0
    for event in YAML(typ="safe", pure=True).parse(text):
        if isinstance(event, CollectionStartEvent):
            depth += 1
        elif isinstance(event, CollectionEndEvent):
            depth -= 1
        num_values += isinstance(event, (ScalarEvent, AliasEvent))
        if depth > MAX_DEPTH:
            mark = event.start_mark
            what = f"nested more than {MAX_DEPTH} levels deep"
            raise JobFileError(f"{name}:{mark.line + 1}:{mark.column + 1}: {what}", hint=OF_LINES)
        if num_values > 2 * MAX_VALUES:
            raise JobFileError(f"{name}: holds more than {MAX_VALUES:,} values", hint=OF_LINES)


OF_LINES: Final = "a job file is `key: value` lines, in sections that are indented by two spaces"
REMEDIES: Final[Mapping[str, str]] = {  # words of ruamel.yaml's complaints -> what to type
    "'\\t'": "indent with spaces: YAML takes no tabs there",
    "unexpected end of stream": 'write the second quote: `model: "7b"`',
    "quoted scalar": 'write the second quote: `model: "7b"`',
    "expected ',' or": "close the bracket: `{rank: 8}`, `[aws, gcp]`",
    "mapping values are not allowed": "begin the keys of one section in the same column, and quote text that holds `: `",
    "block end": "begin the keys of one section in the same column",
    "could not find expected ':'": "write a colon and a space behind each key: `rank: 8`",
    "cannot start any token": 'put text with signs in quotes: `model: "…"`',
    "alias": 'put text that begins with * or & in quotes: `regions: ["*-1"]`',
    "unacceptable character": "leave out what can't be printed",
    "special characters are not allowed": "leave out what can't be printed",
    "constructor": "leave out what begins with !",
}


def _remedy(problem: str) -> str:
    return next((remedy for words, remedy in REMEDIES.items() if words in problem), OF_LINES)


def _value(yaml: YAML, node: Node, path: Path, positions: dict[Path, tuple[int, int]], name: str) -> Any:
    positions.setdefault(path, _position(node))
    if len(path) > MAX_DEPTH:
        line, column = positions[path]
        raise JobFileError(f"{name}:{line}:{column}: nested more than {MAX_DEPTH} levels deep", hint=OF_LINES)
    if len(positions) > MAX_VALUES:
        what = f"holds more than {MAX_VALUES:,} values, aliases counted as often as they stand"
        raise JobFileError(f"{name}: {what}", hint="write no aliases (`*name`)")
    if isinstance(node, MappingNode):
        return dict(_pairs(yaml, node, path, positions, name))
    if isinstance(node, SequenceNode):
        return [_value(yaml, item, (*path, index), positions, name) for index, item in enumerate(node.value)]
    try:
        return yaml.constructor.construct_object(node, deep=True)
    except ValueError:  # an impossible date, a number of thousands of digits
        line, column = positions[path]
        what = "this is no number and no date that can be read"
        raise JobFileError(f"{name}:{line}:{column}: {what}", hint="put it in quotes if it is text") from None


def _pairs(
    yaml: YAML, node: MappingNode, path: Path, positions: dict[Path, tuple[int, int]], name: str
) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for key_node, value_node in node.value:
        line, column = _position(key_node)
        if not isinstance(key_node, ScalarNode):
            raise JobFileError(f"{name}:{line}:{column}: a key must be a word", hint=OF_LINES)
        key: str = key_node.value
        if key in seen:
            what = f"{key} stands twice in the same section"
            raise JobFileError(f"{name}:{line}:{column}: {what}", hint=f"leave one {key} out")
        seen.add(key)
        positions[*path, key] = (line, column)
        yield key, _value(yaml, value_node, (*path, key), positions, name)


def _position(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
