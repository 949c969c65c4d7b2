"""Standard output and error that do not fail for their destination: no reader, none any more, a narrow encoding. And that do
to it nothing but show text: what a box says, a provider answers or a file is called can neither move the cursor nor hide.

Imported at every start, so it imports nothing that costs time.
"""

from __future__ import annotations

import io
import os
import re
import sys
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# C0 but for tab and line feed, delete, C1, and what turns text around (Trojan Source, arXiv:2111.00169). The three that our own
# tables of plans are drawn with are left, bold, dim and plain again: nothing can hide in them.
CONTROL = r"(?!\x1b\[[012]m)[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"


def shown(text: str) -> str:
    """The text as it may go to a terminal: of a control character its number, in the way of JSON, so that JSON stays JSON."""
    return re.sub(CONTROL, lambda found: f"\\u{ord(found[0]):04x}", text)


def make_safe(*, outlives_reader: bool) -> None:
    """A closed output swallows, a narrow encoding shows `?` for what it lacks. Once nobody reads standard output (`| head -1`)
    the process ends as `Exit.UNREAD`; with `outlives_reader` it goes on, and what it says goes nowhere. So it does on stderr.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123 - for the life of the process; no pathlib
        elif type(stream) is io.TextIOWrapper:  # no test's own
            setattr(sys, name, _guarded(stream, goes_on=outlives_reader or name == "stderr"))


def flush() -> None:
    """Write what is left, while its reader's absence can still be told; whatever else is wrong Python's own way out tells."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        return


def refused() -> bool:
    """Whether standard output has failed: what is written there now goes nowhere, and nothing says so again."""
    return isinstance(sys.stdout, _Text) and sys.stdout.failed


def drawn_on(stream: TextIO) -> TextIO:
    """The same output for whoever draws on it with control characters of its own, and has cleaned the text between them."""
    return cast("TextIO", _Canvas(stream)) if isinstance(stream, _Text) else stream


def _guarded(stream: io.TextIOWrapper, *, goes_on: bool) -> io.TextIOWrapper:
    raw = _Output(stream.fileno(), goes_on=goes_on)
    return _Text(
        raw,
        encoding=stream.encoding,
        errors="replace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _Text(io.TextIOWrapper):
    """Text that controls nothing. Bytes go past it, by `buffer`: of a log that is piped not one is changed."""

    def __init__(self, output: _Output, **how: Any) -> None:
        super().__init__(io.BufferedWriter(output), **how)
        self._output = output

    @property
    def failed(self) -> bool:
        """Whether the descriptor has refused what was written."""
        return self._output.failed

    def write(self, text: str, /) -> int:
        super().write(shown(text))
        return len(text)

    def draw(self, text: str) -> int:
        """Write it as it is."""
        return super().write(text)


class _Canvas:
    def __init__(self, stream: _Text) -> None:
        self._stream = stream
        self.write = stream.draw

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


class _Output(io.FileIO):
    """A descriptor of the process's own, which stays open when this is closed."""

    def __init__(self, descriptor: int, *, goes_on: bool) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._goes_on = goes_on
        self.failed = False

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            self._discard()
            if self._goes_on:
                return memoryview(data).nbytes
        except OSError:
            self.failed = True
            self._discard()  # a full disk is told once
            raise
        from provision.errors import Exit

        raise SystemExit(int(Exit.UNREAD))  # no failure: neither click nor rich nor anyone else takes it for one

    def _discard(self) -> None:
        """Let all that is still to be written go nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
