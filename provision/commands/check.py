"""`rentune check`"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from provision.envelope import Exit, Problem

JOB_SUFFIXES = (".yaml", ".yml")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")  # as transformers names them
OFFLINE = {"HF_HUB_OFFLINE": "1"}  # a look at a file at home asks nobody


@click.command("check")
@click.argument("file", type=click.Path())
@click.option("--model", type=click.Path(), help="Model folder whose tokenizer counts the tokens.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(file: str, model: str | None, as_json: bool) -> int:  # noqa: FBT001 - click hands it over by name
    """Look through a data file or a job file before paying."""
    from provision.envelope.show import show
    from provision.errors import BadInput

    path = Path(file)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "is not there"
        raise BadInput(f"{file} {what}.", hint="rentune check FILE, a data file or a job file")
    if model is not None and not _has_tokenizer(Path(model)):
        raise BadInput(f"{model} is no folder with a tokenizer.", hint="--model FOLDER, one that holds tokenizer.json")
    data = _job(path) if path.suffix in JOB_SUFFIXES else _data(path, model)
    broken = data.get("num_broken", 0)
    errors = (Problem(message=f"{broken} rows can't be used: {data['broken'][0]}"),) if broken else ()
    code = Exit.REFUSED if broken else Exit.OK
    return show("check", data, lambda: _draw(data), as_json=as_json, errors=errors, exit_code=code)


def _job(path: Path) -> dict[str, Any]:
    """The request that the job file makes, its data file counted."""
    import msgspec

    from planner.cli import read_asked

    return {"file": str(path), "job": msgspec.to_builtins(read_asked({"job": str(path)}, folder=Path.cwd()), builtin_types=())}


def _data(path: Path, model: str | None) -> dict[str, Any]:
    """Ask the trainer itself: what it says here is what it will say on the box."""
    import msgspec

    from provision.charge.control import interruptible
    from provision.errors import BadInput

    arguments = [sys.executable, "-m", "remote", "check", str(path.resolve()), *(["--model", model] if model else [])]
    with interruptible():  # so that whoever ends this process ends the trainer's, too
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=os.environ | OFFLINE)
    try:
        report: dict[str, Any] = msgspec.json.decode(done.stdout)
    except msgspec.DecodeError:
        words = done.stderr.strip().splitlines() or ["it said nothing"]
        raise BadInput(f"{path} can't be used: {words[-1]}", hint="JSONL, JSON, CSV or text; see docs/trainer.md") from None
    if "error" in report:
        raise BadInput(report["error"], hint="JSONL, JSON, CSV or text; see docs/trainer.md")
    return report


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def _draw(data: dict[str, Any]) -> None:
    if "job" in data:
        counted = data["job"]["data"]
        click.echo(
            f"{data['file']} can be used: {counted['num_examples']:,} examples of {counted['mean_tokens']:.0f} tokens "
            f"in the mean, {counted['max_tokens']} at most, {counted['basis']}."
        )
        return
    for name, value in data.items():
        if isinstance(value, dict):
            click.echo(f"{name}:")
            for key, amount in value.items():
                click.echo(f"  {key:>10}  {amount}")
        elif value not in ((), []):
            click.echo(f"{name}: {value}")
