"""What each provider needs on this machine, looked at without importing any of it: `plan` has no time for more."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from provision.clouds.programs import CLOUDS, CloudRow
from provision.errors import MissingPart
from provision.places import Places

State = Literal["there", "missing", "optional"]
Find = Callable[[str], str | None]  # a program's name → where it is
SYSTEM_FOLDERS: Final = "/usr/sbin:/usr/local/sbin:/sbin"  # of servers; not on every user's PATH
# What a provider needs beside what is its own, by the word in `Finding.serves`.
SHARED: Final[dict[str, tuple[str, ...]]] = {"host": ("SSH",), "local": ("SSH", "the local box")}
OF_A_CLOUD: Final = ("SSH", "clouds")
INSTALL: Final = "rentune doctor --install"


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
    return (*_light_parts(environment, find), *_engine_parts(places, environment))


def needs(provider: str) -> frozenset[str]:
    """What a finding may serve that concerns this provider."""
    return frozenset({"everything", provider, *SHARED.get(provider, OF_A_CLOUD)})


def missing_for(provider: str, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """What stands in the provider's way."""
    return tuple(finding for finding in findings if finding.state == "missing" and finding.serves in needs(provider))


def missing_here(provider: str, places: Places, environment: Mapping[str, str]) -> tuple[Finding, ...]:
    """What stands in its way on this machine. The engine is looked for where nothing else is missing: that costs 10 ms."""
    light = missing_for(provider, _light_parts(environment, shutil.which))
    if light or provider not in CLOUDS:
        return light
    return missing_for(provider, tuple(_engine_parts(places, environment)))


def require_parts(provider: str, places: Places, environment: Mapping[str, str] = os.environ) -> None:
    """Raises MissingPart for the first part that renting will need. Credentials are the cloud's to judge: they hide well."""
    for finding in missing_for(provider, needed_parts(places, environment)):
        if finding.part != credentials_of(provider):
            raise MissingPart(f"{provider} is not ready here: {finding.part}: {finding.detail}.", hint=finding.remedy)


def package(name: str, *, serves: str, remedy: str) -> Finding:
    """A Python package by its import name."""
    there = importlib.util.find_spec(name) is not None
    return Finding(
        part=name,
        state="there" if there else "missing",
        detail="installed" if there else "not installed",
        serves=serves,
        remedy=None if there else remedy,
    )


def credentials_of(cloud: str) -> str:
    """The name of that part."""
    return f"{cloud} credentials"


def _light_parts(environment: Mapping[str, str], find: Find) -> tuple[Finding, ...]:
    return (
        package("paramiko", serves="SSH", remedy="pip install 'rentune[provision]'"),
        package("cryptography", serves="SSH", remedy="pip install 'rentune[provision]'"),
        _ssh_server(find),
        package("pulumi", serves="clouds", remedy="pip install 'rentune[provision]'"),
        *(part for cloud, row in CLOUDS.items() for part in _of_cloud(cloud, row, environment)),
    )


def _of_cloud(cloud: str, row: CloudRow, environment: Mapping[str, str]) -> Iterator[Finding]:
    for name in row.packages:
        yield package(name, serves=cloud, remedy=f"pip install 'rentune[{cloud}]'")
    yield _credentials(cloud, row, environment)


def _engine_parts(places: Places, environment: Mapping[str, str]) -> Iterator[Finding]:
    yield _engine(places, environment)
    for cloud, row in CLOUDS.items():
        yield from _plugin(cloud, row, places)


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
    from provision.clouds.engine.build import engine_root, engine_version

    built = engine_root(places) / "bin" / "pulumi"
    there = str(built) if built.exists() else shutil.which("pulumi", path=environment.get("PATH", ""))
    return Finding(
        part="Pulumi engine",
        state="there" if there else "missing",
        detail=there or f"version {engine_version()} is not built",
        serves="clouds",
        remedy=None if there else INSTALL,
    )


def _plugin(cloud: str, row: CloudRow, places: Places) -> Iterator[Finding]:
    """The engine's plugin of exactly the version that the SDK was made for; without the SDK nobody knows which."""
    from provision.clouds.engine.build import plugin_binary

    spec = importlib.util.find_spec(row.packages[0])
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        version = str(msgspec.json.decode(Path(folder, "pulumi-plugin.json").read_bytes())["version"])
        binary = plugin_binary(places, cloud, version)
        there = binary.exists()
        yield Finding(
            part=f"{cloud} plugin",
            state="there" if there else "missing",
            detail=str(binary) if there else f"Pulumi's, version {version}, is not fetched",
            serves=cloud,
            remedy=None if there else INSTALL,
        )


def _credentials(cloud: str, row: CloudRow, environment: Mapping[str, str]) -> Finding:
    named = [name for name in row.credential_variables if environment.get(name)]
    file = Path(environment.get("HOME", "~")).expanduser() / row.credential_file
    found = named[0] if named else str(file) if file.is_file() else None
    return Finding(
        part=credentials_of(cloud),
        state="there" if found else "missing",
        detail=f"named by {found}; not tried" if found else "neither in the environment nor in the usual file",
        serves=cloud,
        remedy=None if found else f"Set {' or '.join(row.credential_variables)}.",
    )
