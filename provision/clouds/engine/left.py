"""What an engine has started and left behind: one that dies by kill -9 ends none of its plugins, nor what these have started.

Such a one may be in the middle of an order, which comes then after everybody has looked; or it waits for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

HOME_MARK: Final = "PULUMI_HOME"  # the SDK gives it to each engine that it starts, which hands it on; a run has one of its own
ENGINE: Final = "pulumi"  # the program's name
END_S: Final = 5.0  # assumed: none of them has anything to write down


def end_left(home: Path) -> None:
    """End the processes of a run's engines (by their PULUMI_HOME) whose engine is gone. Of other runs none is touched."""
    left = _left(home)
    for process in left:
        with suppress(psutil.Error):
            process.terminate()
    for process in psutil.wait_procs(left, timeout=END_S)[1]:
        with suppress(psutil.Error):
            process.kill()


def _left(home: Path) -> list[psutil.Process]:
    marked = {process.pid: process for process in psutil.process_iter() if _is_of(process, home)}
    return [process for process in marked.values() if not _engine_lives(process, marked)]


def _is_of(process: psutil.Process, home: Path) -> bool:
    """Not where it can't be told: gone in between, or another user's."""
    with suppress(psutil.Error):
        return bool(process.environ().get(HOME_MARK) == str(home))
    return False


def _engine_lives(process: psutil.Process, marked: Iterable[int]) -> bool:
    """Whether it is an engine, or below one."""
    with suppress(psutil.Error):
        return any(each.name() == ENGINE and each.pid in marked for each in (process, *process.parents()))
    return True
