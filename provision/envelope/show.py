"""Printing: rich on a terminal, the envelope with --json. Imported late by every command."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from catalogs.failure import ended_once
from provision.envelope import Problem, enclose, refusal_of, render_json
from provision.errors import Exit

if TYPE_CHECKING:
    from rich.console import Console

LEAST_COLUMNS: Final = 60  # measured: below it the table of `ls` has columns of one letter, 2026-11-26
UNKNOWN_COLUMNS: Final = 100  # assumed: where nobody tells a width; the tables of `plan` are made for it


def width_columns() -> int:
    """How wide the output is: as COLUMNS says, else as the terminal is, else 100; never so narrow that words fall apart, which
    is told once.
    """
    columns = shutil.get_terminal_size((UNKNOWN_COLUMNS, 24)).columns
    if columns < LEAST_COLUMNS:
        _tell_narrow(columns)
    return max(LEAST_COLUMNS, columns)


def columns_of(out: TextIO) -> int | None:
    """How wide what goes there is to be; None where no terminal is: a program looks for whole sentences."""
    return width_columns() if out.isatty() else None


@cache
def _tell_narrow(columns: int) -> None:
    note = f"Note: this is laid out for {LEAST_COLUMNS} columns, the least that its tables need; here are {columns}."
    with suppress(OSError):
        click.echo(note, err=True)


def console() -> Console:
    """The terminal, or plain text as wide."""
    from provision.envelope.drawing import canvas

    follows = sys.stdout.isatty() and shutil.get_terminal_size().columns >= LEAST_COLUMNS  # its window may be drawn wider
    return canvas(width=None if follows else width_columns())


def tracing() -> AbstractContextManager[object]:
    """Shows on stderr, for as long as it lasts, that a step is traced; nothing where nobody watches."""
    if not sys.stderr.isatty():
        return nullcontext()
    from provision.envelope.drawing import canvas

    return canvas(stderr=True).status("Tracing a training step: some seconds, the first time.")


def say(sentence: str, *, indent: str = "", err: bool = False) -> None:
    """Print what is to be read, broken between words; what is to be copied is echoed whole."""
    from planner.report.lines import wrapped  # only where something is said: it costs start-up time

    for line in wrapped(ended_once(sentence), width_columns() - len(indent)):
        click.echo(f"{indent}{line}", err=err)


def show(
    command: str,
    data: object,
    draw: Callable[[], Any],
    *,
    as_json: bool,
    errors: tuple[Problem, ...] = (),
    notes: tuple[str, ...] = (),
    exit_code: int = Exit.OK,
) -> int:
    """Print `data` in the envelope, or have it drawn, the `notes` too; problems go to stderr then. Returns the exit code,
    which an output that takes nothing makes a failure, and never hides.
    """
    told: tuple[Problem, ...] = () if as_json else errors
    try:
        if as_json:
            click.echo(render_json(enclose(command, data, errors=errors, notes=notes, exit_code=exit_code)))
        else:
            draw()
    except OSError as error:
        told = (refusal_of(error), *errors)
        exit_code = exit_code or Exit.FAILED
    for problem in told:
        complain(problem)
    return int(exit_code)


def _between_words(text: str, columns: int) -> list[str]:
    """Its lines; a word that is wider, such as a path, stays whole."""
    return textwrap.wrap(text, columns, break_long_words=False, break_on_hyphens=False)


def complain(problem: Problem) -> None:
    """Say it on stderr, with the next step: whole, so that it can be copied. Where nobody has a width it is one line."""
    with suppress(OSError):  # nobody reads along; the exit code says it, too
        message, columns = f"Error: {problem.message}", columns_of(sys.stderr)
        for line in [message] if columns is None else _between_words(message, columns):
            click.echo(line, err=True)
        if problem.hint:
            click.echo(f"Hint: {problem.hint}", err=True)
