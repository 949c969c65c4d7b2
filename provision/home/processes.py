"""A process of this machine that is told apart from a later one with the same pid, whatever is done to the clock."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path
from typing import Final

import psutil

# derived: psutil adds boot time to a process's ticks; the kernel gives it in whole seconds, and gives another second after the
# clock was set a little, so two readings of one start lie up to 1.01 s apart.
SAME_START_S: Final = 1.5
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
MACHINE_ID: Final = Path("/etc/machine-id")
# What Docker, Podman and systemd's containers leave: an image's id is that of each container that is made of it.
CONTAINER_MARKS: Final = (Path("/.dockerenv"), Path("/run/.containerenv"), Path("/run/systemd/container"))
START_FIELD: Final = 19  # derived: proc(5) counts it as 22, from 1, and the two before the name's closing bracket
PER_S: Final = 100  # assumed: as fine as ticks; of a start that is no tick of the kernel's


def boot_id() -> str:
    """What tells one boot of this machine from the next."""
    return BOOT_ID.read_text().strip() if BOOT_ID.exists() else str(int(psutil.boot_time()))


def machine_id() -> str:
    """What tells this computer from another, through its starts and new names: a hash of its system's id, which it does not
    give away. Where that may be another's as well, or is missing, the name counts too: a container has its image's.

    A copy of a computer that kept its id passes for the same.
    """
    return _by_name() if not _system_id() or _is_container() else _hashed(_system_id())


def machine_ids() -> frozenset[str]:
    """What lines about this computer may call it: until 2026-11-27 they counted its name everywhere."""
    return frozenset({machine_id(), _by_name()})


def _by_name() -> str:
    return _hashed(f"{_system_id()}\n{platform.node()}")


def _system_id() -> str:
    return MACHINE_ID.read_text(errors="replace").strip() if MACHINE_ID.exists() else ""


def _is_container() -> bool:
    return any(mark.exists() for mark in CONTAINER_MARKS)


def _hashed(text: str) -> str:
    return hashlib.sha256(f"rentune\n{text}".encode()).hexdigest()[:16]


def start_of(pid: int) -> int | None:
    """When it began, in clock ticks after boot, which no setting of the clock moves; None when no such process runs.

    Where there is no /proc (macOS) hundredths of a Unix second: that kernel writes a start down once.
    """
    try:
        if not BOOT_ID.exists():
            return int(psutil.Process(pid).create_time() * PER_S)
        _, _, after_name = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")
        return int(after_name.split()[START_FIELD])
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None


def still_runs(pid: int, start_ticks: int) -> psutil.Process | None:
    """The process that had this pid and began at `start_ticks` of this boot; None when it has ended, reaped or not."""
    return living(pid) if start_of(pid) == start_ticks else None


def still_runs_by_clock(pid: int, started_s: float) -> psutil.Process | None:
    """The process that had this pid and began at that Unix second, which is all that was written down until 2026-11-26; a clock
    set since misleads it.
    """
    process = living(pid)
    return process if process and abs(process.create_time() - started_s) < SAME_START_S else None


def living(pid: int) -> psutil.Process | None:
    """The process that has this pid now; None for one that has ended, reaped or not."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except psutil.NoSuchProcess:
        return None
