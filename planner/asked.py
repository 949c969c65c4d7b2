"""What is asked for, read from where it is said: options, and a job file, a saved plan or a data file that they name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from catalogs.failure import Failure
from catalogs.user_file import MAX_JOB_BYTES, MAX_PLAN_BYTES, FileUnusable, exists, expanded, read_text, shortened
from planner.asking.checks import checked
from planner.asking.data import ON_HUB, DataFile, Lengths, Measure
from planner.asking.earlier import continued
from planner.asking.options.named_files import require_named
from planner.asking.options.overlay import request_of
from planner.asking.options.table import said
from planner.asking.request import Request, RequestError
from planner.plan import Plan
from planner.saved import read_plan, says_it_is_a_plan
from remote.contract import with_template_at

if TYPE_CHECKING:
    from planner.asking.jobfile.faults import ReadThrough

PLAN_SUFFIX: Final = ".json"
JOB_SUFFIXES: Final = (".yaml", ".yml")


def read_asked(options: Mapping[str, Any], *, folder: Path, measure: Measure) -> Request | Plan:
    """What the options ask for. The job file is read here, data by `measure`; relative paths start from `folder`, those in
    a job file from where it lies. A saved plan is returned as it is when no option changes it, else its request is asked anew.
    """
    with at_its_place(options, folder):
        return _read_asked(options, folder=folder, measure=measure)


@contextmanager
def at_its_place(options: Mapping[str, Any], folder: Path) -> Iterator[None]:
    """A failure over a value of the job file that is met within tells where it stands: file, line and column."""
    try:
        yield
    except Failure as error:
        if error.place and is_job_file(options):
            from planner.asking.jobfile.told import tell_place  # only where something is wrong

            tell_place(error, options, folder)
        raise


def read_whole(job: str, *, folder: Path, measure: Measure) -> ReadThrough:
    """All that a job file asks for, and all that is wrong with it; a saved plan is read or refused as one. Raises RequestError
    for what can't be read at all.
    """
    from planner.asking.jobfile.faults import ReadThrough, read_through  # only `check` reads on behind a mistake

    path = folder / expanded(job)
    if path.suffix == PLAN_SUFFIX:
        asked = read_asked({"job": job}, folder=folder, measure=measure)
        return ReadThrough(asked.request if isinstance(asked, Plan) else asked, ())
    read = read_through(_text_of(path, job), name=job, measure=_from(path.parent, measure))
    return read if read.request is None else msgspec.structs.replace(read, request=_located(read.request, path.parent))


def says_what_is_asked(path: Path) -> bool:
    """Whether a file is a job file or a saved plan, and does not hold rows."""
    if path.suffix in JOB_SUFFIXES:
        return path.is_file()
    try:
        return path.suffix == PLAN_SUFFIX and says_it_is_a_plan(read_text(path, max_bytes=MAX_PLAN_BYTES))
    except FileUnusable:
        return False  # who reads it tells what it is


def is_job_file(options: Mapping[str, Any]) -> bool:
    """Whether a job file is named, and no saved plan."""
    return options.get("job") is not None and Path(str(options["job"])).suffix != PLAN_SUFFIX


def _read_asked(options: Mapping[str, Any], *, folder: Path, measure: Measure) -> Request | Plan:
    require_named(options)
    start = None
    if options.get("job") is not None:
        start = _read_start(folder / expanded(str(options["job"])), options, measure=measure)
    if isinstance(start, Plan):
        if not said(options):
            return start
        start = start.request
    request = request_of(options, start=start, measure=_from(folder, measure))
    return continued(_with_data_at(folder, request))


DATA_SUFFIXES: Final = (".jsonl", ".csv", ".tsv", ".parquet")  # in which nobody writes a job


def _read_start(path: Path, options: Mapping[str, Any], *, measure: Measure) -> Request | Plan:
    name = str(options["job"])
    if path.suffix.lower() in DATA_SUFFIXES:
        raise RequestError(f"{shortened(name)} is no job file, by its name", hint=f"rows to train on: --data {shortened(name)}")
    text = _text_of(path, name)
    if path.suffix == PLAN_SUFFIX:
        plan = read_plan(text, name=name)
        try:
            checked(plan.request)  # it may have been edited
        except RequestError as error:
            error.found_at(name)
            raise
        return plan
    from planner.asking.jobfile import read_job
    from planner.asking.jobfile.marks import chooses_anew
    from planner.asking.jobfile.told import overruled_by

    there, over = _from(path.parent, measure), overruled_by(options)
    counted_by = {key: options[key] for key in ("model", "task") if options.get(key) is not None}
    request = read_job(text, name=name, measure=there, overruled=over, said=counted_by, anew=chooses_anew(options))
    return _located(request, path.parent)


def _text_of(path: Path, name: str) -> str:
    """Of a job file or a saved plan. Raises RequestError."""
    try:
        return read_text(path, max_bytes=MAX_PLAN_BYTES if path.suffix == PLAN_SUFFIX else MAX_JOB_BYTES)
    except FileUnusable as error:
        raise RequestError(f"{shortened(name)} {error}", hint="a job file (YAML), a saved plan (JSON), or --model") from None


def _from(home: Path, measure: Measure) -> Measure:
    """`measure` for files, and models that lie on disk, whose paths start from `home`."""

    def measure_there(file: DataFile) -> Lengths:
        model = _at(home, file.model)
        return measure(
            msgspec.structs.replace(
                file,
                path=_data_at(home, file.path),
                more=tuple(_data_at(home, each) for each in file.more),
                reading=with_template_at(file.reading, lambda path: str(_at(home, path))),
                along=None if file.along is None else _data_at(home, file.along),
                model=str(model) if exists(model) else file.model,
            )
        )

    return measure_there


def _located(request: Request, home: Path) -> Request:
    """The request with every path of the job file made independent of where the command was called."""
    model = _at(home, request.model)
    earlier, kept = request.loop.init_adapter, request.keep.adapter
    loop = msgspec.structs.replace(request.loop, init_adapter=str(_at(home, earlier)) if earlier is not None else None)
    keep = msgspec.structs.replace(request.keep, adapter=str(_at(home, kept)) if kept is not None else None)
    named = msgspec.structs.replace(request, model=str(model) if exists(model) else request.model, loop=loop, keep=keep)
    return _with_data_at(home, named)


def _with_data_at(home: Path, request: Request) -> Request:
    """The request with absolute paths of its data."""
    return msgspec.structs.replace(request, data=request.data.placed(lambda path: _data_at(home, path)))


def _data_at(home: Path, path: str) -> str:
    return path if path.startswith(ON_HUB) else str(_at(home, path))


def _at(home: Path, path: str) -> Path:
    return (home / expanded(path)).absolute()
