"""What is there, what is missing, and what to type: one finding per part and per provider. Stores nothing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from planner.units import GIB
from provision.aboard.ship import stack_is_here
from provision.account.ledger import Ledger, damage
from provision.parts import Find, Finding, looked_for, missing_for, needed_parts
from provision.places import Places
from provision.providers import known_providers

LEAST_FREE_GIB: Final = 6  # measured: the trainer's stack (4.4 GiB with CUDA libraries) and a small base, 2026-11
MEND: Final = "See what it may hide (rentune ls --orphans), then mend or move away {ledger}"
LEAST_PYTHON: Final = (3, 11)  # derived: requires-python of pyproject.toml


def examine(places: Places, environment: Mapping[str, str], *, find: Find = shutil.which) -> tuple[Finding, ...]:
    """Look at this machine: programs, packages, folders, credentials. `find` locates a program."""
    return (
        _python(),
        _state_folder(places),
        _ledger(places),
        _disk(places),
        *needed_parts(places, environment, find=find),
        _bubblewrap(find),
        _stack(),
    )


def usable_providers(findings: tuple[Finding, ...]) -> dict[str, bool]:
    """Whether each provider lacks nothing that it needs."""
    return {name: not missing_for(name, findings) for name in known_providers()}


def provider_words(findings: tuple[Finding, ...]) -> dict[str, str]:
    """Each provider in a few words: whether it can be used here, and what it has met so far."""
    usable = usable_providers(findings)
    return {
        name: f"{'ready' if usable[name] else 'not ready'}; {provider.status}" for name, provider in known_providers().items()
    }


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    found = version if sys.version_info >= LEAST_PYTHON else None
    return looked_for("Python", found, serves="everything", lack=version, remedy="Install Python 3.11 or newer.")


def _state_folder(places: Places) -> Finding:
    """Where the ledger lies: without it nothing is rented. Nothing is written to find out."""
    trouble = _trouble_with(places.home)
    return looked_for(
        "state folder",
        None if trouble else str(places.home),
        serves="everything",
        lack=f"{places.home}: {trouble}",
        remedy="RENTUNE_HOME=FOLDER rentune …",
    )


def _ledger(places: Places) -> Finding:
    """Lines that can't be read may have opened a run; nothing stands in the way of the next one."""
    trouble = _trouble_with_ledger(Ledger(places.ledger))
    return looked_for(
        "ledger",
        None if trouble else str(places.ledger),
        serves="everything",
        lack=trouble or "",
        remedy=MEND.format(ledger=places.ledger),
        without="optional",
    )


def _trouble_with_ledger(ledger: Ledger) -> str | None:
    """Which of its lines can't be read, or why none can; None also where nothing was opened yet."""
    try:
        return damage(ledger)
    except OSError as error:
        return f"{ledger.path}: {error.strerror}"


def _trouble_with(folder: Path) -> str | None:
    """Why nothing can be written in a folder, or below the nearest one that is there."""
    nearest = _nearest(folder)
    if not nearest.is_dir():
        return "not a folder" if nearest == folder else f"{nearest} is not a folder"
    if os.statvfs(nearest).f_flag & os.ST_RDONLY:
        return "on a file system that is read-only"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return "can't be written to" if nearest == folder else f"can't be made in {nearest}"
    return None if shutil.disk_usage(nearest).free else "no space left"


def _disk(places: Places) -> Finding:
    free_gib = shutil.disk_usage(_nearest(places.home, there=Path.exists)).free / GIB
    words = f"{free_gib:.1f} GiB free at {places.home}"
    return looked_for(
        "disk",
        words if free_gib >= LEAST_FREE_GIB else None,
        serves="the local box",
        lack=words,
        remedy=f"Free {LEAST_FREE_GIB} GiB for the trainer's packages and a base.",
        without="optional",
    )


def _nearest(path: Path, *, there: Callable[[Path], bool] = os.path.lexists) -> Path:
    """The path itself, or the nearest above it that is there: with `lexists`, a link that leads nowhere is."""
    return path if there(path) or path == path.parent else _nearest(path.parent, there=there)


def _bubblewrap(find: Find) -> Finding:
    return looked_for(
        "bubblewrap",
        find("bwrap"),
        serves="the local box",
        lack="no bwrap: the box's processes are found by their marks instead of by their namespace",
        remedy="sudo apt-get install bubblewrap",
        without="optional",
    )


def _stack() -> Finding:
    return looked_for(
        "trainer's packages",
        "this environment has them" if stack_is_here() else None,
        serves="the local box",
        lack="not in this environment: the first run builds one in the cache",
        remedy="wait for that run, or in a checkout: make setup-box",
        without="optional",
    )
