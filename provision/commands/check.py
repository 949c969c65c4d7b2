"""`rentune check`"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from planner.asking.options.kinds import COLUMN, TASKS
from planner.asking.options.plain import OneOf, Pairs
from provision.envelope import Problem
from provision.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.panel import Panel

    from planner.asking.request import Request
    from planner.plan import Plan
    from remote.contract import FileBefore

JOB_SUFFIXES = (".yaml", ".yml")
HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")  # an owner and a name
NOT_READY: Final = "the job is sound, yet `run` would stop here"
LEARNED: Final = "⟦⟧"  # around what carries loss: a terminal may show no colour


@click.command("check")
@click.argument("file", type=click.Path())
@click.option("--model", type=click.Path(), help="Model folder or GGUF file whose tokenizer counts the tokens.")
@click.option("--task", type=OneOf(TASKS), default=TASKS[0], help="What is learned of the rows (default causal_lm).")
@click.option("--column", "columns", cls=Pairs, type=COLUMN, help="NAME=COLUMN: which column is the text, label, prompt, …")
@click.option("--host", metavar="USER@ADDRESS", help="Plan a job file on this machine of yours, as run --host does.")
@click.option("--host-key", help='Its key, for a host that SSH does not know: "ssh-ed25519 AAAA…" or "SHA256:…".')
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    file: str,
    model: str | None,
    task: str,
    columns: tuple[tuple[str, str], ...],
    host: str | None,
    host_key: str | None,
    as_json: bool,  # noqa: FBT001 - click hands it over by name
) -> int:
    """Look through a data file or a job file before paying.

    A job file is planned as `run` would plan it; with --host on that machine, which is looked at over SSH and left as it is.
    """
    from provision.errors import BadInput

    path = Path(file)
    if not (path.is_file() or path.is_dir() or _is_pattern(path)):
        what = "is no regular file" if path.exists() else "is not there"
        raise BadInput(f"{file} {what}.", hint="rentune check FILE: a data file, a folder or pattern of some, or a job file")
    is_job = path.is_file() and (path.suffix in JOB_SUFFIXES or _is_plan(path))
    if is_job and model is not None:
        raise BadInput("A job file names its model itself.", hint=f"rentune check {shlex.quote(file)}")
    if is_job and columns:
        raise BadInput("A job file names the columns of its data itself.", hint="data: {columns: {text: message}}")
    from remote.contract import names_label

    if task != "classification" and names_label(columns):
        raise BadInput(f"A label was named, and task {task} learns none.", hint="--task classification, or leave the label out")
    if not is_job and host is not None:
        raise BadInput(f"{file} holds rows, and --host plans a job file.", hint="rentune check JOB.yaml --host user@address")
    return (
        _job(path, host, host_key, as_json=as_json) if is_job else _data_file(path, model, task, dict(columns), as_json=as_json)
    )


def _is_pattern(path: Path) -> bool:
    return not path.exists() and any(sign in str(path) for sign in "*?[")


def _is_plan(path: Path) -> bool:
    """Whether it is a plan that was saved: rows may lie in a JSON file, too."""
    if path.suffix != ".json":
        return False
    from catalogs.user_file import MAX_PLAN_BYTES, FileUnusable, read_text
    from planner.asking.request import RequestError
    from planner.saved import read_plan

    try:
        read_plan(read_text(path, max_bytes=MAX_PLAN_BYTES), name=str(path))
    except (FileUnusable, RequestError):
        return False
    return True


def _data_file(path: Path, model: str | None, task: str, columns: dict[str, str], *, as_json: bool) -> int:
    from planner.notices import unread_labels
    from provision.envelope.show import show

    data = _data(path, model, task, columns, quiet=as_json)
    data["notes"] = [
        *([] if model is None else _cut_by(model, data)),
        *unread_labels(task, data["unread_labels"]),
        *_twins_words(data["repeats"], "said word for word in an earlier one, and learned as often", data["files"]),
    ]
    errors = tuple(Problem(message=message, hint=hint) for message, hint in _faults(data, task))
    code = Exit.REFUSED if errors else Exit.OK
    return show("check", data, lambda: _draw_data(data), as_json=as_json, errors=errors, exit_code=code)


ROWS: Final = {  # of each task that has its own; a table has the same names over its columns
    "classification": '{"text": …, "label": …}, or of two texts {"text_a": …, "text_b": …, "label": …}',
    "seq2seq": '{"prompt": …, "completion": …}',
}
OTHER_ROWS: Final = '{"prompt": …, "completion": …}, {"messages": [{"role": …, "content": …}, …]} or {"text": …}'
BROKEN_HINT: Final = "mend these lines, or take them out; a row is {rows}, and all of one file alike"
FAULTS: Final = (  # key of the report, what it is that a row does, what to do
    ("untaught", "teach nothing: no token of them carries loss", "the model's chat template leaves their answers out"),
    ("begin_twice", "begin with two beginning-of-sequence tokens", "leave out the one that the text brings itself"),
    (
        "unended",
        "hold an answer that no token ends, so that the model learns to talk on",
        "take a model whose chat template ends each turn, such as its instruct version, or rows of one answer each",
    ),
)


def _faults(data: dict[str, Any], task: str) -> Iterator[tuple[str, str | None]]:
    """What is wrong with rows of the file, and what to do."""
    from remote.contract import NO_TEMPLATE, TEMPLATE_HINT, place_words

    broken: int = data["num_broken"]
    if broken:
        rows = "1 row" if broken == 1 else f"{broken:,} rows"
        why = f": {data['broken'][0]}" if len(data["broken"]) == 1 else ""
        yield f"{rows} can't be used{why}", BROKEN_HINT.format(rows=ROWS.get(task, OTHER_ROWS))
    if data["no_template"]:
        yield NO_TEMPLATE, TEMPLATE_HINT
    if data["no_classes"] is not None:
        yield data["no_classes"], None
    for key, what, hint in FAULTS:
        found = data[key]
        if found["rows"]:
            lines = ", ".join(place_words(line, data["files"]) for line in found["first"])
            more = ", …" * (found["rows"] > len(found["first"]))
            yield f"{found['rows']:,} of {data['rows']:,} rows {what} (line {lines}{more})", hint


def _twins_words(
    twins: dict[str, Any], what: str, learned: Sequence[FileBefore], judged: Sequence[FileBefore] | None = None
) -> Iterator[str]:
    """How many rows stand twice, with the first pairs of lines: of the files of `judged`, where
    they are others, and of `learned`.
    """
    from remote.contract import place_words

    again = learned if judged is None else judged
    if twins["rows"]:
        pairs = ", ".join(f"{place_words(line, again)} as {place_words(first, learned)}" for line, first in twins["first"])
        rows = "1 row is" if twins["rows"] == 1 else f"{twins['rows']:,} rows are"
        yield f"{rows} {what} (line {pairs}{', …' * (twins['rows'] > len(twins['first']))})"


def _job(path: Path, host: str | None, host_key: str | None, *, as_json: bool) -> int:
    """The request that the job file makes, its data files counted, all that `plan` and `run` refuse of it, and what is not
    ready here.
    """
    import os

    import msgspec

    from planner.asked import read_whole
    from planner.asking.options.overlay import on_host
    from planner.notices import held_out_words
    from planner.report.epoch import epoch_words
    from provision.envelope.show import show
    from provision.errors import BadInput
    from provision.home.places import read_places
    from provision.prepare.asking import data_measure
    from provision.prepare.choosing import KeyQuestion, lacking_here, look_at_job

    read = read_whole(str(path), folder=Path.cwd(), measure=data_measure(quiet=as_json))
    if host is not None and read.request is not None:
        read = msgspec.structs.replace(read, request=on_host(read.request, host))
    if host_key is not None and (read.request is None or read.request.where.host is None):
        raise BadInput("--host-key is for a host of yours, and none is named.", hint="--host user@address")
    refused, plan = look_at_job(read, str(path), KeyQuestion(host_key, ask=None))
    request = None if read.faults else read.request
    lacking = [] if plan is None or refused else list(lacking_here(plan, read_places(), os.environ))
    data: dict[str, Any] = {"file": str(path), "job": None, "held_out": None, "notes": [], "lacking_here": lacking}
    if request is not None:
        data |= {
            "job": msgspec.to_builtins(request, builtin_types=()),
            "held_out": held_out_words(request.data),
            "notes": [*_job_notes(request, plan), *([] if plan is None or refused else [epoch_words(plan)])],
        }
    code = Exit.REFUSED if refused else Exit.OK
    return show("check", data, lambda: _draw_job(data, refused), as_json=as_json, errors=refused, exit_code=code)


def _job_notes(request: Request, plan: Plan | None) -> Iterator[str]:
    """What to know of a job that can be read."""
    import msgspec

    from planner.notices import cut_words, packed_words, short_words
    from provision.prepare.inputs.counting import twins_of

    seq_len = request.training.get("seq_len") or _most_tokens(request.model)
    cut = cut_words(request.data, seq_len) if seq_len is not None else None
    laid = packed_words(request.data, plan.strategy.seq_len) if plan is not None else None
    yield from filter(None, [cut, laid, short_words(request.data), _rehearsed(request)])
    twins = msgspec.to_builtins(twins_of(request.data))
    yield from _twins_words(twins, "held out and learned from, too, so that its loss says little", request.data.files, ())


def _rehearsed(request: Request) -> str | None:
    """That its base has no weights; of one that is no base at all `look_at_job` tells."""
    from provision.errors import BadInput
    from provision.prepare.inputs import find_base, rehearsal_words

    try:
        return rehearsal_words(find_base(request.model))
    except BadInput:
        return None


def _data(path: Path, model: str | None, task: str, columns: dict[str, str], *, quiet: bool) -> dict[str, Any]:
    """What the trainer says of the file: what stands here is what it will say on the box."""
    import msgspec

    from provision.home.places import read_places
    from provision.prepare.inputs.counting import Data, look_through, notes

    tokenizer = _tokenizer(model) if model is not None else None
    report: dict[str, Any] = msgspec.to_builtins(
        look_through(
            Data((path,), "classification" if task == TASKS[1] else "auto", columns),
            tokenizer,
            cache=read_places().cache,
            say=notes(quiet=quiet),
        )
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
            {name: data[name] for name in ("mean_tokens", "max_tokens", "profile", "basis", "beginnings", "files")}
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
    from catalogs.user_file import as_said, expanded
    from provision.errors import BadInput, MissingPart
    from provision.prepare.inputs.counting import has_stack, has_tokenizer, trains_on_bytes

    path = expanded(model)
    if trains_on_bytes(path):
        return path
    if not has_tokenizer(path) and HUB_ID.fullmatch(model) and not path.exists():
        what = f"The tokenizer of {model} is not here, and a look at a file fetches nothing."
        fetch = f"hf download {model} --local-dir FOLDER --include 'tokenizer*' --include '*.json', then --model FOLDER"
        raise BadInput(what, hint=f"{fetch}; without --model tokens are estimated from characters")
    if not has_tokenizer(path):
        hint = "--model FOLDER, one that holds tokenizer.json, or --model FILE.gguf; config.json alone is counted in bytes"
        raise BadInput(f"{as_said(model)} is no folder with a tokenizer, and no GGUF file.", hint=hint)
    if not has_stack():
        what = "Counting by a tokenizer needs the trainer's libraries, which are not installed beside this program."
        raise MissingPart(what, hint="Leave --model out to estimate from characters, or: make setup")
    return path


def _draw_job(data: dict[str, Any], refused: tuple[Problem, ...]) -> None:
    from planner.report.words import note
    from provision.envelope.show import say

    verdict = "can't be run as it is" if refused else "can be run"
    if data["job"] is None:
        say(f"{data['file']} {verdict}.")
        return
    counted = data["job"]["data"]
    told = (
        f"{data['file']} {verdict}{'. It has' if refused else ':'} {counted['num_examples']:,} examples of "
        f"{counted['mean_tokens']:.0f} tokens in the mean, {counted['max_tokens']} at most, {counted['basis']}; "
        f"{data['held_out']}."
    )
    lacking = (f"{NOT_READY}: {each}" for each in data["lacking_here"])
    for sentence in (told, *map(note, (*data["notes"], *lacking))):
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
    if data["classes"]:
        shares = tuple((name, f"{rows:,}", f"{rows / data['rows']:.1%}") for name, rows, _ in data["classes"])
        out.print(draw(Table(title="Rows by label", columns=("label", "rows", "share"), rows=shares)))
    if spread:
        out.print(draw(Table(title="Rows by length", columns=("length", "rows"), rows=spread)))
    if data["packed"]:
        rows = tuple((f"{room:,} tokens", f"{packs:,}", f"{filled:.1%}") for room, packs, filled in data["packed"])
        out.print(draw(Table(title="Rows, if packed (packing: true)", columns=("at most", "rows", "filled"), rows=rows)))
    for row in data["seen"]:
        out.print(_as_seen(row, data["files"]))
    if len(data["broken"]) > 1:  # a single kind stands in the error
        for line in data["broken"]:
            out.print(line, markup=False)
        if data["more_broken"]:
            out.print(f"… and {data['more_broken']:,} more", markup=False)
    for each in data["notes"]:
        say(note(each))


def _as_seen(row: dict[str, Any], files: Sequence[FileBefore]) -> Panel:
    """A row with every mark that template and tokenizer put there; what is learned stands in brackets."""
    from rich.panel import Panel
    from rich.text import Text

    from catalogs.user_file import printable
    from remote.contract import place_words

    text = Text()
    for piece in row["pieces"]:
        words = "\n".join(map(printable, piece["text"].split("\n")))
        text.append(*((f"{LEARNED[0]}{words}{LEARNED[1]}", "green") if piece["learned"] else (words,)))
    where = f"Line {place_words(row['line'], files)}"
    title = f"{where} as the model sees it: {row['tokens']:,} tokens, of which it learns {row['learned_tokens']:,}"
    return Panel(text, title=Text(f"{title}, in {' '.join(LEARNED)}"), title_align="left")
