"""What a machine has said of its own boot, for a box that never answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from provision.errors import ConnectionFailed, WrongHostKey
from provision.home.whole import write_whole
from provision.walk.driven import Run
from provision.walk.job.training import last_words

T = TypeVar("T")


def told_with_console(run: Run, act: Callable[[], T]) -> T:
    """What `act` returns. Where the box did not answer it, the failure also tells how its boot log ends.

    The whole log is kept in the run's directory, since the box will be gone. Raises what `act` does.
    """
    try:
        return act()
    except WrongHostKey:
        raise
    except ConnectionFailed as error:
        if not _is_at_home(run):
            raise
        words = f"{error} Its console ends with: {last_words(run.folder.console)}"
        raise ConnectionFailed(words, hint=f"All of it: {run.folder.console}") from error


def _is_at_home(run: Run) -> bool:
    """Whether the machine has said anything, and it lies at home now."""
    try:
        said = run.provisioner.console(run.claim)
        if said.strip():
            write_whole(run.folder.console, said.encode())
    except Exception as error:  # noqa: BLE001 - that the console can't be had must not hide why it was wanted
        run.display.note(f"The machine's console could not be read: {error}")
        return False
    return bool(said.strip())
