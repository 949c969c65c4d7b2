"""Somebody's word that a run is to end, kept where whoever drives it looks before anything is ordered: in the run's directory.

A signal alone can be missed: a controller that ends one attempt is not interrupted in that, and the next attempt follows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import msgspec

from provision.errors import Refused
from provision.home.places import RunFolder
from provision.home.processes import boot_id, start_of, still_runs
from provision.home.whole import write_whole
from remote.contract import decode

STANDS: Final = "Run {0} is to end all the same, and nothing more is ordered for it: rentune down {0} waits for that again."


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """Who waits for it: a process, and the boot and start that make its pid mean something. None = nobody any more."""

    pid: int | None = None
    boot_id: str = ""
    start_ticks: int | None = None


@contextmanager
def end_wished(folder: RunFolder, note: Callable[[str], object]) -> Iterator[None]:
    """Say that the run is to end, and in the block that it is waited for. The word stays: nothing more is ordered for it until
    somebody says that it is to go on, which is told where Ctrl-C ends the block. A home that takes no file is told.
    """
    here = Wish(pid=os.getpid(), boot_id=boot_id(), start_ticks=start_of(os.getpid()))
    try:
        write_whole(folder.wish, msgspec.json.encode(here))
    except OSError as error:
        note(f"{folder.wish} can't be written ({error.strerror}): whoever controls the run is asked alone.")
        yield
        return
    try:
        yield
    except KeyboardInterrupt:
        note(STANDS.format(folder.root.name))
        raise
    finally:
        with suppress(OSError):
            if folder.root.exists():
                write_whole(folder.wish, msgspec.json.encode(Wish()))


def end_is_wished(folder: RunFolder) -> bool:
    """Whether somebody has said it, and nobody since that it is to go on."""
    return folder.wish.exists()


def wish_no_end(folder: RunFolder, *, run_id: str) -> None:
    """Say that it is to go on after all. For whoever holds the run's lock.

    Raises Refused while a process waits for its end, and where the word can't be taken back.
    """
    if not end_is_wished(folder):
        return
    if (pid := _waiting(folder)) is not None:
        raise Refused(f"Process {pid} is ending run {run_id}.", hint=f"Once that is done: rentune ls; rentune resume {run_id}")
    try:
        folder.wish.unlink(missing_ok=True)
    except OSError as error:
        raise Refused(
            f"{folder.wish} says that run {run_id} is to end, and can't be removed ({error.strerror}).",
            hint=f"Remove it by hand, then: rentune resume {run_id}",
        ) from None


def _waiting(folder: RunFolder) -> int | None:
    """The process of this boot that waits for the end; None also for a word that can't be read, which counts all the same."""
    with suppress(OSError, msgspec.DecodeError):
        wish = decode(folder.wish.read_bytes(), Wish)
        if wish.pid is None or wish.start_ticks is None or wish.pid == os.getpid() or wish.boot_id != boot_id():
            return None
        return wish.pid if still_runs(wish.pid, wish.start_ticks) is not None else None
    return None
