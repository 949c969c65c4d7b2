"""Who can be rented from: a row per provider, and the provisioner behind it, imported when it is wanted."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from planner.plan import NOT_READY, Provider
from planner.request import HOST, LOCAL
from provision.clouds.programs import CLOUDS
from provision.errors import BadInput
from provision.places import Places
from provision.provisioner import Provisioner

if TYPE_CHECKING:
    from provision.parts import Finding

# What each has met so far; shown beside every plan. A word changes when the thing has happened, not before.
OWN_STATUS: Final[dict[str, str]] = {LOCAL: "runs on this machine", HOST: "loopback SSH server only"}

Confirm = Callable[[str], bool]  # a host key's fingerprint → whether it is the right one


def known_providers() -> dict[str, Provider]:
    """Every provider that this version can rent from, as the search wants to know it."""
    status = OWN_STATUS | {name: row.status for name, row in CLOUDS.items()}
    return {name: Provider(name=name, runnable=True, status=words) for name, words in status.items()}


def providers_here(places: Places, environment: Mapping[str, str]) -> dict[str, Provider]:
    """The same, each with what it lacks on this machine: so a plan does not send anybody to what is not ready."""
    from provision.parts import missing_for, parts_here

    parts = parts_here(places, environment)
    return {
        name: msgspec.structs.replace(provider, status=_readiness(provider, missing_for(name, parts)))
        for name, provider in known_providers().items()
    }


def _readiness(provider: Provider, missing: tuple[Finding, ...]) -> str:
    parts = ", ".join(finding.part.removeprefix(f"{provider.name} ") for finding in missing)
    return f"{provider.status}; {NOT_READY}: {parts}" if parts else provider.status


def boxes_folder(places: Places) -> Path:
    """Where the local box keeps a folder per box."""
    return places.home / "boxes"


def make_provisioner(
    provider: str,
    *,
    places: Places,
    environment: Mapping[str, str] = os.environ,
    user_at_host: str | None = None,
    host_key: str | None = None,
    confirm: Confirm | None = None,
) -> Provisioner:
    """The provisioner of one provider. Raises BadInput for an unknown one, MissingPart when its SDK is not installed."""
    if provider == LOCAL:
        from provision.direct.local import LocalBox

        return LocalBox(boxes_folder(places), places.cache, environment=environment)
    if provider == HOST:
        from provision.direct.host import ExistingHost

        if user_at_host is None:
            raise BadInput("The provider host needs an address.", hint="--host user@address")
        return ExistingHost(user_at_host, host_key=host_key, confirm=confirm)
    if provider not in CLOUDS:
        known = ", ".join(known_providers())
        raise BadInput(f"Nothing can be rented from {provider!r} yet.", hint=f"This version rents from: {known}")
    from provision.clouds.engine.build import find_engine
    from provision.clouds.programs import load_cloud
    from provision.clouds.provisioner import PulumiProvisioner

    return PulumiProvisioner(
        provider,
        load_cloud(provider),
        places=places,
        engine=find_engine(places, environment),
        environment=environment,
    )
