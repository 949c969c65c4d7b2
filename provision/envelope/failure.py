"""How a failure is told: one sentence and the next step on stderr, or an error envelope on stdout with `--json`."""

from __future__ import annotations

import errno
import os
import traceback

import click

from provision.envelope import Problem, enclose_error, render_json
from provision.errors import Exit
from provision.redact import redact

# Failures of the lower floors, by class. Named, not imported: an error that was raised has its module loaded already.
EXIT_CODES: dict[str, int] = {
    "catalogs.read.CatalogError": Exit.REFUSED,
    "catalogs.models.ModelUnknown": Exit.REFUSED,
    "planner.request.RequestError": Exit.REFUSED,  # a job file's errors and those of data are of this kind
    "planner.refusals.Refused": Exit.REFUSED,
    "click.exceptions.Abort": Exit.INTERRUPTED,
}

DEBUG_VARIABLE = "RENTUNE_DEBUG"
NO_FILES_NAME = (errno.ENAMETOOLONG, errno.ELOOP)
LONGEST_WORDS = 200  # of a foreign error's text


def tell(error: Exception, arguments: list[str]) -> int:
    """Say what went wrong and return the exit code. What nobody foresaw is told as a fault of ours; its traceback is for
    those who ask for it.
    """
    error = _as_missing_part(error) if isinstance(error, ModuleNotFoundError) else error
    code = _exit_code(error)
    if code is None and os.environ.get(DEBUG_VARIABLE):
        click.echo(redact("".join(traceback.format_exception(error))), err=True, nl=False)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.ctx.get_help())
        return Exit.REFUSED
    problem = _unforeseen(error) if code is None else Problem(message=redact(_sentence(error)), hint=_hint(error))
    code = _code_unforeseen(error) if code is None else code
    if "--json" in arguments:
        click.echo(render_json(enclose_error(arguments[0] if arguments else "", problem, exit_code=code)))
    else:
        click.echo(f"Error: {problem.message}", err=True)
        if problem.hint:
            click.echo(f"Hint: {problem.hint}", err=True)
    return code


def _as_missing_part(error: ModuleNotFoundError) -> Exception:
    """A package that one of rentune's extras brings is no fault: the planner alone is installed without it."""
    from provision.errors import MissingPart
    from provision.extras import extra_with, install_command, own_requirements

    extra = extra_with(error.name or "", own_requirements())
    if extra is None:
        return error
    return MissingPart(f"This needs the package {error.name}, which is not installed.", hint=install_command(extra))


def _unforeseen(error: Exception) -> Problem:
    """A file or a disk that refuses names itself; everything else is our fault, and says so."""
    if isinstance(error, OSError) and error.strerror:
        return Problem(message=" ".join(filter(None, (error.filename and f"{error.filename}:", error.strerror))), hint=None)
    message = f"rentune has a fault of its own: {type(error).__name__}: {redact(str(error))[:LONGEST_WORDS]}"
    return Problem(message=message, hint=f"{DEBUG_VARIABLE}=1 shows where; nothing was changed unless `rentune ls` shows a run")


def _code_unforeseen(error: Exception) -> int:
    """A name that no file can have is what was typed; whatever else was not foreseen has failed."""
    return Exit.REFUSED if isinstance(error, OSError) and error.errno in NO_FILES_NAME else Exit.FAILED


def _exit_code(error: Exception) -> int | None:
    if isinstance(error, click.ClickException):
        return Exit.REFUSED
    for kind in type(error).__mro__:
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name.startswith("provision.errors."):
            return int(kind.exit_code)  # type: ignore[attr-defined]  # every class of that file has one
        if name in EXIT_CODES:
            return EXIT_CODES[name]
    return None


def _sentence(error: Exception) -> str:
    if isinstance(error, click.ClickException):
        return error.format_message()
    message = getattr(error, "message", None)  # where str() adds the hint, this is the sentence alone
    return message if isinstance(message, str) else str(error) or "Interrupted."


def _hint(error: Exception) -> str | None:
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{error.ctx.command_path} --help"
    hint = getattr(error, "hint", None)
    return hint if isinstance(hint, str) else None
