"""Back to a command line: the words that say again what was asked for, with what changed."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any, Final

from planner.asking.options.kinds import COLUMN, HOURS, LEASE, SIZE, TAG
from planner.asking.options.table import BY_FIELD, DATA_FIELDS, OPTIONS, Option
from planner.asking.request import Changes

YOUR_DATA: Final = "YOUR_DATA.jsonl"  # stands in the command until there is a file


def run_command(options: Mapping[str, Any], *, changes: Changes, has_data: bool, model: str | None) -> str:
    """The command that runs what was planned: the same options, `changes` laid over them (None = left out).

    A size word is a shape without weights, so `model` names one that has them; data that was only stated becomes a
    placeholder.
    """
    unsaid = {"top"} if has_data else {"top", *DATA_FIELDS}
    words = _typed((option for option in OPTIONS if option.field not in unsaid), options)
    if not has_data:
        words["data"] = ["--data", YOUR_DATA]
    if model is not None:
        words["model"] = ["--model", model]
    for field, value in changes.items():
        words.pop(field, None)
        if value is not None:
            words[field] = _words(BY_FIELD[field], value)
    return _line("run", options, words)


def spelled(field: str, value: Any = None) -> str:
    """A field of the Request as an option, with its value if there is one: "--max-cost 5.00"."""
    option = BY_FIELD[field]
    return shlex.join(_words(option, value)) if value is not None else option.flags[0]


def plan_command(options: Mapping[str, Any]) -> str:
    """The command that plans what was asked for, with every option."""
    return _line("plan", options, _typed(OPTIONS, options))


def _line(command: str, options: Mapping[str, Any], words: Mapping[str, list[str]]) -> str:
    job = [str(options["job"])] if options.get("job") else []
    return shlex.join(["rentune", command, *job, *(word for group in words.values() for word in group)])


def _typed(kinds: Iterable[Option], options: Mapping[str, Any]) -> dict[str, list[str]]:
    """The words of every option of these that was said, by its field."""
    said = ((option, options.get(option.parameter)) for option in kinds)
    return {option.field: _words(option, value) for option, value in said if value not in (None, ())}


def _words(option: Option, value: Any) -> list[str]:
    flag = option.flags[0]
    if option.kind is bool:
        return [flag.split("/")[0 if value else 1]]
    values = value if option.multiple else (value,)
    return [word for each in values for word in (flag, _word(option, each))]


def _word(option: Option, value: Any) -> str:
    if option.kind is SIZE:
        return f"{value:.12g}GB"
    if option.kind in (HOURS, LEASE, float):
        return f"{value:.12g}"
    if option.kind in (TAG, COLUMN):
        return "=".join(value)
    return ",".join(value) if isinstance(value, (list, tuple)) else str(value)
