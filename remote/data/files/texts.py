"""Forms that are text: JSON lines, JSON, tables, plain text."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from remote.data.files.encodings import wide_encoding, wide_words
from remote.data.files.packed import text_of
from remote.data.files.unreadable import UnreadableData, require_once

UNDER_DATA: Final = re.compile(r'"data"\s*:\s*\[')
BETWEEN_ROWS: Final = frozenset(" \t\r\n,")


def json_lines(path: Path) -> Iterator[tuple[int, str]]:
    with text_of(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line.rstrip()  # else what is missing at its end would be missing on the next line


def json_list(path: Path) -> Iterator[tuple[int, Any]]:
    with text_of(path) as file:
        text = file.read()
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


OTHER_SEPARATORS: Final = (";", "\t", "|", ",")  # of tables in the wild
BEYOND = ""  # under which a table's row has the cells that no column of the header names


def table(delimiter: str) -> Callable[[Path], Iterator[tuple[int, Any]]]:
    def read(path: Path) -> Iterator[tuple[int, Any]]:
        with text_of(path, newline="") as file:
            rows = csv.DictReader(file, delimiter=delimiter, restkey=BEYOND, strict=True)
            try:
                names = tuple(rows.fieldnames or ())
                _require_text("".join(names), path.name, 1)
                require_once(names, f"{path.name}:1")
                while (record := _next_record(rows)) is not None:
                    yield rows.line_num, record
            except csv.Error as error:
                split = _split_otherwise(tuple(rows.fieldnames or ()))
                raise UnreadableData(f"{path.name}:{rows.reader.line_num}: not a table ({split or error})") from error

    return read


def _split_otherwise(names: tuple[str, ...]) -> str | None:
    """What is meant where the header is a single cell that holds another separator."""
    (header,) = names if len(names) == 1 else ("",)
    mark = next((mark for mark in OTHER_SEPARATORS if mark in header), None)
    return None if mark is None else f"its columns are separated by {mark!r}; write commas, or tabs in a file named .tsv"


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


def text_lines(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in _lines(path):
        if line.strip():
            yield number, {"text": line.rstrip("\n")}


def whole_text(path: Path) -> Iterator[tuple[int, Any]]:
    """All of a file as one document, which stands in its first line that says something; nothing of an empty one."""
    lines = list(_lines(path))
    first = next((number for number, line in lines if line.strip()), None)
    if first is not None:
        yield first, {"text": "".join(line for _, line in lines).strip("\n")}


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with text_of(path) as file:
        for number, line in enumerate(file, start=1):
            _require_text(line, path.name, number)
            yield number, line


def _require_text(line: str, name: str, number: int) -> None:
    """Raises `UnreadableData` for a line with NUL in it; in JSON none can stand but as an escape."""
    if "\0" not in line:
        return
    if number == 1 and (encoding := wide_encoding(line.encode())) is not None:
        raise UnreadableData(wide_words(name, encoding))
    raise UnreadableData(f"{name}:{number}: holds NUL, as a binary file does; save text as UTF-8")
