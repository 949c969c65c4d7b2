"""Standard output and error that do not fail for their destination: no reader, none any more, a narrow encoding.

Imported at every start, so it imports nothing that costs time.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


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


def _guarded(stream: io.TextIOWrapper, *, goes_on: bool) -> io.TextIOWrapper:
    raw = _Output(stream.fileno(), goes_on=goes_on)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="replace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _Output(io.FileIO):
    """A descriptor of the process's own, which stays open when this is closed."""

    def __init__(self, descriptor: int, *, goes_on: bool) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._goes_on = goes_on

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            self._discard()
            if self._goes_on:
                return memoryview(data).nbytes
        except OSError:
            self._discard()  # a full disk is told once
            raise
        from provision.errors import Exit

        raise SystemExit(int(Exit.UNREAD))  # no failure: neither click nor rich nor anyone else takes it for one

    def _discard(self) -> None:
        """Let all that is still to be written go nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
