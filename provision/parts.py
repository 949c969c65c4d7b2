"""What each provider needs on this machine, looked at without importing any of it: `plan` has no time for more."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from planner.request import HOST, LOCAL
from provision.clouds.programs import CLOUDS, CloudRow
from provision.errors import MissingPart
from provision.extras import install_command
from provision.places import Places

State = Literal["there", "missing", "optional"]
Find = Callable[[str], str | None]  # a program's name → where it is
Install = Callable[[str], str]  # an extra of rentune's → what to type for its packages
SYSTEM_FOLDERS: Final = "/usr/sbin:/usr/local/sbin:/sbin"  # of servers; not on every user's PATH
# What a provider needs beside what is its own, by the word in `Finding.serves`.
SHARED: Final[dict[str, tuple[str, ...]]] = {HOST: ("SSH",), LOCAL: ("SSH", "the local box")}
OF_A_CLOUD: Final = ("SSH", "clouds")
DOCTOR: Final = "rentune doctor"
INSTALL: Final = f"{DOCTOR} --install"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One part. `missing` stands in the way of what `serves` names; `optional` makes something better.

    Of credentials it tells only where they are named, never what they are.
    """

    part: str
    state: State
    detail: str
    serves: str  # "everything", "the local box", "aws", …
    remedy: str | None = None  # what to type; None when it is there


def needed_parts(places: Places, environment: Mapping[str, str], *, find: Find = shutil.which) -> tuple[Finding, ...]:
    """Everything without which a provider can't be used. No program is started, no package imported."""
    return tuple(_parts(places, environment, find, install_command))


def needs(provider: str) -> frozenset[str]:
    """What a finding may serve that concerns this provider."""
    return frozenset({"everything", provider, *SHARED.get(provider, OF_A_CLOUD)})


def missing_for(provider: str, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """What stands in the provider's way."""
    return tuple(finding for finding in findings if finding.state == "missing" and finding.serves in needs(provider))


def parts_here(places: Places, environment: Mapping[str, str]) -> tuple[Finding, ...]:
    """The same for a plan, which leaves what to type to `rentune doctor`: finding that out takes 35 ms."""
    return tuple(_parts(places, environment, shutil.which, lambda _extra: DOCTOR))


def require_parts(provider: str, places: Places, environment: Mapping[str, str] = os.environ) -> None:
    """Raises MissingPart that names all that is missing, in a plan's order, with what to type first. Where only credentials
    are, nothing is raised: they hide well, and are the cloud's to judge.
    """
    missing = missing_for(provider, needed_parts(places, environment))
    if any(finding.part != credentials_of(provider) for finding in missing):
        details = "; ".join(f"{finding.part}: {finding.detail}" for finding in missing)
        more = f". Then the rest: {DOCTOR} lists it" if len(missing) > 1 else ""
        raise MissingPart(f"{provider} is not ready here: {details}.", hint=f"{missing[0].remedy}{more}")


def package(name: str, *, serves: str, extra: str, install: Install) -> Finding:
    """A Python package by its import name, and the extra that brings it."""
    there = importlib.util.find_spec(name) is not None
    return Finding(
        part=name,
        state="there" if there else "missing",
        detail="installed" if there else "not installed",
        serves=serves,
        remedy=None if there else install(extra),
    )


def credentials_of(cloud: str) -> str:
    """The name of that part."""
    return f"{cloud} credentials"


def _parts(places: Places, environment: Mapping[str, str], find: Find, install: Install) -> Iterator[Finding]:
    """In the order in which a person gets them: packages, the engine, each cloud's plugin, credentials."""
    yield package("paramiko", serves="SSH", extra="provision", install=install)
    yield package("cryptography", serves="SSH", extra="provision", install=install)
    yield _ssh_server(find)
    yield package("pulumi", serves="clouds", extra="provision", install=install)
    for cloud, row in CLOUDS.items():
        yield from (package(name, serves=cloud, extra=cloud, install=install) for name in row.packages)
    yield _engine(places, environment)
    for cloud, row in CLOUDS.items():
        if row.packages:
            yield _plugin(cloud, row, places)
        yield _credentials(cloud, row, environment)


def _ssh_server(find: Find) -> Finding:
    server = find("sshd") or next((path for path in _system_paths("sshd") if Path(path).exists()), None)
    return Finding(
        part="OpenSSH server",
        state="there" if server else "missing",
        detail=server or "no sshd",
        serves="the local box",
        remedy=None if server else "sudo apt-get install openssh-server (nothing needs to listen)",
    )


def _system_paths(program: str) -> Iterator[str]:
    return (f"{folder}/{program}" for folder in SYSTEM_FOLDERS.split(":"))


def _engine(places: Places, environment: Mapping[str, str]) -> Finding:
    """By its file alone: whether an installed one fits is asked when it is first used."""
    from provision.clouds.engine.where import VERSION, engine_binary

    built = engine_binary(places)
    there = str(built) if built.exists() else shutil.which("pulumi", path=environment.get("PATH", ""))
    return Finding(
        part="Pulumi engine",
        state="there" if there else "missing",
        detail=there or f"version {VERSION} is not built",
        serves="clouds",
        remedy=None if there else INSTALL,
    )


def _plugin(cloud: str, row: CloudRow, places: Places) -> Finding:
    """The engine's plugin of exactly the version that the SDK was made for; without the SDK nobody knows which."""
    from provision.clouds.engine.where import plugin_binary

    name, version = _plugin_of(row.packages[0])
    binary = plugin_binary(places, name, version) if version else None
    there = binary is not None and binary.exists()
    wanted = (
        f"Pulumi's, version {version}, is not fetched" if version else f"Pulumi's, of the version that {row.packages[0]} names"
    )
    return Finding(
        part=f"{cloud} plugin",
        state="there" if there else "missing",
        detail=str(binary) if there else wanted,
        serves=cloud,
        remedy=None if there else INSTALL if version else f"{INSTALL}, once {row.packages[0]} is installed",
    )


def _plugin_of(sdk: str) -> tuple[str, str]:
    """Name and version of the plugin that an SDK wants, by its import name; empty where it is not installed."""
    spec = importlib.util.find_spec(sdk)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        manifest = msgspec.json.decode(Path(folder, "pulumi-plugin.json").read_bytes())
        return str(manifest["name"]), str(manifest["version"])
    return "", ""


def _credentials(cloud: str, row: CloudRow, environment: Mapping[str, str]) -> Finding:
    named = [name for name in row.credential_variables if environment.get(name)]
    file = row.credential_file and Path(environment.get("HOME", "~")).expanduser() / row.credential_file
    found = named[0] if named else str(file) if file and file.is_file() else None
    nowhere = "neither in the environment nor in the usual file" if file else "not in the environment"
    return Finding(
        part=credentials_of(cloud),
        state="there" if found else "missing",
        detail=f"named by {found}; not tried" if found else nowhere,
        serves=cloud,
        remedy=None if found else f"Set {' or '.join(row.credential_variables)}.",
    )
