"""The job file: a Request in YAML. Every complaint names line, column and the nearest valid word (docs/job-file.md)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final, get_args, get_type_hints

import msgspec

from planner.advise import loop_for
from planner.jobfile.positions import Document, read_document
from planner.jobfile.sections import (
    GLOBAL_BATCH_SIZE,
    HOMES,
    SECTIONS,
    TRAINING_KEYS,
    JobFile,
    WhereSection,
)
from planner.quantities import parse_gib
from planner.refusals import CaseError
from planner.request import (
    Budget,
    DataAsked,
    Measure,
    Request,
    RequestError,
    Where,
    checked,
    default_data,
    measured_data,
)
from planner.search.strategies import NotInPlan, check_training
from remote.contract import Loop


def read_job(text: str, *, name: str, measure: Measure | None = None) -> Request:
    """The Request in a job file. `name` stands in every complaint; `measure` reads the file named under `data`.

    Raises JobFileError with file, line and column.
    """
    document = read_document(text, name=name)
    if not isinstance(document.values, dict):
        raise document.error((), "a job file is a list of `key: value` lines", hint="at least `model: 7b`")
    _check_keys(document)
    job = _converted(document)
    training = {key: value for key, value in job.training.items() if key != GLOBAL_BATCH_SIZE and value is not None}
    _check_training(document, training)
    request = Request(
        model=job.model,
        task=job.task,
        training=training,
        global_batch_size=_global_batch_size(document, job.training),
        loop=_loop(document, job, training),
        data=_data(job, measure),
        where=_where(document, job.where),
        budget=Budget(max_usd=job.budget.max_cost, max_hours=job.budget.max_hours),
        keep=job.keep,
        tags=job.tags,
    )
    try:
        return checked(request)
    except RequestError as error:
        raise document.error(error.place, str(error), hint=error.hint) from None


# ── keys and types ─────────────────────────────────────────────────────────────────────────────────────────────────


def _check_keys(document: Document) -> None:
    _check_words(document, (), JobFile.__struct_fields__)
    for section, kind in SECTIONS.items():
        if isinstance(document.values.get(section), dict):
            _check_words(document, (section,), kind.__struct_fields__)
    training = document.values.get("training")
    if isinstance(training, dict):
        for key in set(training) & set(HOMES):
            raise document.error(("training", key), f"{key} does not stand under training", hint=f"write {HOMES[key]}")
        _check_words(document, ("training",), (*TRAINING_KEYS, GLOBAL_BATCH_SIZE))


def _check_words(document: Document, section: tuple[str, ...], known: Iterable[str]) -> None:
    values = document.values
    for key in section:
        values = values[key]
    known = tuple(known)
    for key in values:
        if key not in known:
            place = f" under {section[0]}" if section else ""
            raise document.error((*section, key), f"there is no key {key}{place}", hint=_nearest(key, known))


def _nearest(word: str, known: Iterable[str]) -> str:
    known = tuple(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"


_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>[^`]*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([A-Za-z_][A-Za-z_0-9]*)|\[(\d+)\]")
_EXPECTED = re.compile(r"Expected `(?P<expected>[^`]+)`, got `(?P<got>[^`]+)`")
_TYPE_WORDS: Final = {
    "int": "a whole number", "float": "a number", "decimal": "an amount", "str": "text", "bool": "true or false",
    "null": "nothing", "object": "`key: value` lines", "array": "a list", "date": "a date", "datetime": "a time",
}  # fmt: skip


def _converted(document: Document) -> JobFile:
    try:
        return msgspec.convert(_exact_amounts(document.values), JobFile)
    except msgspec.ValidationError as error:
        match = _AT.match(str(error))
        path = _path(match["path"] or "", document.values) if match else ()
        raise document.error(path, *_sentence(match["what"] if match else str(error), path, document)) from None


def _exact_amounts(values: dict[str, Any]) -> dict[str, Any]:
    """Dollars as they were typed, not as the nearest binary fraction."""
    budget = values.get("budget")
    if isinstance(budget, dict) and isinstance(budget.get("max_cost"), float):
        return values | {"budget": budget | {"max_cost": Decimal(str(budget["max_cost"]))}}
    return values


def _path(text: str, values: dict[str, Any]) -> tuple[str | int, ...]:
    """The steps of msgspec's `$.loop.layers[1]`. It names no key of free ones (`$.tags[...]`): those hold only texts."""
    steps: list[str | int] = [int(index) if index else key for key, index in _STEP.findall(text.partition("[...]")[0])]
    if text.endswith("[...]"):
        free = values[str(steps[0])]
        steps.append(next(key for key, value in free.items() if not isinstance(value, str)))
    return tuple(steps)


def _sentence(what: str, path: tuple[str | int, ...], document: Document) -> tuple[str]:
    """The complaint of msgspec in words: what stands there, what was expected, and the nearest valid word."""
    name = ".".join(str(step) for step in path) or "the file"
    if expected := _EXPECTED.search(what):
        wanted = " or ".join(_TYPE_WORDS.get(word, word) for word in expected["expected"].split(" | ") if word != "null")
        return (f"{name} must be {wanted}, not {_TYPE_WORDS.get(expected['got'], expected['got'])}",)
    if "missing required field" in what:
        return ("the file names no model; write `model: 7b` or another at the top",)
    if "Invalid enum value" in what:
        words = _words_of(path)
        value = document.values
        for step in path:
            value = value[step]
        return (f"{name} can't be {value!r}; {_nearest(str(value), words)}",)
    return (f"{name}: {what}",)


def _words_of(path: tuple[str | int, ...]) -> tuple[str, ...]:
    """The words that a field of the file admits."""
    kind = SECTIONS.get(str(path[0]), JobFile) if len(path) > 1 else JobFile
    return tuple(str(word) for word in get_args(get_type_hints(kind)[str(path[-1])]))


# ── sections ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _check_training(document: Document, training: dict[str, Any]) -> None:
    """Values are checked where the estimate contract is read; `method: auto` is resolved before it gets there."""
    try:
        check_training(training)
    except CaseError as error:
        raise document.error(("training", error.key), error.message, hint=error.hint) from None
    except NotInPlan as error:
        raise document.error(("training", error.key), str(error), hint=error.hint) from None


def _global_batch_size(document: Document, training: dict[str, Any]) -> int | None:
    size = training.get(GLOBAL_BATCH_SIZE)
    if size is not None and (type(size) is not int or size < 1):
        raise document.error(("training", GLOBAL_BATCH_SIZE), "global_batch_size must be a whole number, 1 or more")
    return size


def _loop(document: Document, job: JobFile, training: dict[str, Any]) -> Loop:
    said = document.values.get("loop") or {}
    if "learning_rate" in said:
        return job.loop
    return msgspec.structs.replace(job.loop, learning_rate=loop_for(training.get("method")).learning_rate)


def _data(job: JobFile, measure: Measure | None) -> DataAsked:
    section = job.data
    stated = (section.examples, section.mean_tokens, section.max_tokens)
    if section.file is not None and None in stated:
        return measured_data(
            section.file,
            measure=measure,
            model=job.model,
            max_rows=section.max_rows,
            held_out_path=section.held_out,
            held_out_rows=section.held_out_rows,
            format=section.format,
        )
    default = default_data()
    mean = section.mean_tokens if section.mean_tokens is not None else default.mean_tokens
    return DataAsked(
        path=section.file,
        num_examples=section.examples if section.examples is not None else default.num_examples,
        mean_tokens=mean,
        max_tokens=section.max_tokens if section.max_tokens is not None else -int(-mean // 1),
        basis=section.basis if any(value is not None for value in stated) else default.basis,
        held_out_rows=section.held_out_rows or 0,
        held_out_path=section.held_out,
        format=section.format,
        max_rows=section.max_rows,
    )


def _where(document: Document, section: WhereSection) -> Where:
    try:
        budget_gib = parse_gib(section.gpu_budget) if isinstance(section.gpu_budget, str) else section.gpu_budget
    except ValueError as error:
        raise document.error(("where", "gpu_budget"), str(error)) from None
    return Where(
        gpu_memory_gib=budget_gib,
        gpus=section.gpus,
        num_gpus=section.num_gpus,
        providers=tuple(name.lower() for name in section.providers),
        regions=section.regions,
        instance_types=section.instance_types,
        spot=section.spot,
        host=section.host,
        allow_from=section.allow_from,
    )
