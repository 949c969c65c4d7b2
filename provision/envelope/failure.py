"""How a failure is told: one sentence and the next step on stderr, or an error envelope on stdout with `--json`."""

from __future__ import annotations

import errno
import os
import traceback
from contextlib import suppress

import click

from catalogs.failure import Failure
from provision.envelope import Problem, enclose_error, refusal_of, render_json
from provision.envelope.show import complain
from provision.errors import Exit, RentuneError
from provision.output import refused
from provision.redact import redact

DEBUG_VARIABLE = "RENTUNE_DEBUG"
NO_FILES_NAME = (errno.ENAMETOOLONG, errno.ELOOP)
BEGINNINGS = frozenset(
    {"a", "an", "early", "no", "nobody", "nothing", "that", "the", "there", "this", "what"}
)  # no key is called so
LONGEST_WORDS = 200  # of a foreign error's text


def tell(error: Exception, arguments: list[str]) -> int:
    """Say what went wrong and return the exit code. What nobody foresaw is told as a fault of ours; its traceback is for
    those who ask for it.
    """
    error = _as_missing_part(error) if isinstance(error, ModuleNotFoundError) else error
    code = _exit_code(error)
    if (code is None or _hides_a_fault(error)) and os.environ.get(DEBUG_VARIABLE):
        click.echo(redact("".join(traceback.format_exception(error))), err=True, nl=False)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.ctx.get_help())
        return Exit.REFUSED
    problem = _unforeseen(error) if code is None else problem_of(error)
    code = _code_unforeseen(error) if code is None else code
    if "--json" in arguments and not refused():
        with suppress(OSError):  # standard output may be what is full
            click.echo(render_json(enclose_error(arguments[0] if arguments else "", problem, exit_code=code)))
            return code
    complain(problem)
    return code


def problem_of(error: Exception) -> Problem:
    """What a person is told of a failure that was foreseen."""
    return Problem(message=redact(_sentence(error)), hint=_hint(error))


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
        return refusal_of(error)
    message = f"rentune has a fault of its own: {type(error).__name__}: {redact(str(error))[:LONGEST_WORDS]}"
    return Problem(message=message, hint=f"{DEBUG_VARIABLE}=1 shows where; nothing was changed unless `rentune ls` shows a run")


def _hides_a_fault(error: Exception) -> bool:
    """Whether what is told is what came of something that nobody foresaw."""
    return isinstance(error.__cause__, Exception) and _exit_code(error.__cause__) is None


def _code_unforeseen(error: Exception) -> int:
    """A name that no file can have is what was typed; whatever else was not foreseen has failed."""
    return Exit.REFUSED if isinstance(error, OSError) and error.errno in NO_FILES_NAME else Exit.FAILED


def _exit_code(error: Exception) -> int | None:
    """None for what nobody foresaw. The lower floors only refuse: what fails, fails up here."""
    if isinstance(error, RentuneError):
        return int(error.exit_code)
    if isinstance(error, click.Abort):
        return Exit.INTERRUPTED
    return Exit.REFUSED if isinstance(error, Failure | click.ClickException) else None


def _sentence(error: Exception) -> str:
    if isinstance(error, click.ClickException):
        return error.format_message()
    return _whole(error.message) if isinstance(error, Failure) else "Interrupted."


def _whole(message: str) -> str:
    """What the planner says behind a place in a job file, as a sentence by itself where it has no place."""
    if message.partition(" ")[0] not in BEGINNINGS:
        return message
    return f"{message[0].upper()}{message[1:]}{'' if message[-1] in '.?!' else '.'}"


def _hint(error: Exception) -> str | None:
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{error.ctx.command_path} --help"
    return _small(error.hint) if isinstance(error, Failure) and error.hint is not None else None


def _small(hint: str) -> str:
    """A hint goes on from "Hint: ", and often begins with what is to be typed, so its prose begins small, too; one clause has
    no full stop. In running text the upper floor's hints are sentences.
    """
    first = hint.partition(" ")[0]
    begun = f"{hint[0].lower()}{hint[1:]}" if first.isalpha() and first.istitle() else hint
    return begun[:-1] if begun.endswith(".") and ". " not in begun and not begun.endswith("..") else begun
