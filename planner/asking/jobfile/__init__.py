"""The job file: a Request in YAML. Every complaint names line, column and the nearest valid word (docs/job-file.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from shlex import quote
from typing import Any, Final

import msgspec

from catalogs.failure import KeyPath
from planner.asking.checks import checked
from planner.asking.contradictions import consistent
from planner.asking.data import DEFAULT_TOKENS_PER_EXAMPLE, DataFile, Measure, format_of, measured_data, stated_data
from planner.asking.jobfile.foreign import TOP, foreign_hint
from planner.asking.jobfile.marks import marked, outlived
from planner.asking.jobfile.positions import Document, JobFileError, read_document
from planner.asking.jobfile.sections import (
    GLOBAL_BATCH_SIZE,
    HEADINGS,
    SECTIONS,
    BudgetSection,
    DataSection,
    JobFile,
    WhereSection,
)
from planner.asking.mistyped import TYPE_WORDS, mistyped
from planner.asking.quantities import parse_gib, parse_lease
from planner.asking.request import Budget, DataAsked, Request, RequestError, Where
from planner.asking.rules import with_loop
from planner.asking.training_keys import ELSEWHERE, TRAINING_KEYS, check_training
from planner.nearest import near, nearest
from planner.refusals import CaseError
from remote.contract import Reading, reading_of


def read_job(
    text: str,
    *,
    name: str,
    measure: Measure | None = None,
    overruled: Iterable[KeyPath] = (),
    said: Mapping[str, Any] = {},
    anew: bool = False,
) -> Request:
    """The Request in a job file. `name` stands in every complaint; `measure` reads the file named under `data`. Values at the
    `overruled` places are not looked at: options replace them, and the values of `said` (by top-level key) the file's, for its
    data is counted by them. `anew`: nor at what the planner chose.

    Raises JobFileError with file, line and column.
    """
    document = job_document(text, name=name)
    choices, overruled = marked(text, document), tuple(overruled)
    dropped = choices if anew else tuple(outlived(text, document, choices))
    document = document.without((*overruled, *dropped))
    for key, value in said.items():
        document = document.with_value(key, value)
    return asked_by(document, measure=measure, choices=set(choices) - {*dropped, *overruled})


def job_document(text: str, *, name: str) -> Document:
    """The values of a job file and where they stand, before any is judged. Raises JobFileError for what is no list of keys."""
    return keyed(read_document(text, name=name))


def keyed(document: Document) -> Document:
    """A job file's document without the keys that say nothing. Raises JobFileError for what is no list of keys."""
    if not isinstance(document.values, dict):
        raise document.error((), "a job file is a list of `key: value` lines", hint="at least `model: 7b`")
    return msgspec.structs.replace(document, values=_without_empty_sections(document.values))


def asked_by(document: Document, *, measure: Measure | None, choices: Iterable[KeyPath]) -> Request:
    """The Request of these values, `choices` among them the planner's. Raises JobFileError for the first that is refused."""
    job = of_known_keys(document)
    training = {key: value for key, value in job.training.items() if key != GLOBAL_BATCH_SIZE and value is not None}
    _check_training(document, job.model, training)
    request = Request(
        model=job.model,
        revision=job.revision,
        task=job.task,
        training=training,
        global_batch_size=_global_batch_size(document, job.training),
        loop=job.loop,
        data=_data(document, job, training, measure),
        purpose=job.purpose,
        where=_where(document, job.where),
        budget=_budget(document, job.budget),
        keep=job.keep,
        tags=job.tags,
        chosen=tuple(sorted(".".join(map(str, path)) for path in choices)),
    )
    try:
        return consistent(checked(with_loop(request, said=document.values.get("loop", {}))))
    except RequestError as error:
        raise document.error(error.place, str(error), hint=error.hint) from None


def of_known_keys(document: Document) -> JobFile:
    """The values by their keys, each of its type; whether they go together is not asked. Raises JobFileError."""
    _check_keys(document)
    return _converted(document)


# ── keys and types ─────────────────────────────────────────────────────────────────────────────────────────────────


def _check_keys(document: Document) -> None:
    """Raises JobFileError for the keys that none is called; where there are several it tells them all."""
    wrong = list(_unknown_words(document, (), JobFile.__struct_fields__))
    for section, kind in SECTIONS.items():
        if isinstance(document.values.get(section), dict):
            wrong += _unknown_words(document, (section,), kind.__struct_fields__)
    training = document.values.get("training")
    if isinstance(training, dict):
        for key in (each for each in training if each in ELSEWHERE):
            hint = f"write {ELSEWHERE[key].job_file}"
            wrong.append(document.error(("training", key), f"{key} does not stand under training", hint=hint))
        known = (*KEYS_UNDER["training"], *ELSEWHERE)
        wrong += _unknown_words(document, ("training",), known)
    if wrong:
        raise wrong[0] if len(wrong) == 1 else _of_several(document, wrong)


def _of_several(document: Document, wrong: list[JobFileError]) -> JobFileError:
    """One error that tells each of them with its remedy, by their lines."""
    wrong.sort(key=lambda each: document.place(each.path))
    lines = [f"  line {document.place(each.path)[0]}, {each.path[-1]}: {each.hint}" for each in wrong[:MAX_TOLD]]
    more = [f"  and {len(wrong) - MAX_TOLD:,} more"] if len(wrong) > MAX_TOLD else []
    sentence = f"{document.name} has {len(wrong)} keys that no job file has there:"
    hint = f"`rentune check {quote(document.name)}` tells the rest, once these are right"
    return JobFileError("\n".join((sentence, *lines, *more)), hint=hint, path=wrong[0].path, parts=tuple(wrong))


KEYS_UNDER: Final[Mapping[str, tuple[str, ...]]] = {"training": (*TRAINING_KEYS, GLOBAL_BATCH_SIZE)} | {
    section: kind.__struct_fields__ for section, kind in SECTIONS.items()
}


def _without_empty_sections(values: dict[str, Any]) -> dict[str, Any]:
    """A heading whose lines were all deleted says nothing, as a key without a value does."""
    return {key: value for key, value in values.items() if value is not None or key not in HEADINGS}


def _unknown_words(document: Document, section: tuple[str, ...], known: Iterable[str]) -> Iterator[JobFileError]:
    values = document.values
    for key in section:
        values = values[key]
    known = tuple(known)
    for key, value in values.items():
        if key not in known:
            place = f" under {section[0]}" if section else ""
            hint = _meant(str(key), value, known, heading=section[0] if section else TOP)
            yield document.error((*section, key), f"there is no key {key}{place}", hint=hint)


def _meant(key: str, value: Any, known: tuple[str, ...], *, heading: str) -> str | None:
    """Where a key that is unknown at its place belongs, what it is called here where it is another tool's, or which one was
    meant: of those there, of other sections, or all.
    """
    home = next((heading for heading, keys in KEYS_UNDER.items() if key in keys), None)
    theirs = foreign_hint(key, value, heading=heading)
    if theirs is not None and (home is None or heading == TOP):
        return theirs
    if home is not None:
        return f"write it under `{home}:`"
    if near(key, known) is None:
        for heading, keys in KEYS_UNDER.items():
            if meant := near(key, keys):
                return f"did you mean {meant} under `{heading}:`?"
    return nearest(key, known)


MAX_TOLD: Final = 30  # assumed: of the keys that are wrong; a config of another tool has as many
TYPE_WORDS_OF_YAML: Final = TYPE_WORDS | {"object": "`key: value` lines"}


def _converted(document: Document) -> JobFile:
    try:
        return msgspec.convert(_exact_amounts(document.values), JobFile)
    except msgspec.ValidationError as error:
        if "model" not in document.values:
            raise document.error((), "the file names no model", hint="write `model: 7b` or another at the top") from None
        from planner.asking.jobfile.lines import written  # only for what is wrong

        wrong = mistyped(error, document.values, JobFile, type_words=TYPE_WORDS_OF_YAML, written=written)
        raise document.error(wrong.path, wrong.sentence, hint=wrong.hint) from None


def _exact_amounts(values: dict[str, Any]) -> dict[str, Any]:
    """Dollars as they were typed, not as the nearest binary fraction."""
    budget = values.get("budget")
    if isinstance(budget, dict) and isinstance(budget.get("max_cost"), float):
        return values | {"budget": budget | {"max_cost": Decimal(str(budget["max_cost"]))}}
    return values


# ── sections ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _check_training(document: Document, model: str, training: dict[str, Any]) -> None:
    """Values are checked where the estimate contract is read; `method: auto` is resolved before it gets there."""
    try:
        check_training(model, training)
    except CaseError as error:
        raise document.error(("training", error.key), error.message, hint=error.hint) from None
    except RequestError as error:
        raise document.error(error.place, str(error), hint=error.hint) from None


def _global_batch_size(document: Document, training: dict[str, Any]) -> int | None:
    size = training.get(GLOBAL_BATCH_SIZE)
    if size is not None and (type(size) is not int or size < 1):
        what = f"{GLOBAL_BATCH_SIZE} must be a whole number, 1 or more"
        raise document.error(("training", GLOBAL_BATCH_SIZE), what, hint=f"such as {GLOBAL_BATCH_SIZE} 16")
    return size


def _data(document: Document, job: JobFile, training: dict[str, Any], measure: Measure | None) -> DataAsked:
    """A file is counted, a size is stated: keys that the other kind of data leaves without effect are refused."""
    section, said = job.data, document.values.get("data", {})
    keys, where, hint = _IDLE[section.file is not None]
    for key in keys:
        if said.get(key) is not None:
            raise document.error(("data", key), f"{key} says nothing {where}", hint=hint)
    if section.file is None:
        return _size(section, training)
    return _counted(document, job, measure)


_IDLE: Final = {  # whether a file is named -> the keys without effect, and what to write instead
    True: (
        ("examples", "mean_tokens", "max_tokens"),
        "beside a file, whose rows are counted",
        "leave it out; `max_rows` takes only the first rows",
    ),
    False: (
        ("held_out", *Reading.__struct_fields__),
        "without a file",
        "name one: `file: rows.jsonl`",
    ),
}


def _counted(document: Document, job: JobFile, measure: Measure | None) -> DataAsked:
    section = job.data
    if section.held_out is not None and section.held_out_rows is not None:
        what = "held_out_rows keeps rows of `file` back, and held_out is a file of its own"
        raise document.error(("data", "held_out_rows"), what, hint="leave one of them out")
    paths = (section.file,) if isinstance(section.file, str) else section.file or ()
    if not paths:
        raise document.error(("data", "file"), "the list of files is empty", hint="name one: `file: rows.jsonl`")
    file = DataFile(
        path=paths[0],
        more=paths[1:],
        reading=msgspec.structs.replace(reading_of(section), format=format_of(job.task, section.format)),
        model=job.model,
    )
    try:
        return measured_data(file, measure=measure, held_out_path=section.held_out, held_out_rows=section.held_out_rows)
    except RequestError as error:
        raise document.error(error.place or ("data", "file"), str(error), hint=error.hint) from None


def _size(section: DataSection, training: dict[str, Any]) -> DataAsked:
    return stated_data(
        tokens_per_example=training.get("seq_len", DEFAULT_TOKENS_PER_EXAMPLE),
        num_examples=section.examples,
        mean_tokens=section.mean_tokens,
        max_tokens=section.max_tokens,
        held_out_rows=section.held_out_rows or 0,
    )


def _budget(document: Document, section: BudgetSection) -> Budget:
    try:
        lease_hours = parse_lease(section.lease) if isinstance(section.lease, str) else section.lease
    except ValueError as error:
        raise document.error(("budget", "lease"), str(error), hint="write `lease: 2h`") from None
    return Budget(max_usd=section.max_cost, max_hours=section.max_hours, lease_hours=lease_hours, goal=section.goal)


def _where(document: Document, section: WhereSection) -> Where:
    try:
        budget_gib = parse_gib(section.gpu_budget) if isinstance(section.gpu_budget, str) else section.gpu_budget
    except ValueError as error:
        raise document.error(("where", "gpu_budget"), str(error), hint="write `gpu_budget: 24GB`") from None
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
        offload_disk=section.offload_disk,
        power_usd_per_kwh=section.power_price,
    )
