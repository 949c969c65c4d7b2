"""The processes of boxes on this machine, found by their marks, from inside a box's PID namespace or outside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import psutil

from provision.aboard.marks import ROOT_MARK, RUN_MARK

SERVER_FOLDER = "server"  # below the box's folder: keys, configuration and log of its sshd
SERVER_NAMES = ("sshd", "bwrap")  # their title carries the configuration's path; sshd writes it over its environment


def find_marked(root: Path, processes: Iterable[psutil.Process]) -> dict[psutil.Process, str]:
    """Living processes of all boxes below `root`, with their run ids: by mark, by sshd's title, and their descendants."""
    alive = {process.pid: (process, parent) for process in processes if (parent := _parent(process)) is not None}
    owners = {pid: run_id for pid, (process, _) in alive.items() if (run_id := _run_id(root, process))}
    found = {}
    for pid, (process, _) in alive.items():
        if owner := next((owners[each] for each in _ancestry(pid, alive) if each in owners), None):
            found[process] = owner
    return found


def _ancestry(pid: int, alive: Mapping[int, tuple[psutil.Process, int]]) -> Iterator[int]:
    while pid in alive:
        yield pid
        pid = alive[pid][1]


def _parent(process: psutil.Process) -> int | None:
    """Pid of the parent; None for what has ended or is about to be collected."""
    try:
        with process.oneshot():
            return None if process.status() == psutil.STATUS_ZOMBIE else int(process.ppid())
    except psutil.Error:
        return None


def _run_id(root: Path, process: psutil.Process) -> str | None:
    try:
        if process.name().startswith(SERVER_NAMES):
            return _run_id_in_title(root, " ".join(process.cmdline()))
        environment = process.environ()
    except (psutil.Error, OSError):  # gone in between, or another user's
        return None
    return environment.get(RUN_MARK) if environment.get(ROOT_MARK) == str(root) else None


def _run_id_in_title(root: Path, title: str) -> str | None:
    _, found, rest = title.partition(f" -f {root}/")
    return rest.partition(f"/{SERVER_FOLDER}/")[0] if found else None
