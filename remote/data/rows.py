"""Rows as people write them: JSON lines, JSON, CSV or plain text; a document, an instruction pair or a conversation."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

Role = Literal["system", "user", "assistant"]

# The names that instruction and chat data carry in the wild: Alpaca, Dolly, TRL, OpenAI, ShareGPT.
PROMPT_KEYS: Final = ("instruction", "prompt", "question")
CONTEXT_KEYS: Final = ("input", "context")
ANSWER_KEYS: Final = ("output", "response", "completion", "answer")
CHAT_KEYS: Final = ("messages", "conversations")
USABLE_KEYS: Final = (
    'use "messages", "prompt" with "completion", "question" with "answer", "instruction" with "output", or "text"'
)
NEW_LINE: Final = b"\n"
UNDER_DATA: Final = re.compile(r'"data"\s*:\s*\[')
BETWEEN_ROWS: Final = frozenset(" \t\r\n,")
SEPARATORS: Final = (";", "\t", "|", ",")  # of tables in the wild; one of them stands in no key
ROLES: Final[Mapping[str, Role]] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}


@dataclass(frozen=True, kw_only=True)
class Document:
    """Raw text: every token is learned."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Messages in order, at least one of them the assistant's: only those are learned."""

    messages: tuple[Message, ...]


Row = Document | Conversation


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A row that can't be read: where it stands (from 1; of JSON lines also the column, where one is wrong) and why."""

    file: str  # its name
    line: int
    column: int | None = None
    why: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{'' if self.column is None else f'{self.column}:'} {self.why}"


@dataclass(frozen=True, kw_only=True)
class Rows:
    format: Literal["text", "instruction", "chat"]
    rows: tuple[Row, ...]
    lines: tuple[int, ...]  # in the file, of each of them
    broken: tuple[Broken, ...]


class UnreadableData(Exception):
    """The file as a whole can't be read; the message says why and what to do."""


class _BadRow(Exception):
    """One row can't be read; `column` is where, in its line."""

    def __init__(self, why: str, *, column: int | None = None) -> None:
        super().__init__(why)
        self.column = column


def read_rows(path: Path, *, kind: str = "auto", max_rows: int | None = None) -> Rows:
    """Read a data file. `kind` "auto" is settled by the first readable row; every later row must be of the same kind.

    Raises `UnreadableData` where nothing can be read at all; single bad rows are returned in `broken`.
    """
    chosen: str | None = None if kind == "auto" else kind
    rows: list[Row] = []
    lines: list[int] = []
    broken: list[Broken] = []
    for line, raw in _records(path):
        try:
            record = raw if isinstance(raw, Mapping) else _parsed(raw)
            chosen = chosen or kind_of(record)
            _require_whole(record)
            rows.append(_of_characters(_READERS[chosen](record)))
            lines.append(line)
        except _BadRow as error:
            broken.append(Broken(file=path.name, line=line, column=error.column, why=_printable(str(error))))
        if max_rows is not None and len(rows) >= max_rows:
            break
    if not rows and not broken:
        raise UnreadableData(f"{path.name} holds no rows")
    return Rows(format=_as_format(chosen or "text"), rows=tuple(rows), lines=tuple(lines), broken=tuple(broken))


def _require_whole(record: Mapping[str, Any]) -> None:
    """Raises `_BadRow` for a table's row with more cells than its header: half of a text would be learned."""
    beyond = record.get(BEYOND)
    if isinstance(beyond, list) and any(str(cell).strip() for cell in beyond):
        held = len(record) - 1
        raise _BadRow(f"{held + len(beyond)} cells under a header of {held}: put a text that holds the separator in quotes")


def _as_format(kind: str) -> Literal["text", "instruction", "chat"]:
    return "chat" if kind == "chat" else "instruction" if kind == "instruction" else "text"


def kind_of(record: Mapping[str, Any]) -> str:
    """Which kind of row these keys make."""
    if any(key in record for key in CHAT_KEYS):
        return "chat"
    if any(key in record for key in PROMPT_KEYS) and any(key in record for key in ANSWER_KEYS):
        return "instruction"
    if "text" in record:
        return "text"
    keys = sorted(map(str, record))
    raise _BadRow(f"no known keys (found: {', '.join(keys) or 'none'}); {_slip(keys) or USABLE_KEYS}")


def _slip(keys: list[str]) -> str | None:
    """What was meant, where a table has another separator than its name says, or a known key is written otherwise."""
    known = {*PROMPT_KEYS, *CONTEXT_KEYS, *ANSWER_KEYS, *CHAT_KEYS, "text"}
    for key in keys:
        if separator := next((each for each in SEPARATORS if each in key and known & set(_plain(key).split(each))), None):
            return f"are the columns separated by {separator!r}? Write commas, or tabs in a file named .tsv"
    meant = {key: _plain(key) for key in keys if key not in known and _plain(key) in known}
    return "; ".join(f"header {key!r}: did you mean {plain!r}?" for key, plain in meant.items()) or None


def _plain(key: str) -> str:
    return key.strip().lower().replace('"', "")


# ── files ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _records(path: Path) -> Iterator[tuple[int, Any]]:
    """(line number, raw record) pairs; JSON lines stay text until the row is read, so that one bad line is one bad row."""
    reader = _FILES.get(path.suffix.lower())
    if reader is None:
        raise UnreadableData(f"{path.name}: unknown kind of file; write it as {', '.join(_FILES)}")
    try:
        yield from reader(path)
    except UnicodeDecodeError as error:
        raise UnreadableData(f"{_not_utf_8(path)}; save it as UTF-8") from error
    except OSError as error:
        raise UnreadableData(f"{path.name} can't be read: {error.strerror}") from error


def _not_utf_8(path: Path) -> str:
    """Where a file that was read in pieces first holds what is no UTF-8."""
    content = path.read_bytes()
    try:
        content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start]
        return f"{path.name}:{before.count(NEW_LINE) + 1}: not UTF-8 text (byte {content[error.start]:#04x})"
    return f"{path.name}: not UTF-8 text"  # it has changed since


def _json_lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line.rstrip()  # else what is missing at its end would be missing on the next line


def _json_list(path: Path) -> Iterator[tuple[int, Any]]:
    text = path.read_text(encoding="utf-8-sig")
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        raise UnreadableData(f"{path.name}:{error.lineno}:{error.colno}: not JSON ({error.msg})") from error
    except RecursionError as error:
        raise UnreadableData(f"{path.name} is nested too deep") from error
    except ValueError as error:  # of Python's integers, which have a longest
        raise UnreadableData(f"{path.name} holds a number of too many digits") from error
    opening = 0
    if isinstance(whole, dict) and isinstance(whole.get("data"), list):
        whole, opening = whole["data"], _opening_of(text, whole["data"])
    if not isinstance(whole, list):
        raise UnreadableData(f'{path.name} must hold a list of rows, or an object with a list under "data"')
    yield from zip(_lines_of(text, opening, len(whole)), whole, strict=True)


def _opening_of(text: str, rows: list[Any]) -> int:
    """Where the list under "data" begins."""
    decode = json.JSONDecoder().raw_decode
    found = (match.end() - 1 for match in UNDER_DATA.finditer(text))
    return next(place for place in found if decode(text, place)[0] == rows)


def _lines_of(text: str, opening: int, num_rows: int) -> Iterator[int]:
    """On which line each row of the list begins that stands behind `opening`."""
    decode = json.JSONDecoder().raw_decode
    at, counted, line = text.index("[", opening) + 1, 0, 1
    for _ in range(num_rows):
        while text[at] in BETWEEN_ROWS:
            at += 1
        line += text.count("\n", counted, at)
        counted = at
        yield line
        _, at = decode(text, at)


BEYOND = ""  # under which a table's row has the cells that no column of the header names


def _table(delimiter: str) -> Callable[[Path], Iterator[tuple[int, Any]]]:
    def read(path: Path) -> Iterator[tuple[int, Any]]:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, delimiter=delimiter, restkey=BEYOND, strict=True)
            try:
                names = tuple(rows.fieldnames or ())
                if twice := next((name for name in names if name and names.count(name) > 1), None):
                    raise UnreadableData(f"{path.name}:1: the header names {twice!r} twice; give each column a name of its own")
                while (record := _next_record(rows)) is not None:
                    yield rows.line_num, record
            except csv.Error as error:
                raise UnreadableData(f"{path.name}:{rows.reader.line_num}: not a table ({error})") from error

    return read


def _next_record(rows: csv.DictReader[str]) -> dict[str, Any] | None:
    with _cells_of_any_length():
        return next(rows, None)


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    """A cell may be as long as a JSON row's text. The limit is the whole process's, so it is put back."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _text_lines(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, {"text": line.rstrip("\n")}


_FILES: Final[Mapping[str, Callable[[Path], Iterator[tuple[int, Any]]]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_list,
    ".csv": _table(","),
    ".tsv": _table("\t"),
    ".txt": _text_lines,
}


def _parsed(raw: Any) -> Mapping[str, Any]:
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except json.JSONDecodeError as error:
            raise _BadRow(f"not JSON ({error.msg})", column=error.colno) from error
        except RecursionError as error:
            raise _BadRow("not JSON (nested too deep)") from error
        except ValueError as error:  # of Python's integers, which have a longest
            raise _BadRow("not JSON that can be read (a number has too many digits)") from error
    if not isinstance(raw, Mapping):
        raise _BadRow(f"a row must be an object, not {_name(raw)}")
    return raw


def _name(value: object) -> str:
    if value is None:
        return "null"
    return {dict: "an object", list: "a list", str: "text", bool: "true or false"}.get(type(value), "a number")


def _of_characters(row: Row) -> Row:
    """The row itself. Raises `_BadRow` for half a surrogate pair: JSON can say it, and no tokenizer takes it."""
    texts = (row.text,) if isinstance(row, Document) else (message.content for message in row.messages)
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise _BadRow(f"\\u{ord(text[error.start]):04x} is half of a surrogate pair, and no character") from error
    return row


def _printable(sentence: str) -> str:
    """The sentence with whatever it quotes, where that is no text either."""
    return sentence.encode(errors="backslashreplace").decode()


# ── kinds of rows ──────────────────────────────────────────────────────────────────────────────────────────────────


def _text_of(record: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    key = next((key for key in keys if key in record), None)
    if key is None:
        raise _none_of(keys, record)
    value = record[key]
    if not isinstance(value, str):
        raise _BadRow(f'"{key}" must be text, not {_name(value)}')
    if not value.strip():
        raise _BadRow(f'"{key}" is empty')
    return value


def _none_of(keys: tuple[str, ...], record: Mapping[str, Any]) -> _BadRow:
    return _BadRow(f"none of the keys {', '.join(keys)} (found: {', '.join(sorted(map(str, record))) or 'none'})")


def _document(record: Mapping[str, Any]) -> Document:
    return Document(text=_text_of(record, ("text",)))


def _instruction(record: Mapping[str, Any]) -> Conversation:
    prompt = _text_of(record, PROMPT_KEYS)
    context = next((record[key] for key in CONTEXT_KEYS if isinstance(record.get(key), str) and record[key].strip()), None)
    messages = [Message(role="user", content=f"{prompt}\n\n{context}" if context else prompt)]
    system = record.get("system")
    if isinstance(system, str) and system.strip():
        messages.insert(0, Message(role="system", content=system))
    return Conversation(messages=(*messages, Message(role="assistant", content=_text_of(record, ANSWER_KEYS))))


def _chat(record: Mapping[str, Any]) -> Conversation:
    key = next((key for key in CHAT_KEYS if key in record), None)
    if key is None:
        raise _none_of(CHAT_KEYS, record)
    turns = record[key]
    if not isinstance(turns, list) or not turns:
        raise _BadRow(f'"{key}" must be a list of messages')
    messages = tuple(_message(turn, number) for number, turn in enumerate(turns, start=1))
    if not any(message.role == "assistant" for message in messages):
        raise _BadRow("no message of the assistant, so there is nothing to learn")
    return Conversation(messages=messages)


def _message(turn: Any, number: int) -> Message:
    if not isinstance(turn, Mapping):
        raise _BadRow(f"message {number} must be an object, not {_name(turn)}")
    role = turn.get("role", turn.get("from"))
    if role not in ROLES:
        raise _BadRow(f"message {number} has the role {role!r}; use system, user or assistant")
    content = turn.get("content", turn.get("value"))
    if not isinstance(content, str):
        raise _BadRow(f"message {number} must have text as its content, not {_name(content)}")
    if ROLES[role] == "assistant" and not content.strip():
        raise _BadRow(f"message {number}, the assistant's, is empty")
    return Message(role=ROLES[role], content=content)


_READERS: Final[Mapping[str, Callable[[Mapping[str, Any]], Row]]] = {
    "text": _document,
    "instruction": _instruction,
    "chat": _chat,
}
FORMATS: Final = tuple(_READERS)
