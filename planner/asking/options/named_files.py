"""The options that name a file, and what is said of one that names none or can't be written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from planner.asking.request import RequestError


class NamedFile(NamedTuple):
    """One option."""

    words: str  # for it in a sentence
    example: str  # what to type instead of nothing
    is_written: bool = False

    @property
    def remedy(self) -> str:
        """What to type where it can't be written."""
        return f"another place for {self.words}"


NAMED_FILES: Final[Mapping[str, NamedFile]] = {  # by option
    "job": NamedFile("the job", "job.yaml"),
    "data": NamedFile("--data", "--data FILE.jsonl"),
    "save": NamedFile("--save", "--save plan.json", is_written=True),
    "html": NamedFile("--html", "--html plan.html", is_written=True),
}


def require_named(options: Mapping[str, Any]) -> None:
    """Raises RequestError for an option that names nothing: "" would be the folder that one stands in."""
    for option, file in NAMED_FILES.items():
        if (name := options.get(option)) is not None and not str(name).strip():
            raise RequestError(f"{file.words} '' names no file", hint=file.example)


def written(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The files that are asked to be written, each with what to type where that can't be."""
    for option, file in NAMED_FILES.items():
        if file.is_written and (name := options.get(option)) is not None:
            yield name, file.remedy
