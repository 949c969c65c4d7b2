"""YAML text -> plain values, and where each of them stands. So that a complaint can name line and column."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from planner.asking.request import RequestError

MAX_DEPTH: Final = 20  # assumed: a job file is four deep; an anchor that contains itself would have no end
MAX_VALUES: Final = 10_000  # assumed: aliases of aliases grow without end; no job says a hundredth of it

Path = tuple[str | int, ...]  # ("training", "rank"), ("where", "gpus", 0)


class JobFileError(RequestError):
    """A job file that can't be understood; the message starts with file, line and column."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A YAML file's values, and the positions of its keys and items."""

    name: str
    values: Any
    positions: dict[Path, tuple[int, int]]  # line and column, counted from 1

    def error(self, path: Path, message: str, *, hint: str | None = None) -> JobFileError:
        """A complaint at the position of `path`, or of its nearest ancestor that stands in the file."""
        while path not in self.positions and path:
            path = path[:-1]
        line, column = self.positions.get(path, (1, 1))
        return JobFileError(f"{self.name}:{line}:{column}: {message}", hint=hint)


def read_document(text: str, *, name: str) -> Document:
    """Parse YAML 1.2. Raises JobFileError for broken YAML, a repeated key or a key that is not text."""
    yaml = YAML(typ="safe", pure=True)
    positions: dict[Path, tuple[int, int]] = {}
    try:
        root = yaml.compose(text)
        values = _value(yaml, root, (), positions, name) if root is not None else None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
        raise JobFileError(f"{name}{where}: not valid YAML: {error.problem or error.context}") from None
    except RecursionError:
        raise JobFileError(f"{name}: nested more than {MAX_DEPTH} levels deep") from None
    except YAMLError as error:
        raise JobFileError(f"{name}: not valid YAML: {str(error).splitlines()[0]}") from None
    return Document(name=name, values=values, positions=positions)


def _value(yaml: YAML, node: Node, path: Path, positions: dict[Path, tuple[int, int]], name: str) -> Any:
    positions.setdefault(path, _position(node))
    if len(path) > MAX_DEPTH:
        line, column = positions[path]
        raise JobFileError(f"{name}:{line}:{column}: nested more than {MAX_DEPTH} levels deep")
    if len(positions) > MAX_VALUES:
        raise JobFileError(f"{name}: holds more than {MAX_VALUES:,} values, aliases counted as often as they stand")
    if isinstance(node, MappingNode):
        return dict(_pairs(yaml, node, path, positions, name))
    if isinstance(node, SequenceNode):
        return [_value(yaml, item, (*path, index), positions, name) for index, item in enumerate(node.value)]
    try:
        return yaml.constructor.construct_object(node, deep=True)
    except ValueError:  # an impossible date, a number of thousands of digits
        line, column = positions[path]
        raise JobFileError(f"{name}:{line}:{column}: this is no number and no date that can be read") from None


def _pairs(
    yaml: YAML, node: MappingNode, path: Path, positions: dict[Path, tuple[int, int]], name: str
) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for key_node, value_node in node.value:
        line, column = _position(key_node)
        if not isinstance(key_node, ScalarNode):
            raise JobFileError(f"{name}:{line}:{column}: a key must be a word")
        key: str = key_node.value
        if key in seen:
            raise JobFileError(f"{name}:{line}:{column}: {key} stands twice in the same section")
        seen.add(key)
        positions[*path, key] = (line, column)
        yield key, _value(yaml, value_node, (*path, key), positions, name)


def _position(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
