"""Which files at home hold a job's rows, and what each is called on the box. By the trainer's own rule."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

from planner.asking.data import ON_HUB
from remote.data.files import FORMS, files_of, form_of
from remote.data.files.unreadable import UnreadableData

__all__ = ["FORMS", "Files", "UnreadableData", "brought", "files_of", "form_of", "hub_words", "placed"]

Files = dict[str, str]  # a path at home -> its name on the box, below the folder of what is sent


HUB_ID: Final = re.compile(r"[\w-]+/[\w.-]*[\w-]")  # an owner and a name


def hub_words(name: str) -> str | None:
    """What to type for a data set of the hub's; None for what can't be the id of one: files have an ending, and folders of
    one's own are there.
    """
    with suppress(ValueError):  # a plan knows it by its whole path
        name = str(Path(name).relative_to(Path.cwd()))
    path = PurePosixPath(name)
    if HUB_ID.fullmatch(name) is None or form_of(Path(name)) in FORMS or Path(path.parts[0]).exists():
        return None
    return f"of a data set on the hub: {ON_HUB}{name}"


def brought(path: str) -> str:
    """`path`; of `hub:OWNER/NAME` the folder here that holds what is learned of that data set, fetched where it is not there.

    Raises RequestError where it can't be had.
    """
    if not path.startswith(ON_HUB):
        return path
    from provision.prepare.inputs.data_sets import fetched  # only for one of the hub's: it costs start-up time

    return fetched(path)


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
