"""`rentune check`"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from provision.envelope import Problem
from provision.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.panel import Panel

    from planner.asking.request import Request

JOB_SUFFIXES = (".yaml", ".yml")
LEARNED: Final = "⟦⟧"  # around what carries loss: a terminal may show no colour


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
    is_job = path.suffix in JOB_SUFFIXES or _is_plan(path)
    if is_job and model is not None:
        raise BadInput("A job file names its model itself.", hint=f"rentune check {shlex.quote(file)}")
    return _job(path, as_json=as_json) if is_job else _data_file(path, model, as_json=as_json)


def _is_plan(path: Path) -> bool:
    """Whether it is a plan that was saved: rows may lie in a JSON file, too."""
    if path.suffix != ".json":
        return False
    from catalogs.user_file import MAX_PLAN_BYTES, FileUnusable, read_text
    from planner.asking.request import RequestError
    from planner.plan import read_plan

    try:
        read_plan(read_text(path, max_bytes=MAX_PLAN_BYTES), name=str(path))
    except (FileUnusable, RequestError):
        return False
    return True


def _data_file(path: Path, model: str | None, *, as_json: bool) -> int:
    from provision.envelope.show import show

    data = _data(path, model, quiet=as_json)
    data["notes"] = [
        *([] if model is None else _cut_by(model, data)),
        *_twins_words(data["repeats"], "said word for word in an earlier one, and learned as often"),
    ]
    errors = tuple(Problem(message=message, hint=hint) for message, hint in _faults(data))
    code = Exit.REFUSED if errors else Exit.OK
    return show("check", data, lambda: _draw_data(data), as_json=as_json, errors=errors, exit_code=code)


FAULTS: Final = (  # key of the report, what it is that a row does, what to do
    ("untaught", "teach nothing: no token of them carries loss", "the model's chat template leaves their answers out"),
    ("begin_twice", "begin with two beginning-of-sequence tokens", "leave out the one that the text brings itself"),
    (
        "unended",
        "hold an answer that no token ends, so that the model learns to talk on",
        "take a model whose chat template ends each turn, such as its instruct version, or rows of one answer each",
    ),
)


def _faults(data: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    """What is wrong with rows of the file, and what to do."""
    broken: int = data["num_broken"]
    if broken:
        yield (f"1 row can't be used: {data['broken'][0]}" if broken == 1 else f"{broken:,} rows can't be used"), None
    for key, what, hint in FAULTS:
        found = data[key]
        if found["rows"]:
            lines = ", ".join(f"{line:,}" for line in found["first"])
            more = ", …" * (found["rows"] > len(found["first"]))
            yield f"{found['rows']:,} of {data['rows']:,} rows {what} (line {lines}{more})", hint


def _twins_words(twins: dict[str, Any], what: str) -> Iterator[str]:
    """How many rows stand twice, with the first pairs of lines."""
    if twins["rows"]:
        pairs = ", ".join(f"{line:,} as {first:,}" for line, first in twins["first"])
        rows = "1 row is" if twins["rows"] == 1 else f"{twins['rows']:,} rows are"
        yield f"{rows} {what} (line {pairs}{', …' * (twins['rows'] > len(twins['first']))})"


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
    from provision.prepare.inputs.counting import twins_of

    request, unread = _asked(path, quiet=as_json)
    refused, plan = look_at_job(request, str(path), KeyQuestion(None, ask=None), unread=unread)
    seq_len = request.training.get("seq_len") or _most_tokens(request.model)
    cut = cut_words(request.data, seq_len) if seq_len is not None and not unread else None
    lacking = [] if plan is None or refused else lacking_here(plan, read_places(), os.environ)
    twins = msgspec.to_builtins(twins_of(request.data))
    leaks = _twins_words(twins, "held out and learned from, too, so that its loss says little")
    notes = [*filter(None, [cut, _rehearsed(request)]), *leaks, *(f"`run` would stop here: {each}" for each in lacking)]
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
    from planner.report.words import note
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
    for sentence in (told, *map(note, data["notes"])):
        say(sentence)


def _draw_data(data: dict[str, Any]) -> None:
    from planner.report.words import note
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
    basis = f"Tokens are {data['basis']}; chat template and marks are included, nothing is cut."
    out.print(draw(Table(title=f"{data['file']}: {data['format']}", columns=("data", "amount"), rows=sizes, note=basis)))
    if spread:
        out.print(draw(Table(title="Rows by length", columns=("length", "rows"), rows=spread)))
    for row in data["seen"]:
        out.print(_as_seen(row))
    if data["num_broken"] > 1:  # a single one stands in the error
        for line in data["broken"]:
            out.print(line, markup=False)
    for each in data["notes"]:
        say(note(each))


def _as_seen(row: dict[str, Any]) -> Panel:
    """A row with every mark that template and tokenizer put there; what is learned stands in brackets."""
    from rich.panel import Panel
    from rich.text import Text

    from catalogs.user_file import printable

    text = Text()
    for piece in row["pieces"]:
        words = "\n".join(map(printable, piece["text"].split("\n")))
        text.append(*((f"{LEARNED[0]}{words}{LEARNED[1]}", "green") if piece["learned"] else (words,)))
    title = f"Line {row['line']:,} as the model sees it: {row['tokens']:,} tokens, of which it learns {row['learned_tokens']:,}"
    return Panel(text, title=Text(f"{title}, in {' '.join(LEARNED)}"), title_align="left")
