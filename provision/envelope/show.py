"""Printing: rich on a terminal, the envelope with --json. Imported late by every command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from provision.envelope import Problem, enclose, refusal_of, render_json
from provision.errors import Exit

if TYPE_CHECKING:
    from rich.console import Console


def console() -> Console:
    """The terminal, or plain text 120 columns wide where there is none."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 120, highlight=False, soft_wrap=False)


def show(
    command: str,
    data: object,
    draw: Callable[[], Any],
    *,
    as_json: bool,
    errors: tuple[Problem, ...] = (),
    exit_code: int = Exit.OK,
) -> int:
    """Print `data` in the envelope, or have it drawn; problems go to stderr when it is drawn. Returns the exit code, which an
    output that takes nothing makes a failure, and never hides.
    """
    told: tuple[Problem, ...] = () if as_json else errors
    try:
        if as_json:
            click.echo(render_json(enclose(command, data, errors=errors, exit_code=exit_code)))
        else:
            draw()
    except OSError as error:
        told = (refusal_of(error), *errors)
        exit_code = exit_code or Exit.FAILED
    for problem in told:
        complain(problem)
    return int(exit_code)


def complain(problem: Problem) -> None:
    """Say it on stderr, with the next step."""
    with suppress(OSError):  # nobody reads along; the exit code says it, too
        click.echo(f"Error: {problem.message}", err=True)
        if problem.hint:
            click.echo(f"Hint: {problem.hint}", err=True)
