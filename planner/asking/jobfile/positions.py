"""YAML text -> plain values, and where each of them stands. So that a complaint can name line and column."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
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

MAX_BROKEN: Final = 5  # assumed: of so many sections that are no YAML the rest may be anything
IN_FIRST_COLUMN: Final = re.compile(r"[^\s#}\]]")  # where a key of the file's top begins

Path = KeyPath  # ("training", "rank"), ("where", "gpus", 0)


class JobFileError(RequestError):
    """A job file that can't be understood; the message starts with file, line and column, `path` is what stands there.

    `at` is that line and column where no path leads to it: of what is no YAML, or stands there a second time. `parts`: what is
    wrong beside one another, each as an error of its own, where this one tells them all.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        path: KeyPath = (),
        at: tuple[int, int] | None = None,
        parts: tuple[JobFileError, ...] = (),
    ) -> None:
        super().__init__(message, hint=hint)
        self.path = path
        self.at = at
        self.parts = parts


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A YAML file's values, and the positions of its keys and items."""

    name: str
    values: Any
    positions: dict[Path, tuple[int, int]]  # line and column, counted from 1
    faults: tuple[JobFileError, ...] = ()  # what was passed over: a key the second time, one that is no word, and the like
    whole: bool = True  # False = a part of it is no YAML, and is passed over

    def error(self, path: Path, message: str, *, hint: str | None = None) -> JobFileError:
        """A complaint at the position of `path`."""
        return JobFileError(f"{self.where(path)}: {message}", hint=hint, path=path)

    def where(self, path: Path) -> str:
        """File, line and column of `path`, or of its nearest ancestor that stands in the file."""
        line, column = self.place(path)
        return f"{self.name}:{line}:{column}"

    def place(self, path: Path) -> tuple[int, int]:
        """Line and column of it."""
        while path not in self.positions and path:
            path = path[:-1]
        return self.positions.get(path, (1, 1))

    def with_value(self, key: str, value: Any) -> Document:
        """A copy of the document with another value of a key at its top."""
        return msgspec.structs.replace(self, values=self.values | {key: value})

    def without(self, paths: Iterable[Path]) -> Document:
        """A copy of the document without the values at these places."""
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
    document = _read(text, name)
    if document.faults:
        raise document.faults[0]
    return document


def read_on(text: str, *, name: str) -> Document:
    """A YAML document, whatever is wrong with it: what can't be read is passed over with the section that it stands in, and
    told.

    Raises JobFileError where there is no such section, or nothing else.
    """
    broken: list[JobFileError] = []
    while True:
        try:
            document = _read(text, name)
        except JobFileError as error:
            rest = text if error.at is None or len(broken) == MAX_BROKEN else _without_section(text, error.at[0])
            broken.append(error)
            if rest == text or not rest.strip():
                raise broken[0] from None
            text = rest
        else:
            return msgspec.structs.replace(document, faults=(*broken, *document.faults), whole=not broken)


def _without_section(text: str, line: int) -> str:
    """The text with blank lines for the one at that place and those that belong to it: from a key in the first column to the
    next one. The others stay where they are.
    """
    lines = text.splitlines()
    begins = max((at for at in range(min(line, len(lines))) if IN_FIRST_COLUMN.match(lines[at])), default=0)
    ends = next((at for at in range(begins + 1, len(lines)) if IN_FIRST_COLUMN.match(lines[at])), len(lines))
    return "\n".join((*lines[:begins], *[""] * (ends - begins), *lines[ends:]))


def _read(text: str, name: str) -> Document:
    reader = _Reader(YAML(typ="safe", pure=True), name)
    try:
        _require_small(text, name)
        root = reader.yaml.compose(text)
        values = reader.value(root, ()) if root is not None else None
    except MarkedYAMLError as error:
        raise _no_yaml(error, name) from None
    except RecursionError:
        raise JobFileError(f"{name}: nested more than {MAX_DEPTH} levels deep", hint=OF_LINES) from None
    except YAMLError as error:
        problem = str(error).splitlines()[0]
        raise JobFileError(f"{name}: not valid YAML: {problem}", hint=_remedy(problem)) from None
    return Document(name=name, values=values, positions=reader.positions, faults=tuple(reader.faults))


def _no_yaml(error: MarkedYAMLError, name: str) -> JobFileError:
    """Told where it was seen; it stands where what was open then has begun: a quote that nobody closes is seen at the end."""
    mark = error.problem_mark or error.context_mark
    began = error.context_mark or error.problem_mark
    where = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
    problem = str(error.problem or error.context)
    at = (began.line + 1, began.column + 1) if began is not None else None
    return JobFileError(f"{name}{where}: not valid YAML: {problem}", hint=_remedy(problem), at=at)


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


@dataclass(frozen=True)
class _Reader:
    """Nodes to values, with their places, and what is wrong with single ones."""

    yaml: YAML
    name: str
    positions: dict[Path, tuple[int, int]] = field(default_factory=dict)
    faults: list[JobFileError] = field(default_factory=list)

    def value(self, node: Node, path: Path) -> Any:
        """Raises JobFileError for what no job is, and for a value that can't be read and has no key."""
        self.positions.setdefault(path, _position(node))
        if len(path) > MAX_DEPTH:
            raise self.fault(self.positions[path], f"nested more than {MAX_DEPTH} levels deep", OF_LINES)
        if len(self.positions) > MAX_VALUES:
            what = f"holds more than {MAX_VALUES:,} values, aliases counted as often as they stand"
            raise JobFileError(f"{self.name}: {what}", hint="write no aliases (`*name`)")
        if isinstance(node, MappingNode):
            return dict(self.pairs(node, path))
        if isinstance(node, SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        try:
            return self.yaml.constructor.construct_object(node, deep=True)
        except ValueError:  # an impossible date, a number of thousands of digits
            what = "this is no number and no date that can be read"
            raise self.fault(self.positions[path], what, "put it in quotes if it is text") from None

    def pairs(self, node: MappingNode, path: Path) -> Iterator[tuple[str, Any]]:
        """Each key with its value, but for those that can't be taken."""
        seen: set[str] = set()
        for key_node, value_node in node.value:
            at = _position(key_node)
            if not isinstance(key_node, ScalarNode):
                self.faults.append(self.fault(at, "a key must be a word", OF_LINES))
                continue
            key: str = key_node.value
            if key in seen:
                self.faults.append(self.fault(at, f"{key} stands twice in the same section", f"leave one {key} out"))
                continue
            seen.add(key)
            self.positions[*path, key] = at
            yield key, self.value(value_node, (*path, key))

    def fault(self, at: tuple[int, int], what: str, hint: str) -> JobFileError:
        """One at a place of its own."""
        return JobFileError(f"{self.name}:{at[0]}:{at[1]}: {what}", hint=hint, at=at)


def _position(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
