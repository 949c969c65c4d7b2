"""Rows as people write them: a document, an instruction pair or a conversation, out of the records of a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal

from remote.contract import FileBefore
from remote.contract.reading import ANSWER_KEYS, CHAT_KEYS, CONTEXT_KEYS, KNOWN_KEYS, LABEL_KEYS, PROMPT_KEYS, SYSTEM_KEY
from remote.data.cells import Unusable, name_of, text_at
from remote.data.files import BEYOND, Part, are_whole, files_of, records
from remote.data.files import UnreadableData as UnreadableData
from remote.data.labelled import Labelled, Unlabelled, labelled
from remote.data.named import NAMED_SO, Columns, beside, lacking, renamed

Role = Literal["system", "user", "assistant"]
Format = Literal["text", "instruction", "chat", "classification"]

USABLE_KEYS: Final = (
    'use "messages", "prompt" with "completion", "question" with "answer", "instruction" with "output", or "text", '
    "or say which of yours is which: --column prompt=… (columns: in a job file)"
)
LABELLED_KEYS: Final = "a text with its label is a row of task classification: --task classification"
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
    """What one side says in its turn."""

    role: Role
    content: str


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Messages in order, at least one of them the assistant's: only those are learned."""

    messages: tuple[Message, ...]


Written = Document | Conversation  # what is learned token by token
Row = Written | Labelled


def exchanges_of(row: Conversation) -> tuple[tuple[Message, ...], tuple[tuple[Message, ...], ...]]:
    """The system prompt that it begins with, and its turns up to and with each answer, without what follows the last one."""
    opening = next(place for place, message in enumerate(row.messages) if message.role != "system")
    ends = [place + 1 for place, message in enumerate(row.messages) if message.role == "assistant"]
    # answers one after the other belong together: no template takes the second one first
    ends = [end for end in ends if row.messages[end : end + 1] == () or row.messages[end].role != "assistant"]
    return row.messages[:opening], tuple(row.messages[start:end] for start, end in pairwise((opening, *ends)))


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
    """Everything read: the rows in order, all of one format, and those that can't be used."""

    format: Format
    rows: tuple[Row, ...]
    lines: tuple[int, ...]  # in the file, of each of them; of several files numbered on through all
    broken: tuple[Broken, ...]
    files: tuple[FileBefore, ...] = ()  # of several
    unread_labels: int = 0  # documents beside whose text a label stands, which only a classification reads


class _BadRow(Exception):
    """One row can't be read; `column` is where, in its line."""

    def __init__(self, why: str, *, column: int | None = None) -> None:
        super().__init__(why)
        self.column = column


class _NoRow(_BadRow):
    """Its keys make no row of the kind that is read."""


def read_rows(
    path: Path,
    *,
    more: Sequence[Path] = (),
    kind: str = "auto",
    columns: Columns = NAMED_SO,
    max_rows: int | None = None,
) -> Rows:
    """Read the rows of a file, folder or pattern, and of `more` such. `kind` "auto" is settled by the first readable row; every
    later row must be of the same kind. `columns`: see `renamed`.

    Raises `UnreadableData` where nothing can be read at all; single bad rows are returned in `broken`.
    """
    chosen: str | None = None if kind == "auto" else kind
    rows: list[Row] = []
    lines: list[int] = []
    broken: list[Broken] = []
    files: list[FileBefore] = []
    unread_labels = 0
    for part, before, line, raw in _numbered(files_of(path, more)):
        if not files or files[-1][0] != part.name:
            files.append((part.name, before))
        record: Mapping[str, Any] = {}
        try:
            record = raw if isinstance(raw, Mapping) else _parsed(raw)
            named = _by_our_names(record, columns)
            chosen = chosen or kind_of(named)
            _require_whole(record)
            rows.append(_of_characters(_READERS[_as_format(chosen)](named)))
            lines.append(before + line)
            unread_labels += chosen == "text" and _has_label(record)
        except _BadRow as error:
            why = _why_no_row(error, record, columns, chosen) if isinstance(error, _NoRow) else str(error)
            broken.append(Broken(file=part.name, line=line, column=error.column, why=_printable(why)))
        if max_rows is not None and len(rows) >= max_rows:
            break
    if not rows and not broken:
        raise UnreadableData(f"{path.name} holds no rows")
    return Rows(
        format=_as_format(chosen or "text"),
        rows=tuple(rows),
        lines=tuple(lines),
        broken=tuple(broken),
        files=tuple(files) if len(files) > 1 else (),
        unread_labels=unread_labels,
    )


def _numbered(parts: Sequence[Part]) -> Iterator[tuple[Part, int, int, Any]]:
    """Each record of the files: its file, the lines in those before, its own line, and what stands there."""
    before, whole = 0, are_whole(parts)
    for part in parts:
        line = 0
        for line, raw in records(part.path, whole=whole):
            yield part, before, line, raw
        before += line


def _why_no_row(error: _NoRow, record: Mapping[str, Any], columns: Columns, kind: str | None) -> str:
    """With the name that is missing beside those that columns were said for, and with the columns that are left for it."""
    return f"{lacking(columns, is_labelled=kind == 'classification') or error}{beside(record, columns)}"


def _require_whole(record: Mapping[str, Any]) -> None:
    """Raises `_BadRow` for a table's row with more cells than its header: half of a text would be learned."""
    beyond = record.get(BEYOND)
    if isinstance(beyond, list) and any(str(cell).strip() for cell in beyond):
        held = len(record) - 1
        raise _BadRow(f"{held + len(beyond)} cells under a header of {held}: put a text that holds the separator in quotes")


def _by_our_names(record: Mapping[str, Any], columns: Columns) -> Mapping[str, Any]:
    try:
        return renamed(record, columns)
    except Unusable as error:
        raise _BadRow(str(error)) from None


def _as_format(kind: str) -> Format:
    return next((known for known in FORMATS if known == kind), "text")


def kind_of(record: Mapping[str, Any]) -> str:
    """Which kind of row these keys make."""
    if any(key in record for key in CHAT_KEYS):
        return "chat"
    if any(key in record for key in PROMPT_KEYS) and any(key in record for key in ANSWER_KEYS):
        return "instruction"
    if "text" in record:
        return "text"
    keys = sorted(map(str, record))
    meant = LABELLED_KEYS if _has_label(record) else _slip(keys) or USABLE_KEYS
    raise _NoRow(f"no known keys (found: {', '.join(keys) or 'none'}); {meant}")


def _has_label(record: Mapping[str, Any]) -> bool:
    """Whether these keys make a row of a classification."""
    if not any(key in record for key in LABEL_KEYS):  # the rule, and cheaper than what follows
        return False
    try:
        labelled(record)
    except Unusable:
        return False
    return True


def _slip(keys: list[str]) -> str | None:
    """What was meant, where a table has another separator than its name says, or a known key is written otherwise."""
    for key in keys:
        if separator := next((each for each in SEPARATORS if each in key and KNOWN_KEYS & set(_plain(key).split(each))), None):
            return f"are the columns separated by {separator!r}? Write commas, or tabs in a file named .tsv"
    meant = {key: _plain(key) for key in keys if key not in KNOWN_KEYS and _plain(key) in KNOWN_KEYS}
    return "; ".join(f"header {key!r}: did you mean {plain!r}?" for key, plain in meant.items()) or None


def _plain(key: str) -> str:
    return key.strip().lower().replace('"', "")


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
        raise _BadRow(f"a row must be an object, not {name_of(raw)}")
    return raw


def _of_characters(row: Row) -> Row:
    """The row itself. Raises `_BadRow` for half a surrogate pair, which JSON can say and no tokenizer takes."""
    for text in texts_of(row):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise _BadRow(f"\\u{ord(text[error.start]):04x} is half of a surrogate pair, and no character") from error
    return row


def texts_of(row: Row) -> tuple[str, ...]:
    """Every text that stands in it."""
    if isinstance(row, Conversation):
        return tuple(message.content for message in row.messages)
    return (row.text,) if isinstance(row, Document) else (row.text, *filter(None, (row.pair,)), row.label)


def _printable(sentence: str) -> str:
    """The sentence with whatever it quotes, where that is no text either."""
    return sentence.encode(errors="backslashreplace").decode()


# ── kinds of rows ──────────────────────────────────────────────────────────────────────────────────────────────────


def _text_of(record: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    key = next((key for key in keys if key in record), None)
    if key is None:
        raise _none_of(keys, record)
    try:
        return text_at(record, key)
    except Unusable as error:
        raise _BadRow(str(error)) from None


def _none_of(keys: tuple[str, ...], record: Mapping[str, Any]) -> _NoRow:
    return _NoRow(f"none of the keys {', '.join(keys)} (found: {', '.join(sorted(map(str, record))) or 'none'})")


def _document(record: Mapping[str, Any]) -> Document:
    return Document(text=_text_of(record, ("text",)))


def _instruction(record: Mapping[str, Any]) -> Conversation:
    prompt = _text_of(record, PROMPT_KEYS)
    context = next((record[key] for key in CONTEXT_KEYS if isinstance(record.get(key), str) and record[key].strip()), None)
    messages = [Message(role="user", content=f"{prompt}\n\n{context}" if context else prompt)]
    system = record.get(SYSTEM_KEY)
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
        raise _BadRow(f"message {number} must be an object, not {name_of(turn)}")
    role = turn.get("role", turn.get("from"))
    if role not in ROLES:
        raise _BadRow(f"message {number} has the role {role!r}; use system, user or assistant")
    content = turn.get("content", turn.get("value"))
    if not isinstance(content, str):
        raise _BadRow(f"message {number} must have text as its content, not {name_of(content)}")
    if ROLES[role] == "assistant" and not content.strip():
        raise _BadRow(f"message {number}, the assistant's, is empty")
    return Message(role=ROLES[role], content=content)


def _of_class(record: Mapping[str, Any]) -> Labelled:
    try:
        return labelled(record)
    except Unlabelled as error:
        raise _NoRow(f"{error}{_meant(record)}") from None
    except Unusable as error:
        raise _BadRow(f"{error}{_meant(record)}") from None


def _meant(record: Mapping[str, Any]) -> str:
    slip = _slip(sorted(map(str, record)))
    return f"; {slip}" if slip else ""


_READERS: Final[Mapping[Format, Callable[[Mapping[str, Any]], Row]]] = {
    "text": _document,
    "instruction": _instruction,
    "chat": _chat,
    "classification": _of_class,
}
FORMATS: Final = tuple(_READERS)
