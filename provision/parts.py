"""What each provider needs on this machine, looked at without importing any of it: `plan` has no time for more."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from planner.asking.request import HOST, LOCAL
from provision.clouds.credentials import flaw, named_by
from provision.clouds.permissions import how_to_see
from provision.clouds.programs import CLOUDS, CloudRow
from provision.errors import MissingPart
from provision.extras import install_command
from provision.home.places import SYSTEM_FOLDERS, Places

State = Literal["there", "missing", "optional"]
Find = Callable[[str], str | None]  # a program's name → where it is
Install = Callable[[str], str]  # an extra of rentune's → what to type for its packages
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


def looked_for(part: str, found: str | None, *, serves: str, lack: str, remedy: str, without: State = "missing") -> Finding:
    """A part that is there, as `found` tells; where that is None, what is lacking and what to type. `without` is its state
    then.
    """
    if found is not None:
        return Finding(part=part, state="there", detail=found, serves=serves)
    return Finding(part=part, state=without, detail=lack, serves=serves, remedy=remedy)


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
    """What stands in the way here, for a plan. What to type it leaves to `rentune doctor`: finding that out takes 35 ms."""
    return tuple(_parts(places, environment, shutil.which, lambda _extra: DOCTOR))


def require_parts(provider: str, places: Places, environment: Mapping[str, str] = os.environ) -> None:
    """Raises MissingPart that names all that is missing, in a plan's order, with what to type first. Where only credentials
    are, and may lie where nobody looks but the cloud's own library, nothing is raised: they are the cloud's to judge. Of those
    that are named and can open nothing it is raised.
    """
    missing = missing_for(provider, needed_parts(places, environment))
    row = CLOUDS.get(provider)
    hides = row is not None and row.credential_file is not None and flaw(row, environment) is None
    if any(not hides or finding.part != credentials_of(provider) for finding in missing):
        details = "; ".join(f"{finding.part}: {finding.detail}" for finding in missing)
        more = f". Then the rest: {DOCTOR} lists it" if len(missing) > 1 else ""
        first = (missing[0].remedy or "").removesuffix(".")
        raise MissingPart(f"{provider} is not ready here: {details}.", hint=f"{first}{more}")


def package(name: str, *, serves: str, extra: str, install: Install) -> Finding:
    """A Python package by its import name, and the extra that brings it."""
    found = "installed" if importlib.util.find_spec(name) is not None else None
    return looked_for(name, found, serves=serves, lack="not installed", remedy="" if found else install(extra))


def clouds_in_reach(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The clouds that can be asked what they hold: packages are installed, credentials named. It takes no engine."""
    return tuple(
        cloud
        for cloud, row in CLOUDS.items()
        if _credentials(cloud, row, environment).state == "there"
        and all(importlib.util.find_spec(name) is not None for name in row.packages)
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
    remedy = "sudo apt-get install openssh-server (nothing needs to listen)"
    return looked_for("OpenSSH server", server, serves="the local box", lack="no sshd", remedy=remedy)


def _system_paths(program: str) -> Iterator[str]:
    return (f"{folder}/{program}" for folder in SYSTEM_FOLDERS)


def _engine(places: Places, environment: Mapping[str, str]) -> Finding:
    """By its file alone: whether an installed one fits is asked when it is first used."""
    from provision.clouds.engine.where import VERSION, own_engine

    ours = own_engine(places)
    found = str(ours) if ours else shutil.which("pulumi", path=environment.get("PATH", ""))
    return looked_for("Pulumi engine", found, serves="clouds", lack=f"version {VERSION} is not here", remedy=INSTALL)


def _plugin(cloud: str, row: CloudRow, places: Places) -> Finding:
    """The engine's plugin of exactly the version that the SDK was made for; without the SDK nobody knows which."""
    from provision.clouds.engine.where import plugin_binary

    name, version = _plugin_of(row.packages[0])
    if not version:
        sdk = row.packages[0]
        lack, remedy = f"Pulumi's, of the version that {sdk} names", f"{INSTALL}, once {sdk} is installed"
        return looked_for(f"{cloud} plugin", None, serves=cloud, lack=lack, remedy=remedy)
    binary = plugin_binary(places, name, version)
    found = str(binary) if binary.exists() else None
    lack = f"Pulumi's, version {version}, is not fetched"
    return looked_for(f"{cloud} plugin", found, serves=cloud, lack=lack, remedy=INSTALL)


def _plugin_of(sdk: str) -> tuple[str, str]:
    """Name and version of the plugin that an SDK wants, by its import name; empty where it is not installed."""
    spec = importlib.util.find_spec(sdk)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        manifest = msgspec.json.decode(Path(folder, "pulumi-plugin.json").read_bytes())
        return str(manifest["name"]), str(manifest["version"])
    return "", ""


def _credentials(cloud: str, row: CloudRow, environment: Mapping[str, str]) -> Finding:
    where, wrong = named_by(row, environment), flaw(row, environment)
    nowhere = "neither in the environment nor in the usual file" if row.credential_file else "not in the environment"
    set_these = " or ".join(
        f"{name} and {row.credential_pairs[name]}" if name in row.credential_pairs else name
        for name in row.credential_variables
    )
    return looked_for(
        credentials_of(cloud),
        where and f"named by {where}; not tried" if wrong is None else None,
        serves=cloud,
        lack=wrong or nowhere,
        remedy=f"Set {set_these}. Where from: {row.credentials_at}. What they must allow: {how_to_see(cloud)}.",
    )
