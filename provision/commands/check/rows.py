"""`rentune check` of rows: what the trainer says of them, what is wrong with some, and how the model sees the first."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from planner.asking.options.kinds import TASKS
from planner.asking.request import DataAsked
from planner.notices.rows import cut_words, label_words, text_words, unread_labels
from planner.report.words import note
from provision.commands.check.twins import twins_words
from provision.envelope import Problem
from provision.envelope.show import console, say, show
from provision.errors import BadInput, Exit, MissingPart
from provision.home.places import read_places
from provision.prepare.inputs.counting import Data, has_stack, has_tokenizer, look_through, notes, trains_on_bytes
from provision.report.tables import Table
from provision.report.terminal import draw
from remote.contract import NO_TEMPLATE, TEMPLATE_HINT, FileBefore, Reading, place_words
from remote.data.check import DataReport, Lines

if TYPE_CHECKING:
    from rich.panel import Panel

    from remote.data.seen import Seen

HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")  # an owner and a name
LEARNED: Final = "⟦⟧"  # around what carries loss: a terminal may show no colour


class Looked(DataReport, frozen=True, kw_only=True):
    """The trainer's report, and what to know of it."""

    notes: tuple[str, ...]


def check_rows(path: Path, model: str | None, task: str, columns: dict[str, str], *, as_json: bool) -> int:
    """The exit code, 2 where rows can't be used. `model` decides the tokens; None = they are estimated from characters."""
    tokenizer = _tokenizer(model) if model is not None else None
    read = Data((path,), Reading(format="classification" if task == TASKS[1] else "auto", columns=columns))
    report = look_through(read, tokenizer, cache=read_places().cache, say=notes(quiet=as_json))
    told = (
        *(() if model is None else _cut_by(model, report)),
        *unread_labels(task, report.unread_labels),
        *text_words(report.file, [name for name, _ in report.files], report.rows),
        *label_words(report.classes),
        *twins_words(report.repeats, "said word for word in an earlier one, and learned as often", report.files),
    )
    looked = Looked(**{name: getattr(report, name) for name in DataReport.__struct_fields__}, notes=told)
    errors = tuple(Problem(message=message, hint=hint) for message, hint in _faults(report, task))
    code = Exit.REFUSED if errors else Exit.OK
    return show("check", looked, lambda: _draw(looked), as_json=as_json, errors=errors, exit_code=code)


ROWS: Final = {  # of each task that has its own; a table has the same names over its columns
    "classification": '{"text": …, "label": …}, or of two texts {"text_a": …, "text_b": …, "label": …}',
    "seq2seq": '{"prompt": …, "completion": …}',
}
OTHER_ROWS: Final = '{"prompt": …, "completion": …}, {"messages": [{"role": …, "content": …}, …]} or {"text": …}'
BROKEN_HINT: Final = "mend these lines, or take them out; a row is {rows}, and all of one file alike"


def _faults(report: DataReport, task: str) -> Iterator[tuple[str, str | None]]:
    """What is wrong with rows of the file, and what to do."""
    broken = report.num_broken
    if broken:
        rows = "1 row" if broken == 1 else f"{broken:,} rows"
        why = f": {report.broken[0]}" if len(report.broken) == 1 else ""
        yield f"{rows} can't be used{why}", BROKEN_HINT.format(rows=ROWS.get(task, OTHER_ROWS))
    if report.no_template:
        yield NO_TEMPLATE, TEMPLATE_HINT
    if report.no_classes is not None:
        yield report.no_classes, None
    for found, what, hint in _faults_by_line(report):
        if found.rows:
            lines = ", ".join(place_words(line, report.files) for line in found.first)
            more = ", …" * (found.rows > len(found.first))
            yield f"{found.rows:,} of {report.rows:,} rows {what} (line {lines}{more})", hint


def _faults_by_line(report: DataReport) -> tuple[tuple[Lines, str, str], ...]:
    """The rows that do what none may, what that is, and what to do."""
    return (
        (
            report.untaught,
            "teach nothing: no token of them carries loss",
            "the model's chat template leaves their answers out",
        ),
        (
            report.begin_twice,
            "begin with two beginning-of-sequence tokens",
            "leave out the one that the text brings itself",
        ),
        (
            report.unended,
            "hold an answer that no token ends, so that the model learns to talk on",
            "take a model whose chat template ends each turn, such as its instruct version, or rows of one answer each",
        ),
    )


def _cut_by(model: str, report: DataReport) -> Iterator[str]:
    """What the model itself cuts: it reads so many tokens of a row and no more."""
    seq_len = most_tokens(model)
    if seq_len is not None and report.rows:
        of_file = DataAsked(
            num_examples=report.rows,
            mean_tokens=report.mean_tokens,
            max_tokens=report.max_tokens,
            profile=report.profile,
            documents=report.format == "text",
            basis=report.basis,
            beginnings=report.beginnings,
            files=report.files,
        )
        yield from filter(None, [cut_words(of_file, seq_len)])


def most_tokens(model: str) -> int | None:
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


def _draw(looked: Looked) -> None:
    sizes = (
        ("rows", f"{looked.rows:,}"),
        ("rows that can't be used", f"{looked.num_broken:,}"),
        ("tokens", f"{looked.tokens:,}"),
        ("tokens of a row, mean", f"{looked.mean_tokens:,.1f}"),
        ("tokens of a row, most", f"{looked.max_tokens:,}"),
    )
    spread = tuple((f"{tokens} tokens", f"{rows:,}") for tokens, rows in looked.histogram.items())
    out = console()
    basis = f"Tokens are {looked.basis}; chat template and marks are included, nothing is cut."
    out.print(draw(Table(title=f"{looked.file}: {looked.format}", columns=("data", "amount"), rows=sizes, note=basis)))
    if looked.classes:
        shares = tuple((name, f"{rows:,}", f"{rows / looked.rows:.1%}") for name, rows, _ in looked.classes)
        out.print(draw(Table(title="Rows by label", columns=("label", "rows", "share"), rows=shares)))
    if spread:
        out.print(draw(Table(title="Rows by length", columns=("length", "rows"), rows=spread)))
    if looked.packed:
        packed = tuple((f"{room:,} tokens", f"{packs:,}", f"{filled:.1%}") for room, packs, filled in looked.packed)
        out.print(draw(Table(title="Rows, if packed (packing: true)", columns=("at most", "rows", "filled"), rows=packed)))
    for row in looked.seen:
        out.print(_as_seen(row, looked.files))
    if len(looked.broken) > 1:  # a single kind stands in the error
        for line in looked.broken:
            out.print(line, markup=False)
        if looked.more_broken:
            out.print(f"… and {looked.more_broken:,} more", markup=False)
    for each in looked.notes:
        say(note(each))


def _as_seen(row: Seen, files: Sequence[FileBefore]) -> Panel:
    """A row with every mark that template and tokenizer put there; what is learned stands in brackets."""
    from rich.panel import Panel
    from rich.text import Text

    from catalogs.user_file import printable

    text = Text()
    for piece in row.pieces:
        words = "\n".join(map(printable, piece.text.split("\n")))
        text.append(*((f"{LEARNED[0]}{words}{LEARNED[1]}", "green") if piece.learned else (words,)))
    where = f"Line {place_words(row.line, files)}"
    of_tokens = f"{row.tokens:,} tokens, of which it learns {row.learned_tokens:,}"
    is_classed = not row.learned_tokens and any(piece.learned for piece in row.pieces)
    title = (
        f"{where} as the model sees it: {f'{row.tokens:,} tokens, and the class that it learns' if is_classed else of_tokens}"
    )
    return Panel(text, title=Text(f"{title}, in {' '.join(LEARNED)}"), title_align="left")
