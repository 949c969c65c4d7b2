"""Where a job file says what a failure is about, though it was found long after the file was read."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from catalogs.failure import Failure, KeyPath
from catalogs.user_file import MAX_JOB_BYTES, FileUnusable, expanded, read_text
from planner.asking.jobfile.marks import ANEW, chooses_anew, marked
from planner.asking.jobfile.positions import Document, read_document
from planner.asking.options.table import OPTIONS, said
from planner.asking.request import JOB_PLACES, Request, RequestError

HOMES: Final[Mapping[str, KeyPath]] = {  # keys of the estimate contract that stand elsewhere in a job file
    "model": ("model",),
    "task": ("task",),
    "gpu": ("where", "gpus"),
    "num_gpus": ("where", "num_gpus"),
    "gpu_memory_gib": ("where", "gpu_budget"),
    "mean_seq_len": ("data", "mean_tokens"),
}
OF_DATA: Final[Mapping[str, tuple[KeyPath, ...]]] = {  # options -> what of a job file's data they stand for
    "data": (("data",),),
    "examples": (("data", "examples"), ("data", "max_rows")),
    "tokens": (("data", "examples"), ("data", "mean_tokens"), ("data", "max_tokens")),
}
_VALUED = re.compile(r"--([a-z-]+) (?=[0-9])")  # an option before its value, in a hint


def held_words(request: Request) -> str:
    """Which lines, written by an earlier plan, hold the job to its machine and training, and how to be rid of them."""
    machine = [key.removeprefix("where.") for key in request.chosen if key.startswith("where.")]
    if not machine:
        return ANEW
    gpus = () if "gpus" in machine else request.where.gpus
    option = f"--gpu {shlex.quote(gpus[0])}" if gpus else "as --provider NAME"
    lines = f"{', '.join(machine)} under where: are such lines, and name the machine of an earlier plan"
    return f"{ANEW}; {lines}. An option for what is to be another ({option}) does that, too"


def overruled_by(options: Mapping[str, Any]) -> tuple[KeyPath, ...]:
    """The keys of a job file whose values the options replace."""
    given = said(options)
    tags = tuple(("tags", key) for key, _ in given.pop("tags", ()))
    return (*tags, *(place for field in given for place in OF_DATA.get(field, (_place_of(field),))))


def _place_of(field: str) -> KeyPath:
    return JOB_PLACES.get(field, tuple(field.split(".")))


def tell_place(error: Failure, options: Mapping[str, Any], folder: Path) -> None:
    """Begin the failure's sentence with line and column in the job file of these options, and spell its hint as one does there;
    where an option has said the value, or the file does not, it stays as it is.
    """
    place = _of_job(error.place)
    document = _read(str(options["job"]), folder)
    if document is None or any(place[: len(over)] == over for over in overruled_by(options)):
        return
    stands = next((part for part in _from_whole(place) if part in document.positions), None)
    if stands is None:
        return
    error.found_at(document.where(stands))
    if error.hint is not None:
        keys = {option.flags[0].lstrip("-"): _place_of(option.field)[-1] for option in OPTIONS}
        error.hint = _VALUED.sub(lambda match: f"{keys.get(match[1], match[1])}: ", error.hint)


def _of_job(place: KeyPath) -> KeyPath:
    """The place of a key of the estimate contract is the one that it has in a job file."""
    under_training = len(place) > 1 and place[0] == "training"
    return HOMES.get(str(place[1]), place) if under_training else place


def _from_whole(place: KeyPath) -> Iterable[KeyPath]:
    """The place, then those that it is in, down to a section's key: a section alone says something else."""
    return (place[:length] for length in range(len(place), min(len(place), 2) - 1, -1))


def dropped_choices(options: Mapping[str, Any], folder: Path) -> dict[KeyPath, Any]:
    """What a job file's lines that are marked as the planner's choice say, where these options have it chosen anew; but for
    what an option says itself.
    """
    if not chooses_anew(options):
        return {}
    try:
        text = read_text(folder / expanded(str(options["job"])), max_bytes=MAX_JOB_BYTES)
        document = read_document(text, name=str(options["job"]))
    except (FileUnusable, RequestError):  # as below
        return {}
    over = overruled_by(options)
    return {
        path: document.values[path[0]][path[1]]
        for path in marked(text, document)
        if not any(path[: len(place)] == place for place in over)
    }


def _read(job: str, folder: Path) -> Document | None:
    try:
        return read_document(read_text(folder / expanded(job), max_bytes=MAX_JOB_BYTES), name=job)
    except (FileUnusable, RequestError):  # a pipe is read once; what is no YAML was told before
        return None
