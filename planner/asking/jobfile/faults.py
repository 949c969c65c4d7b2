"""Everything that is wrong with a job file at once: what is refused is left out, and the rest read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from catalogs.failure import KeyPath
from planner.asking.data import DataFile, Lengths, Measure
from planner.asking.jobfile import asked_by, keyed, of_known_keys
from planner.asking.jobfile.foreign import names_model
from planner.asking.jobfile.marks import marked, outlived
from planner.asking.jobfile.positions import Document, JobFileError, read_on
from planner.asking.request import Request

MODEL: Final[KeyPath] = ("model",)
ROWS: Final[KeyPath] = ("data", "file")
STAND_INS: Final[Mapping[KeyPath, str]] = {  # what the other values are judged with where these are refused: they hang on them
    MODEL: "7b",
    ROWS: "\0rows",  # no file is called so
}
# assumed: any will do, since what is asked of them is whether the other keys go together
ANY_LENGTHS: Final = Lengths(num_rows=100, mean_tokens=1, max_tokens=1, profile=(), documents=False, basis="stated")
MAX_FAULTS: Final = 20  # assumed: more at once is no help


class ReadThrough(msgspec.Struct, frozen=True):
    """The request of what is right in a job file, None where too much is wrong; and what is wrong, from its top."""

    request: Request | None
    faults: tuple[JobFileError, ...]


def read_through(text: str, *, name: str, measure: Measure) -> ReadThrough:
    """Read a job file to its end, whatever is refused of it. Where a section is no YAML the others are judged by their keys
    and types alone: what goes together with it is not known.

    Raises JobFileError for what is no YAML at all, or no list of keys: nothing of it can be read.
    """
    document = keyed(read_on(text, name=name))
    choices, faults = marked(text, document), list(document.faults)
    dropped = tuple(outlived(text, document, choices))
    known: dict[bytes, Lengths] = {}  # a file of rows is counted once, however often the rest is read

    def lengths(file: DataFile) -> Lengths:
        if file.path == STAND_INS[ROWS]:
            return ANY_LENGTHS
        asked_as = msgspec.json.encode(file)
        if asked_as not in known:
            known[asked_as] = measure(file)
        return known[asked_as]

    def asked(rest: Document) -> Request | None:
        if rest.whole:
            return asked_by(rest, measure=lengths, choices=set(choices) - {*dropped})
        of_known_keys(rest)
        return None

    rest: Document | None = document.without(dropped)
    if not document.whole and MODEL[0] not in document.values:  # it may stand in what could not be read
        rest = _with_stand_in(document, MODEL)
    while rest is not None and len(faults) < MAX_FAULTS:
        try:
            request = asked(rest)
        except JobFileError as error:
            if any(names_model(each.path) for each in error.parts or (error,)) and MODEL[0] not in document.values:
                rest = _with_stand_in(rest, MODEL)  # it is named, by a key of another tool
            for each in error.parts or (error,):
                faults.append(each)
                rest = _without_value(rest, each.path) if rest is not None else None
        else:
            return ReadThrough(request, _by_place(faults, document))
    return ReadThrough(None, _by_place(faults, document))


def _without_value(document: Document, path: KeyPath) -> Document | None:
    """The document without the value that was refused, or with what stands in for it; None where none can be left out."""
    if "model" not in document.values and path == ():
        path = MODEL
    keys = path[: next((place for place, step in enumerate(path) if isinstance(step, int)), len(path))]
    if keys in STAND_INS:
        return None if _at(document.values, keys) == STAND_INS[keys] else _with_stand_in(document, keys)
    rest = document.without([keys]) if keys else document
    return None if rest.values == document.values else rest


def _with_stand_in(document: Document, keys: KeyPath) -> Document:
    section, stand_in = str(keys[0]), STAND_INS[keys]
    return document.with_value(section, stand_in if len(keys) == 1 else document.values[section] | {keys[1]: stand_in})


def _at(values: Any, keys: KeyPath) -> Any:
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _by_place(faults: list[JobFileError], document: Document) -> tuple[JobFileError, ...]:
    return tuple(sorted(faults, key=lambda fault: fault.at or document.place(fault.path))[:MAX_FAULTS])
