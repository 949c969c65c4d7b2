"""From options to the `Request`: what was said, laid over a job file's or over the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from planner.asking.checks import checked
from planner.asking.contradictions import consistent
from planner.asking.data import (
    DEFAULT_TOKENS_PER_EXAMPLE,
    DataFile,
    Measure,
    default_data,
    format_of,
    measured_again,
    measured_data,
    stated_data,
)
from planner.asking.options.table import DATA_FIELDS, said
from planner.asking.request import HOST, LOCAL, Changes, DataAsked, Request, RequestError
from planner.asking.rules import said_of_loop, with_loop
from planner.asking.training_keys import check_training
from remote.contract import Reading

S = TypeVar("S", bound=msgspec.Struct)

NO_MODEL: Final = (
    "--model 7b, --model Qwen/Qwen2.5-7B-Instruct, or a job file; `rentune catalog models` lists what has a name, and "
    "--which-model, beside a card, what trains on it"
)


def request_of(options: Mapping[str, Any], *, start: Request | None = None, measure: Measure | None = None) -> Request:
    """The Request that the options ask for, laid over `start` (a job file's). Raises RequestError.

    `measure` reads the lengths of the file named by --data; without it such a file is refused.
    """
    given = {field: value for field, value in said(options).items() if field not in DATA_FIELDS}
    if start is None:
        if "model" not in given:
            raise RequestError("no model was named", hint=NO_MODEL)
        start = Request(model=given["model"], data=default_data())
    request = _laid(start, given)
    check_training(request.model, request.training)
    request = _replace(request, data=_data(request, options, measure=measure))
    return consistent(checked(with_loop(request, said={*said_of_loop(start), *_of_loop(given)})))


def on_host(request: Request, address: str) -> Request:
    """The request on that machine of one's own, as `--host` lays it over what a file says. Raises RequestError."""
    given = {"where.host": address}
    return consistent(checked(_laid(request, given)))


def changed(request: Request, changes: Changes) -> Request:
    """The request as if these of its fields had been said so, or not at all where they are None: what nobody said of the loop
    follows. Whether they make sense is not asked.
    """
    return with_loop(_laid(request, changes), said={*said_of_loop(request), *_of_loop(changes)})


def _of_loop(given: Mapping[str, Any]) -> set[str]:
    """The keys of the loop among the fields that options fill."""
    return {key for section, _, key in (field.partition(".") for field in given) if section == "loop"}


def _beside_own_machine(request: Request, given: Mapping[str, Any]) -> Request:
    """Where options name a machine of one's own, without what a file says of the machines to choose from."""
    providers = given.get("where.providers", ())
    if "where.host" in given:
        return _replace(request, where=_replace(request.where, **CHOSEN_AMONG, providers=()))
    if providers == (LOCAL,):
        return _replace(request, where=_replace(request.where, **CHOSEN_AMONG, host=None))
    return _replace(request, where=_replace(request.where, **CHOSEN_AMONG)) if providers == (HOST,) else request


# What a file says of the machines to choose from: nothing of a machine that is named
CHOSEN_AMONG: Final[Mapping[str, Any]] = {
    "gpus": (),
    "num_gpus": None,
    "regions": (),
    "instance_types": (),
    "spot": None,
    "allow_from": (),
}


def _laid(request: Request, given: Mapping[str, Any]) -> Request:
    """`request` with every given field in its section, and None for one as if it had not been said."""
    request = _beside_own_machine(request, given)
    sections: dict[str, dict[str, Any]] = {}
    for field, value in given.items():
        section, _, key = field.rpartition(".")
        sections.setdefault(section, {})[key] = value
    top = sections.pop("", {})
    if "tags" in top:
        top["tags"] = request.tags | dict(top["tags"])
    if "training" in sections:
        training = request.training | sections.pop("training")
        top["training"] = {key: value for key, value in training.items() if value is not None}
    return _replace(request, **top, **{name: _filled(getattr(request, name), new) for name, new in sections.items()})


def _filled(section: S, new: Mapping[str, Any]) -> S:
    usual = type(section)()
    return _replace(section, **{key: getattr(usual, key) if value is None else value for key, value in new.items()})


def _data(request: Request, options: Mapping[str, Any], *, measure: Measure | None) -> DataAsked:
    """The data asked for by --data, --examples and --tokens; where they are silent, what the request has."""
    path, examples, tokens = options.get("data"), options.get("examples"), options.get("tokens")
    columns = dict(options.get("column") or ())
    if tokens is not None and (path or request.data.path) is not None:
        raise RequestError("--tokens is for a job without a file: those of a data file are counted", hint="leave it out")
    if path is not None:
        reading = Reading(format=format_of(request.task, "auto"), columns=columns, max_rows=examples)
        file = DataFile(path=path, reading=reading, model=request.model)
        return measured_data(file, measure=measure)
    if request.data.path is not None:
        again = columns or any(options.get(key) is not None for key in ("examples", "model", "task"))
        return measured_again(request, examples=examples, columns=columns, measure=measure) if again else request.data
    if columns:
        raise RequestError("--column names a column of a data file, and there is none", hint="name one by --data")
    if examples is None and tokens is None and request.data.basis != "default":
        return request.data
    length = request.training.get("seq_len", DEFAULT_TOKENS_PER_EXAMPLE)
    return stated_data(num_examples=examples, num_tokens=tokens, tokens_per_example=length)


def _replace(value: S, **changes: Any) -> S:
    return msgspec.structs.replace(value, **changes)
