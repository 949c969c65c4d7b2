"""`rentune check`"""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from planner.asking.options.kinds import COLUMN, TASKS
from planner.asking.options.plain import OneOf, Pairs


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

    A data set of the hub's, hub:OWNER/NAME, is fetched first. A job file is planned as `run` would plan it; with --host on
    that machine, which is looked at over SSH and left as it is.
    """
    from catalogs.user_file import absent_words, exists
    from planner.asked import says_what_is_asked
    from planner.asking.data import ON_HUB
    from provision.errors import BadInput

    if file.startswith(ON_HUB):
        from provision.prepare.inputs.parts import brought

        file = brought(file)
    path = Path(file)
    if not (path.is_file() or path.is_dir() or _is_pattern(path)):
        what = "is no regular file" if exists(path) else absent_words(path)
        from provision.prepare.inputs.parts import hub_words

        hint = hub_words(str(file)) or "rentune check FILE: a data file, a folder or pattern of some, or a job file"
        raise BadInput(f"{file} {what}.", hint=hint)
    if says_what_is_asked(path):
        from provision.commands.check.job import check_job

        if model is not None:
            raise BadInput("A job file names its model itself.", hint=f"rentune check {shlex.quote(file)}")
        if columns:
            raise BadInput("A job file names the columns of its data itself.", hint="data: {columns: {text: message}}")
        return check_job(path, host, host_key, as_json=as_json)
    from provision.commands.check.rows import check_rows
    from remote.contract import names_label

    if task != "classification" and names_label(name for name, _ in columns):
        raise BadInput(f"A label was named, and task {task} learns none.", hint="--task classification, or leave the label out")
    if host is not None:
        raise BadInput(f"{file} holds rows, and --host plans a job file.", hint="rentune check JOB.yaml --host user@address")
    return check_rows(path, model, task, dict(columns), as_json=as_json)


def _is_pattern(path: Path) -> bool:
    return not path.exists() and any(sign in str(path) for sign in "*?[")
