"""`rentune check`"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from provision.envelope import Problem
from provision.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from planner.asking.request import Request

JOB_SUFFIXES = (".yaml", ".yml")


@click.command("check")
@click.argument("file", type=click.Path())
@click.option("--model", type=click.Path(), help="Model folder or GGUF file whose tokenizer counts the tokens.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(file: str, model: str | None, as_json: bool) -> int:  # noqa: FBT001 - click hands it over by name
    """Look through a data file or a job file before paying."""
    from provision.errors import BadInput

    path = Path(file)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "is not there"
        raise BadInput(f"{file} {what}.", hint="rentune check FILE, a data file or a job file")
    if path.suffix in JOB_SUFFIXES and model is not None:
        raise BadInput("A job file names its model itself.", hint=f"rentune check {shlex.quote(file)}")
    return _job(path, as_json=as_json) if path.suffix in JOB_SUFFIXES else _data_file(path, model, as_json=as_json)


def _data_file(path: Path, model: str | None, *, as_json: bool) -> int:
    from provision.envelope.show import show

    data = _data(path, model, quiet=as_json)
    data["notes"] = [] if model is None else list(_cut_by(model, data))
    broken: int = data["num_broken"]
    told = f"1 row can't be used: {data['broken'][0]}" if broken == 1 else f"{broken:,} rows can't be used"
    errors = (Problem(message=told),) if broken else ()
    code = Exit.REFUSED if broken else Exit.OK
    return show("check", data, lambda: _draw_data(data), as_json=as_json, errors=errors, exit_code=code)


def _job(path: Path, *, as_json: bool) -> int:
    """The request that the job file makes, its data files counted, all that `plan` and `run` refuse of it, and what is not
    ready here.
    """
    import os

    import msgspec

    from planner.notices import cut_words, held_out_words
    from provision.envelope.show import show
    from provision.home.places import read_places
    from provision.prepare.choosing import KeyQuestion, lacking_here, look_at_job

    request, unread = _asked(path, quiet=as_json)
    refused, plan = look_at_job(request, str(path), KeyQuestion(None, ask=None), unread=unread)
    seq_len = request.training.get("seq_len") or _most_tokens(request.model)
    cut = cut_words(request.data, seq_len) if seq_len is not None and not unread else None
    lacking = [] if plan is None or refused else lacking_here(plan, read_places(), os.environ)
    notes = [*filter(None, [cut, _rehearsed(request)]), *(f"`run` would stop here: {each}" for each in lacking)]
    job = None if unread else msgspec.to_builtins(request, builtin_types=())
    data = {"file": str(path), "job": job, "held_out": held_out_words(request.data), "notes": notes}
    code = Exit.REFUSED if refused else Exit.OK
    return show("check", data, lambda: _draw_job(data, refused), as_json=as_json, errors=refused, exit_code=code)


def _rehearsed(request: Request) -> str | None:
    """That its base has no weights; of one that is no base at all `look_at_job` tells."""
    from provision.errors import BadInput
    from provision.prepare.inputs import find_base, rehearsal_words

    try:
        return rehearsal_words(find_base(request.model))
    except BadInput:
        return None


def _asked(path: Path, *, quiet: bool) -> tuple[Request, tuple[Problem, ...]]:
    """The job file's request. Where only its data can't be trained on that is told, and rows of no file stand for it."""
    from planner.asking.request import Lengths, RequestError
    from planner.cli import read_asked
    from planner.plan import Plan
    from provision.prepare.asking import data_measure

    unread: tuple[Problem, ...] = ()
    try:
        asked = read_asked({"job": str(path)}, folder=Path.cwd(), measure=data_measure(quiet=quiet))
    except RequestError as error:
        some = Lengths(num_rows=100, mean_tokens=1, max_tokens=1, profile=(), documents=False, basis="stated")
        asked = read_asked({"job": str(path)}, folder=Path.cwd(), measure=lambda _file: some)  # else it raises the same
        unread = (Problem(message=error.message, hint=error.hint),)
    return asked.request if isinstance(asked, Plan) else asked, unread


def _data(path: Path, model: str | None, *, quiet: bool) -> dict[str, Any]:
    """What the trainer says of the file: what stands here is what it will say on the box."""
    import msgspec

    from provision.home.places import read_places
    from provision.prepare.inputs.counting import look_through, notes

    tokenizer = _tokenizer(model) if model is not None else None
    report: dict[str, Any] = msgspec.to_builtins(
        look_through(path, tokenizer, cache=read_places().cache, say=notes(quiet=quiet))
    )
    return report


def _cut_by(model: str, data: dict[str, Any]) -> Iterator[str]:
    """What the model itself cuts: it reads so many tokens of a row and no more."""
    import msgspec

    from planner.asking.request import DataAsked
    from planner.notices import cut_words

    seq_len = _most_tokens(model)
    if seq_len is not None and data["rows"]:
        of_file = msgspec.convert(
            {name: data[name] for name in ("mean_tokens", "max_tokens", "profile", "basis", "beginnings")}
            | {"num_examples": data["rows"], "documents": data["format"] == "text"},
            DataAsked,
        )
        yield from filter(None, [cut_words(of_file, seq_len)])


def _most_tokens(model: str) -> int | None:
    """The longest row that the model reads whole; None where its shape can't be read."""
    from catalogs.bases.models import resolve_model
    from catalogs.failure import Failure

    try:
        return resolve_model(model, base=Path.cwd()).max_positions
    except Failure:
        return None


def _tokenizer(model: str) -> Path:
    """What decides the tokens, when it can be read here. Raises BadInput, and MissingPart without a tokenizer's libraries."""
    from catalogs.user_file import expanded
    from provision.errors import BadInput, MissingPart
    from provision.prepare.inputs.counting import has_stack, has_tokenizer, trains_on_bytes

    path = expanded(model)
    if trains_on_bytes(path):
        return path
    if not has_tokenizer(path):
        hint = "--model FOLDER, one that holds tokenizer.json, or --model FILE.gguf; config.json alone is counted in bytes"
        raise BadInput(f"{model} is no folder with a tokenizer, and no GGUF file.", hint=hint)
    if not has_stack():
        what = "Counting by a tokenizer needs the trainer's libraries, which are not installed beside this program."
        raise MissingPart(what, hint="Leave --model out to estimate from characters, or: make setup")
    return path


def _draw_job(data: dict[str, Any], refused: tuple[Problem, ...]) -> None:
    from provision.envelope.show import say

    verdict = "can't be run as it is" if refused else "can be run"
    if data["job"] is None:
        click.echo(f"{data['file']} {verdict}: its data can't be read.")
        return
    counted = data["job"]["data"]
    told = (
        f"{data['file']} {verdict}: {counted['num_examples']:,} examples of "
        f"{counted['mean_tokens']:.0f} tokens in the mean, {counted['max_tokens']} at most, {counted['basis']}; "
        f"{data['held_out']}."
    )
    for sentence in (told, *(f"Note: {note}." for note in data["notes"])):
        say(sentence)


def _draw_data(data: dict[str, Any]) -> None:
    from provision.envelope.show import console, say
    from provision.report.tables import Table
    from provision.report.terminal import draw

    sizes = (
        ("rows", f"{data['rows']:,}"),
        ("rows that can't be used", f"{data['num_broken']:,}"),
        ("tokens", f"{data['tokens']:,}"),
        ("tokens of a row, mean", f"{data['mean_tokens']:,.1f}"),
        ("tokens of a row, most", f"{data['max_tokens']:,}"),
    )
    spread = tuple((f"{tokens} tokens", f"{rows:,}") for tokens, rows in data["histogram"].items())
    out = console()
    note = f"Tokens are {data['basis']}; chat template and marks are included, nothing is cut."
    out.print(draw(Table(title=f"{data['file']}: {data['format']}", columns=("data", "amount"), rows=sizes, note=note)))
    if spread:
        out.print(draw(Table(title="Rows by length", columns=("length", "rows"), rows=spread)))
    if data["num_broken"] > 1:  # a single one stands in the error
        for line in data["broken"]:
            out.print(line, markup=False)
    for note in data["notes"]:
        say(f"Note: {note}.")
