"""Faults of ours that a run outlives: what was told of them is one sentence, the rest is kept in its controller's log."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from provision.home.places import RunFolder
from provision.redact import redact


def keep_fault(folder: RunFolder) -> None:
    """Write down the traceback of the exception that is being handled. Where home takes no line, nothing is kept."""
    with suppress(OSError), folder.controller_log.open("a") as log:
        log.write(redact(traceback.format_exc()))


@contextmanager
def apart(folder: RunFolder) -> Iterator[None]:
    """Whatever goes wrong within is wrong with that alone: it is kept, and what the run has still to do goes on."""
    try:
        yield
    except Exception:  # noqa: BLE001 - an alert, or a line of the books, keeps no box alive
        keep_fault(folder)
