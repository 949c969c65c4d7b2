"""Which files the rows of a job lie in: one, several, those of a folder or of a pattern. Always in the order of their names."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Final, NamedTuple

from remote.data.files.packed import PACKED
from remote.data.files.unreadable import UnreadableData

SPLITS_FILE: Final = "dataset_dict.json"  # by which `datasets` marks a folder of several data sets (DatasetDict.save_to_disk)
STATE_FILE: Final = "state.json"  # by which it marks one data set, and says which files it is in (Dataset.save_to_disk)

MAX_FILES: Final = 20_000  # assumed: of a folder that somebody calls data; shards are hundreds


class Part(NamedTuple):
    """One file of them, and its name in whatever is said of it: its path below the folder that they are all in."""

    path: Path
    name: str


def parts_of(paths: Sequence[Path], forms: Sequence[str]) -> tuple[Part, ...]:
    """The files that paths name: files, folders (with all within that has one of these forms) or patterns.

    Raises `UnreadableData` where one names none.
    """
    if len(paths) == 1 and paths[0].is_file():
        return (Part(paths[0], paths[0].name),)
    found = sorted({file for path in paths for file in _files(path, forms)}, key=lambda file: file.parts)
    shared = Path(os.path.commonpath([file.parent.absolute() for file in found]))
    return tuple(Part(file, file.absolute().relative_to(shared).as_posix()) for file in found)


def form_of(path: PurePath) -> str:
    """The suffix that tells the form: ".jsonl" of `rows.jsonl.gz`."""
    suffix = path.suffix.lower()
    return PurePath(path.stem).suffix.lower() if suffix in PACKED else suffix


def _files(path: Path, forms: Sequence[str]) -> Iterator[Path]:
    if path.is_dir():
        yield from _in_folder(path, forms)
    elif glob.has_magic(str(path)) and not path.exists():
        found = [Path(each) for each in glob.glob(str(path), recursive=True) if Path(each).is_file()]  # noqa: PTH207 - "**" and links
        if not found:
            raise UnreadableData(f"no file is named like {path}")
        yield from found
    else:
        yield path


def _in_folder(folder: Path, forms: Sequence[str]) -> Iterator[Path]:
    if (folder / SPLITS_FILE).is_file():
        raise UnreadableData(f"{folder.name} holds {_splits(folder)}; name one of them, such as {folder.name}/train")
    if (folder / STATE_FILE).is_file():
        yield from _of_datasets(folder)
        return
    seen = [file for file in _below(folder) if form_of(file) in forms and file.is_file()]
    if not seen:
        raise UnreadableData(f"the folder {folder.name} holds no file of rows ({', '.join(forms)})")
    yield from seen


def _below(folder: Path) -> Iterator[Path]:
    """All files but hidden ones. Raises `UnreadableData` where they are too many to be somebody's rows: a whole disk, say."""
    num_seen = 0
    for place, folders, names in os.walk(folder):  # what goes meanwhile, or can't be read, is passed over
        folders[:] = [name for name in folders if not name.startswith(".")]
        num_seen += len(names)
        if num_seen > MAX_FILES:
            raise UnreadableData(f"the folder {folder} holds more than {MAX_FILES:,} files; name the one that holds the rows")
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _splits(folder: Path) -> str:
    try:
        names = json.loads((folder / SPLITS_FILE).read_text())["splits"]
        return f"the data sets {', '.join(map(str, names))}"
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return "several data sets"


def _of_datasets(folder: Path) -> Iterator[Path]:
    """The files that its state names. Raises `UnreadableData` for a state that is none, or picks rows of the files."""
    try:
        state = json.loads((folder / STATE_FILE).read_text())
        names = [str(file["filename"]) for file in state["_data_files"]]
        picked = state.get("_indices_data_files")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UnreadableData(f"{folder.name}/{STATE_FILE} is not as `datasets` writes it; save the data set anew") from error
    if picked:
        raise UnreadableData(f"{folder.name} holds rows that are picked by index; save it anew after flatten_indices()")
    for name in names:
        if PurePath(name).name != name or not (folder / name).is_file():
            raise UnreadableData(f"{folder.name} lacks {name}, which its {STATE_FILE} names; save the data set anew")
        yield folder / name
