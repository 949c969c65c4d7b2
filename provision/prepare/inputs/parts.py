"""Which files at home hold a job's rows, and what each is called on the box. By the trainer's own rule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from remote.data.files import files_of, form_of
from remote.data.files.unreadable import UnreadableData

__all__ = ["Files", "UnreadableData", "files_of", "form_of", "placed"]

Files = dict[str, str]  # a path at home -> its name on the box, below the folder of what is sent


def placed(path: str, name: str, more: Sequence[str] = ()) -> tuple[str, Files]:
    """Where the trainer finds the rows of a path, below the folder of what is sent, and which files go where.

    They lie in a folder of that name, in the same order, and keep their own: what the trainer says of them is then in words
    that the user knows.
    Raises `UnreadableData`.
    """
    paths = (Path(path), *map(Path, more))
    if len(paths) == 1 and not _is_several(paths[0]):
        there = str(PurePosixPath(name, paths[0].name))
        return there, {path: there}
    parts = files_of(paths[0], paths[1:])
    return name, {str(part.path): str(PurePosixPath(name, part.name)) for part in parts}


def _is_several(path: Path) -> bool:
    """Whether it is a folder or a pattern. A file that is gone is one file all the same: who asks for it is told so."""
    return path.is_dir() or (not path.exists() and any(sign in path.name for sign in "*?["))
