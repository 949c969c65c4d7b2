"""`rentune estimate`"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from planner.options import WORDS, Once
from provision.envelope import Exit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Contract keys that can be said on the command line; a case with others goes into a file (--from).
CASE_OPTIONS: tuple[tuple[str, click.ParamType[Any] | type], ...] = (
    ("model", str),
    ("task", str),
    ("method", str),
    ("rank", int),
    ("alpha", float),
    ("dropout", float),
    ("target_modules", WORDS),
    ("quant", str),
    ("double_quant", bool),
    ("kbit_upcast", str),
    ("param_dtype", str),
    ("autocast", str),
    ("adapter_dtype", str),
    ("optimizer", str),
    ("micro_batch_size", int),
    ("gradient_accumulation_steps", int),
    ("seq_len", int),
    ("gradient_checkpointing", str),
    ("attention", str),
    ("loss", str),
    ("engine", str),
    ("gpu", str),
    ("num_gpus", int),
    ("sharding", str),
)
UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10), ("bytes", 1))  # one for a whole table: that of its sum


def _case_options(function: Any) -> Any:
    for key, kind in reversed(CASE_OPTIONS):
        flag = f"--{key.replace('_', '-')}"
        function = click.option(f"{flag}/--no-{flag[2:]}" if kind is bool else flag, key, type=kind, cls=Once)(function)
    return function


@click.command("estimate")
@_case_options
@click.option(
    "--from", "cases", cls=Once, type=click.Path(), help="File of cases, one JSON object a line; - reads standard input."
)
@click.option("--json", "as_json", is_flag=True, help="Print the answer as the estimate contract has it.")
def command(cases: str | None, as_json: bool, **case: Any) -> int:  # noqa: FBT001 - click hands it over by name
    """Memory and time of one training configuration.

    With --from: one JSON answer a line. Exit 0 when all were answered, 1 when a line is an error, 2 when it could not run.
    """
    from catalogs.catalog import read_catalog
    from planner.estimate import answer, answers
    from provision.errors import BadInput
    from provision.places import read_places

    catalog, kept = read_catalog(), read_places().cache / "traces"
    if cases is not None:
        if said := [key for key, value in case.items() if value is not None]:
            raise BadInput(
                f"--{said[0].replace('_', '-')} has no effect beside --from.", hint="say it in each line of the file"
            )
        return _print_lines(answers(_lines(cases), catalog, _base(cases), cache=kept))
    asked = {key: value for key, value in case.items() if value is not None}
    if "model" not in asked:
        raise BadInput("No model was named.", hint="--model 7b, or --from cases.jsonl")
    made = answer(asked, catalog, Path.cwd(), cache=kept)
    if as_json:
        click.echo(json.dumps(made))
    elif "error" in made:
        error = made["error"]
        raise BadInput(error["message"], hint=error.get("hint"))
    else:
        _draw(made)
    return Exit.REFUSED if "error" in made else Exit.OK  # as without --json, where the same error is raised


def _base(cases: str) -> Path:
    return Path.cwd() if cases == "-" else Path(cases).resolve().parent


def _lines(cases: str) -> list[str]:
    from catalogs.user_file import MAX_CASES_BYTES, FileUnusable, expanded, read_stream, read_text
    from provision.errors import BadInput

    name = "standard input" if cases == "-" else cases
    try:
        if cases == "-":
            return read_stream(sys.stdin.buffer, max_bytes=MAX_CASES_BYTES).split("\n")
        return read_text(expanded(cases), max_bytes=MAX_CASES_BYTES).split("\n")
    except FileUnusable as error:
        raise BadInput(f"{name} {error}", hint="--from takes a file with one JSON object a line") from None


def _print_lines(made: Iterable[dict[str, Any]]) -> int:
    failed = False
    for one in made:
        failed = failed or "error" in one
        click.echo(json.dumps(one))
    return 1 if failed else 0


def _draw(made: dict[str, Any]) -> None:
    from provision.envelope.show import console
    from provision.report.tables import Table
    from provision.report.terminal import draw

    vram = made["vram"]
    unit, unit_bytes = next(row for row in UNITS if vram["allocated_peak_bytes"] >= row[1])
    figures = {name: f"{vram[name] / unit_bytes:,.2f}" for name in vram if name.endswith("_peak_bytes")}
    table = Table(
        title=f"GPU memory at the peak: {vram['peak_instant'].replace('_', ' ')}",
        columns=("component", unit),
        rows=tuple((name.replace("_", " "), f"{size / unit_bytes:,.2f}") for name, size in vram["components"].items()),
        total=("allocated", figures.pop("allocated_peak_bytes")),
        note=", ".join(f"{name.removesuffix('_bytes').replace('_', ' ')} {text} {unit}" for name, text in figures.items()),
    )
    out = console()
    out.print(draw(table))
    for line in _lines_below(made):
        out.print(line, markup=False)


def _lines_below(made: dict[str, Any]) -> Iterator[str]:
    """What the table does not show: fit, speed, RAM, disk, sizes, notes. A case without a GPU has no verdict and no speed."""
    from provision.report.words import bytes_words

    if "fits" in made:
        verdict = made["fits"]
        margin = f"{bytes_words(abs(verdict['margin_bytes']))} {'to spare' if verdict['margin_bytes'] >= 0 else 'too much'}"
        yield f"Fit: {verdict['verdict'].replace('_', ' ')}, {margin}."
    if "time" in made:
        time = made["time"]
        speed = "{p50:,.0f} tokens/s ({p10:,.0f} to {p90:,.0f})".format(**time["tokens_per_s"])
        yield f"Speed: {speed}, {time['step_s']['p50']:.2f} s a step, bound by {time['bound']}."
    sizes = [f"{name.upper() if name == 'ram' else name} {bytes_words(made[name]['peak_bytes'])}" for name in ("ram", "disk")]
    yield f"Host: {', '.join(sizes)}. Trainable: {made['trainable_params']:,} of {made['total_params']:,} parameters."
    for warning in made.get("warnings", ()):
        yield f"Note: {warning}"
