"""How long the rows of a data file are, counted by the trainer's own code: check, plan and run say the same.

Its tokenizer libraries are heavy, so they run in a process of their own, and what they counted is kept in the cache.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

import click
import msgspec

from catalogs.user_file import MAX_DATA_BYTES, FileUnusable, expanded, reason_words, require_regular, shortened
from planner.asking.data import OF_TASK, ON_HUB, DataFile, Lengths
from planner.asking.request import DataAsked, RequestError
from planner.nearest import near
from provision.errors import BadInput
from provision.home.whole import write_whole
from provision.prepare.inputs import find_base
from provision.prepare.inputs.foreseen import lacks_own_template
from provision.prepare.inputs.parts import brought, files_of, hub_words
from provision.redact import without_secrets
from remote import contract
from remote.contract import NO_TEMPLATE, TEMPLATE_HINT, TOKENIZER_FILES, Reading, with_template_at
from remote.data.check import BYTES, GUESSED, DataReport, check_data
from remote.data.rows import UnreadableData, read_rows
from remote.data.twins import NO_TWINS, Twins, shared

HINT: Final = (
    'a file, a folder or a pattern of JSONL, JSON, CSV or Parquet with rows of "prompt" and "completion", of "messages" or of'
    ' "text"; or text files; any'
    " of them packed by gzip or zstd, too"
)
STACK: Final = ("torch", "transformers", "tokenizers")  # what reads a tokenizer; a GGUF file needs all three
TOKENIZER_NAMES: Final = ("*token*", "vocab*", "merges*", "spiece*", "chat_template*", "config.json")  # what moves its tokens
CODE: Final = ("data", "contract/packing.py", "bases/tokenizer.py")  # of the trainer: what reads rows and loads a tokenizer
MODELS: Final = "models"  # in the cache, as on the local box (provision/aboard/job.py): a GGUF file's tokenizer is read once
OFFLINE: Final = {"HF_HUB_OFFLINE": "1"}  # a look at a file at home asks nobody

Say = Callable[[str], None]


class Data(NamedTuple):
    """What is counted as one: files, folders of some or patterns, and how their rows are read."""

    paths: tuple[Path, ...]
    reading: Reading = Reading()


def notes(*, quiet: bool) -> Say:
    """What says a line to the person who waits; with `quiet` nothing is said."""
    return (lambda _line: None) if quiet else partial(click.echo, err=True)


def measured(file: DataFile, *, cache: Path, say: Say) -> Lengths:
    """Lengths by the tokenizer that will be trained with, where it and its libraries are at hand; else estimated.

    `say` gets a line before a count that takes its time. Raises RequestError for a file or a row that can't be used.
    """
    file = _brought(file, say)
    path, model, reading = Path(file.path), expanded(file.model), file.reading
    counts = trains_on_bytes(model) or (has_tokenizer(model) and has_stack())
    report = look_through(
        Data((path, *map(Path, file.more)), file.reading),
        model if counts else None,
        along=None if file.along is None else Path(file.along),
        cache=cache,
        say=say,
    )
    if report.broken:
        others = f"; {report.num_broken:,} rows can't be used in all" if len(report.broken) > 1 else ""
        task = next((f" --task {task}" for task, form in OF_TASK.items() if form == reading.format), "")
        columns = "".join(f" --column {shlex.quote(f'{ours}={theirs}')}" for ours, theirs in reading.columns.items())
        look = f"rentune check {shlex.quote(str(path))}{task}{columns}"
        place = ("data", "columns") if reading.columns else ()
        raise RequestError(f"{report.broken[0]}{others}", hint=f"`{look}` tells which rows can't be used", place=place)
    unwritten = report.format == "chat" and file.reading.chat_template is None and not counts and lacks_own_template(model)
    if report.no_template or unwritten:
        raise RequestError(f"{path}: {NO_TEMPLATE}", hint=TEMPLATE_HINT, place=("data", "chat_template"))
    return Lengths(
        num_rows=report.rows,
        mean_tokens=report.mean_tokens,
        max_tokens=report.max_tokens,
        profile=report.profile,
        exchanges=report.exchanges,
        files=report.files,
        classes=report.classes,
        no_classes=report.no_classes,
        unread_labels=report.unread_labels,
        documents=report.format == "text",
        chats=report.format == "chat",
        basis=report.basis,
        least_seq_len=report.least_seq_len,
        beginnings=report.beginnings,
    )


def _brought(file: DataFile, say: Say) -> DataFile:
    for path in (file.path, *file.more):
        if path.startswith(ON_HUB):
            say(f"Asking the hub for the data set {path.removeprefix(ON_HUB)} …")
    along = None if file.along is None else brought(file.along)
    return msgspec.structs.replace(file, path=brought(file.path), more=tuple(map(brought, file.more)), along=along)


def look_through(data: Data, model: Path | None, *, along: Path | None = None, cache: Path, say: Say) -> DataReport:
    """What the trainer will say of the data. Raises RequestError for a file that it can't read at all.

    `model`: what decides the tokens, a model folder, a GGUF file or a bare configuration; None = they are estimated from
    characters. `along`: a file whose rows are all counted and kept as well, if this one has to be; what is wrong with it is for
    whoever asks for it.
    """
    reading, (path, *more) = data.reading, data.paths
    _require_template(reading)
    _require_files(data)
    if model is None or trains_on_bytes(model):
        try:
            counted = GUESSED if model is None else BYTES
            first = reading.max_rows
            return check_data(path, counted, more=more, kind=reading.format, columns=reading.columns, max_rows=first)
        except UnreadableData as error:
            raise RequestError(str(error), hint=HINT) from None
    kept = cache / "counted" / f"{_key(data, model)}.json"
    with suppress(OSError, msgspec.DecodeError):  # what can't be read again is counted again
        return contract.decode(kept.read_bytes(), DataReport)
    beside: dict[Path, Path] = {}
    with suppress(RequestError):
        if along is not None:
            beside_it = Data((along,), msgspec.structs.replace(reading, max_rows=None))
            _require_files(beside_it)
            beside[along] = cache / "counted" / f"{_key(beside_it, model)}.json"
    names = " and ".join(file.name for file in (path, *beside))
    say(f"Counting the tokens of {names} by the tokenizer of {model.name} …")
    answers = _asked_of_trainer(data, tuple(beside), model, cache=cache / MODELS)
    for place, answer in zip((kept, *beside.values()), answers, strict=False):
        if isinstance(answer, DataReport):
            _keep(place, answer)
    if isinstance(answers[0], RequestError):
        raise answers[0]
    return answers[0]


def twins_of(data: DataAsked) -> Twins:
    """The rows of a job's held-out file that it learns from, too. None where it has no such file, or one can't be read."""
    if data.path is None or data.held_out_path is None:
        return NO_TWINS
    try:
        read = partial(read_rows, kind=data.reading.format, columns=data.reading.columns)
        path, held_out, *more = (Path(brought(each)) for each in (data.path, data.held_out_path, *data.more))
        return shared(read(path, more=more, max_rows=data.reading.max_rows), read(held_out))
    except UnreadableData:  # told where its rows are counted
        return NO_TWINS


def _keep(place: Path, report: DataReport) -> None:
    with suppress(OSError):  # a cache that can't be written costs time, no answer
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, msgspec.json.encode(report))


def has_tokenizer(model: Path) -> bool:
    """Whether this model folder or GGUF file brings the tokenizer that the trainer will use."""
    try:
        return (model.suffix == ".gguf" and model.is_file()) or any((model / name).is_file() for name in TOKENIZER_FILES)
    except (OSError, ValueError):  # no name for a file
        return False


def trains_on_bytes(model: Path) -> bool:
    """Whether this is a bare configuration: the trainer makes random weights for it, and reads text as bytes."""
    try:
        there = model.is_file() or (model / "config.json").is_file()
        return there and find_base(str(model)).kind == "config" and not has_tokenizer(model)
    except (OSError, ValueError, BadInput):  # no name for a file; no base
        return False


def has_stack() -> bool:
    """Whether the libraries that read a tokenizer are installed beside this program. Imports none of them."""
    return all(find_spec(name) is not None for name in STACK)


def _require_files(data: Data) -> None:
    """Raises RequestError for what is no file, and for more than is read here."""
    num_bytes = 0
    for path in _files(data):
        try:
            num_bytes += require_regular(path)
        except FileUnusable as error:
            raise RequestError(f"{shortened(str(path))} {error}", hint=_meant(path)) from None
    if num_bytes > MAX_DATA_BYTES:
        raise RequestError(
            f"{data.paths[0]} is too large: {num_bytes:,} bytes, at most {MAX_DATA_BYTES:,} are read",
            hint="split it, or take a part of it",
        )


def _meant(path: Path) -> str:
    """A file beside it that has nearly its name, where it is not there."""
    with suppress(OSError, ValueError):
        beside = sorted(each.name for each in path.parent.iterdir() if each.is_file())
        if not path.exists() and (name := near(path.name, beside)) is not None:
            return f"did you mean {name}, which lies there?"
    return hub_words(str(path)) or "the path of a data file"


def _require_template(reading: Reading) -> None:
    """Raises RequestError where its template names no file."""
    template = reading.template_path
    if template is not None and not Path(template).is_file():
        hint = "the path of a chat template in Jinja, or plain"
        raise RequestError(f"there is no chat template at {shortened(template)}", hint=hint, place=("data", "chat_template"))


def _files(data: Data) -> list[Path]:
    try:
        return [part.path for part in files_of(data.paths[0], data.paths[1:])]
    except UnreadableData as error:
        raise RequestError(str(error), hint=HINT) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise RequestError(
            f"{shortened(str(data.paths[0]))} can't be read: {reason_words(error)}", hint="the path of a data file"
        ) from None


def _asked_of_trainer(data: Data, beside: tuple[Path, ...], tokenizer: Path, *, cache: Path) -> list[DataReport | RequestError]:
    """Its answers to the data and to what is counted beside it, in order; fewer where it broke off. Raises RequestError without
    any.
    """
    import subprocess  # with a tokenizer only: it costs start-up time

    from provision.home.interrupt import interruptible

    reading, (first, *more) = data.reading, [str(path.absolute()) for path in data.paths]
    arguments = [sys.executable, "-P", "-m", "remote", "check", first, *(str(path.absolute()) for path in beside)]
    arguments += ["--model", str(tokenizer.absolute()), "--format", reading.format]
    arguments += ["--columns", json.dumps(reading.columns)] if reading.columns else []
    arguments += [each for path in more for each in ("--and", path)]
    arguments += ["--max-rows", str(reading.max_rows)] if reading.max_rows is not None else []
    template = with_template_at(reading, lambda path: str(Path(path).absolute())).chat_template
    arguments += ["--template", template] if template is not None else []
    places = {contract.MODEL_CACHE_VARIABLE: str(cache), contract.ROWS_CACHE_VARIABLE: str(cache)}
    environment = without_secrets(os.environ) | OFFLINE | places
    with interruptible():  # so that whoever ends this process ends the trainer's, too
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    answers: list[DataReport | RequestError] = []
    with suppress(msgspec.DecodeError, msgspec.ValidationError):  # cut off: those before count
        for answer in map(msgspec.json.decode, done.stdout.splitlines()):
            failed = "error" in answer
            answers.append(RequestError(answer["error"], hint=HINT) if failed else msgspec.convert(answer, DataReport))
    if not answers:
        words = done.stderr.strip().splitlines() or ["it said nothing"]
        raise RequestError(f"the tokens of {data.paths[0]} can't be counted: {words[-1]}", hint=HINT)
    return answers


# ── what was counted is found again ────────────────────────────────────────────────────────────────────────────────


def _key(data: Data, tokenizer: Path) -> str:
    """Hex sha256 over everything that the answer depends on: the data, the tokenizer, how it is asked, and who counts."""
    from hashlib import sha256  # as above

    from remote.digest import sha256_of

    files = (each for path in _files(data) for each in (path.name, sha256_of(path)))
    names = (path.name for path in data.paths)
    reading = with_template_at(data.reading, lambda path: sha256_of(Path(path)))
    columns = (each for pair in sorted(reading.columns.items()) for each in pair)
    parts = (
        *names,
        *files,
        reading.format,
        *columns,
        str(reading.max_rows),
        str(reading.chat_template),
        *_tokenizer_marks(tokenizer),
        *_counter_marks(),
    )
    return sha256("\0".join(parts).encode()).hexdigest()


def _tokenizer_marks(tokenizer: Path) -> Iterator[str]:
    """Name, size and time of change of each file that decides the tokens: a base has gigabytes, and none is read for this."""
    files = (tokenizer,) if tokenizer.is_file() else {file for name in TOKENIZER_NAMES for file in tokenizer.glob(name)}
    for file in sorted(files):
        found = file.stat()
        yield f"{file.absolute()} {found.st_size} {found.st_mtime_ns}"


def _counter_marks() -> Iterator[str]:
    """The trainer's code that counts, and the releases of the libraries below it."""
    from importlib.metadata import version  # as above

    from remote.digest import sha256_of

    package = Path(contract.__file__).parent.parent
    for name in CODE:
        for file in sorted((package / name).rglob("*.py")) or [package / name]:
            yield sha256_of(file)
    yield from map(version, STACK)
