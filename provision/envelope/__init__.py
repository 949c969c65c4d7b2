"""What `--json` prints: one envelope around every command's data, and the words for its exit code."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from provision.errors import Exit

ENVELOPE_VERSION = 1


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong, and what to type instead."""

    message: str
    hint: str | None = None


def refusal_of(error: OSError) -> Problem:
    """What a file or a disk that refuses says, with its name where it has one: standard output has none."""
    name = f"{error.filename}: " if error.filename else ""
    return Problem(message=f"{name}{error.strerror or error}")


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """One command's result. `partial` = data is there and so are errors."""

    command: str
    status: Literal["success", "partial", "error"]
    data: Any = None
    errors: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()  # what to know of the data, and nothing failed by it
    exit_code: int = 0
    version: int = ENVELOPE_VERSION


def enclose(
    command: str,
    data: object,
    *,
    errors: tuple[Problem, ...] = (),
    notes: tuple[str, ...] = (),
    exit_code: int = Exit.OK,
) -> Envelope:
    """The envelope of a command that got as far as having data."""
    failed = exit_code != Exit.OK or bool(errors)
    status: Literal["partial", "success"] = "partial" if failed else "success"
    return Envelope(command=command, status=status, data=data, errors=errors, notes=notes, exit_code=int(exit_code))


def enclose_error(command: str, problem: Problem, *, exit_code: int) -> Envelope:
    """The envelope of a command that has nothing but its reason."""
    return Envelope(command=command, status="error", errors=(problem,), exit_code=int(exit_code))


def render_json(envelope: Envelope) -> str:
    """Indented JSON; Decimals as strings, so that no cent is lost in a float."""
    return msgspec.json.format(msgspec.json.encode(envelope), indent=2).decode()
