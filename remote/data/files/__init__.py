"""From a file of data to its records, whatever form it has: each with the place where it stands, in the file's order.

A new form is a row in `FORMS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from remote.data.files.columns import arrow_rows, parquet_rows
from remote.data.files.encodings import what_it_is
from remote.data.files.packed import PACKED, unpacked
from remote.data.files.parts import Part as Part
from remote.data.files.parts import form_of as form_of
from remote.data.files.parts import parts_of
from remote.data.files.texts import BEYOND as BEYOND
from remote.data.files.texts import json_lines, json_list, table, text_lines, whole_text
from remote.data.files.unreadable import UnreadableData as UnreadableData

Record = tuple[int, Any]  # the line, or of a form without lines the row, from 1; text of a JSON line, otherwise a mapping
Reader = Callable[[Path], Iterator[Record]]

FORMS: Final[Mapping[str, Reader]] = {
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".json": json_list,
    ".csv": table(","),
    ".tsv": table("\t"),
    ".txt": text_lines,
    ".parquet": parquet_rows,
    ".arrow": arrow_rows,
}


def files_of(path: Path, more: Sequence[Path] = ()) -> tuple[Part, ...]:
    """The files that hold the rows: see `parts_of`."""
    return parts_of((path, *more), tuple(FORMS))


TEXT: Final = ".txt"


def are_whole(parts: Sequence[Part]) -> bool:
    """Whether each text file among these is one document: of several it is; a lone one has a document a line."""
    return sum(form_of(part.path) == TEXT for part in parts) > 1


def records(path: Path, *, whole: bool = False) -> Iterator[Record]:
    """The records of a file. A JSON line stays text until its row is read, so that one bad line is one bad row. `whole`: a text
    file is one document.

    Raises `UnreadableData` where the file as a whole can't be read.
    """
    form = form_of(path)
    reader = whole_text if whole and form == TEXT else FORMS.get(form)
    if reader is None:
        forms = f"{', '.join(FORMS)}, or one of them packed ({', '.join(PACKED)})"
        raise UnreadableData(f"{path.name}: unknown kind of file; write it as {forms}")
    try:
        yield from reader(path)
    except UnicodeDecodeError as error:
        with unpacked(path) as file:
            raise UnreadableData(what_it_is(path.name, file)) from error
    except OSError as error:
        raise UnreadableData(f"{path.name} can't be read: {error.strerror or error}") from error
