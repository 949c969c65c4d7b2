"""What is there, what is missing, and what to type: one finding per part and per provider. Stores nothing."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from planner.units import GIB
from provision.aboard.ship import STACK_MARK, stack_hash
from provision.clouds.engine.build import engine_version, find_engine
from provision.clouds.programs import CLOUDS, CloudRow
from provision.places import Places
from provision.providers import OWN_STATUS, known_providers

State = Literal["there", "missing", "optional"]
LEAST_FREE_GIB: Final = 6  # measured: the trainer's stack (4.4 GiB with CUDA libraries) and a small base, 2026-11
LEAST_PYTHON: Final = (3, 11)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One part. `missing` stands in the way of what `serves` names; `optional` makes something better.

    Of credentials it tells only where they are named, never what they are.
    """

    part: str
    state: State
    detail: str
    serves: str  # "everything", "the local box", "aws", …
    remedy: str | None = None  # what to type; None when it is there


def examine(
    places: Places, environment: Mapping[str, str], *, find: Callable[[str], str | None] = shutil.which
) -> tuple[Finding, ...]:
    """Look at this machine: programs, packages, folders, credentials. `find` locates a program."""
    return (
        *_everything(places),
        *_for_ssh(),
        *_for_local_box(find),
        *_for_clouds(places, environment),
    )


def usable_providers(findings: tuple[Finding, ...]) -> dict[str, bool]:
    """Whether each provider lacks nothing that it needs."""
    shared = {"host": ("SSH",), "local": ("SSH", "the local box")}
    stands_in_way = {finding.serves for finding in findings if finding.state == "missing"}
    return {name: not stands_in_way & {"everything", name, *shared.get(name, ("SSH", "clouds"))} for name in known_providers()}


def _everything(places: Places) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    old = sys.version_info < LEAST_PYTHON
    yield Finding(
        part="Python",
        state="missing" if old else "there",
        detail=version,
        serves="everything",
        remedy="Install Python 3.11 or newer." if old else None,
    )
    free_gib = shutil.disk_usage(_existing(places.home)).free / GIB
    short = free_gib < LEAST_FREE_GIB
    yield Finding(
        part="disk",
        state="optional" if short else "there",
        detail=f"{free_gib:.1f} GiB free at {places.home}",
        serves="the local box",
        remedy=f"Free {LEAST_FREE_GIB} GiB for the trainer's packages and a base." if short else None,
    )


def _for_ssh() -> Iterator[Finding]:
    yield _package("paramiko", serves="SSH", remedy="pip install 'rentune[provision]'")
    yield _package("cryptography", serves="SSH", remedy="pip install 'rentune[provision]'")


def _for_local_box(find: Callable[[str], str | None]) -> Iterator[Finding]:
    server = find("sshd") or next((path for path in ("/usr/sbin/sshd", "/sbin/sshd") if Path(path).exists()), None)
    yield Finding(
        part="OpenSSH server",
        state="there" if server else "missing",
        detail=server or "no sshd",
        serves="the local box",
        remedy=None if server else "sudo apt-get install openssh-server (nothing needs to listen)",
    )
    bubblewrap = find("bwrap")
    yield Finding(
        part="bubblewrap",
        state="there" if bubblewrap else "optional",
        detail=bubblewrap or "no bwrap: the box's processes are found by their marks instead of by their namespace",
        serves="the local box",
        remedy=None if bubblewrap else "sudo apt-get install bubblewrap",
    )
    mark = Path(sys.prefix) / STACK_MARK
    fits = mark.exists() and mark.read_text().strip() == stack_hash()
    yield Finding(
        part="trainer's packages",
        state="there" if fits else "optional",
        detail="this environment has them" if fits else "not in this environment: the first run builds one in the cache",
        serves="the local box",
        remedy=None if fits else "make setup",
    )


def _for_clouds(places: Places, environment: Mapping[str, str]) -> Iterator[Finding]:
    yield _package("pulumi", serves="clouds", remedy="pip install 'rentune[provision]'")
    engine = find_engine(places, environment)
    yield Finding(
        part="Pulumi engine",
        state="there" if engine else "missing",
        detail=str(engine) if engine else f"version {engine_version()} is not built",
        serves="clouds",
        remedy=None if engine else "rentune doctor --install",
    )
    for cloud, row in CLOUDS.items():
        for package in row.packages:
            yield _package(package, serves=cloud, remedy=f"pip install 'rentune[{cloud}]'")
        yield _credentials(cloud, row, environment)


def _credentials(cloud: str, row: CloudRow, environment: Mapping[str, str]) -> Finding:
    named = [name for name in row.credential_variables if environment.get(name)]
    file = Path(environment.get("HOME", "~")).expanduser() / row.credential_file
    found = named[0] if named else str(file) if file.is_file() else None
    return Finding(
        part=f"{cloud} credentials",
        state="there" if found else "missing",
        detail=f"named by {found}; not tried" if found else "neither in the environment nor in the usual file",
        serves=cloud,
        remedy=None if found else f"Set {' or '.join(row.credential_variables)}.",
    )


def _package(name: str, *, serves: str, remedy: str) -> Finding:
    there = importlib.util.find_spec(name) is not None
    return Finding(
        part=name,
        state="there" if there else "missing",
        detail="installed" if there else "not installed",
        serves=serves,
        remedy=None if there else remedy,
    )


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def provider_words(findings: tuple[Finding, ...]) -> dict[str, str]:
    """Each provider in a few words: whether it can be used here, and what it has met so far."""
    usable = usable_providers(findings)
    return {
        name: f"{'ready' if usable[name] else 'not ready'}; {OWN_STATUS.get(name, provider.status)}"
        for name, provider in known_providers().items()
    }
