"""Who can be rented from: a row per provider, and the provisioner behind it, imported when it is wanted."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from planner.asking.request import HOST, LOCAL
from planner.plan import Provider
from provision.clouds.programs import CLOUDS, UNWATCHED, Ends
from provision.errors import BadInput
from provision.home.places import Places
from provision.redact import without_secrets
from provision.seam import Claim, Provisioner

if TYPE_CHECKING:
    from provision.parts import Finding

Confirm = Callable[[str], bool]  # a host key's fingerprint → whether it is the right one


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """What a provisioner is made of: this machine's folders and environment, and how a host of the user's is reached."""

    places: Places
    environment: Mapping[str, str]
    user_at_host: str | None = None
    host_key: str | None = None
    confirm: Confirm | None = None
    regions: tuple[str, ...] = ()  # where a cloud is asked for what no run tells the region of; empty = in every one


class Lists(StrEnum):
    """What a provider shows when it is asked what carries our tag."""

    THIS_HOME = "what was started from this state folder"  # asked always: it costs nothing, and all of it is ours
    ONE_RUN = "what is left of one run"  # reached only by what that run has noted
    ACCOUNT = "what an account has rented"  # which may be shared with somebody


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One provider: what it has met so far, what its lists show, and its provisioner."""

    status: str  # shown beside every plan; a word changes when the thing has happened, not before
    ends: str  # who ends it at its deadline when nobody is there
    lists: Lists
    make: Callable[[str, Access], Provisioner]


def _local_box(_name: str, access: Access) -> Provisioner:
    from provision.direct.local import LocalBox

    return LocalBox(boxes_folder(access.places), access.places.cache, environment=access.environment)


def _existing_host(_name: str, access: Access) -> Provisioner:
    from provision.direct.host import ExistingHost

    if access.user_at_host is None:
        raise BadInput("The provider host needs an address.", hint="--host user@address")
    return ExistingHost(access.user_at_host, host_key=access.host_key, confirm=access.confirm)


def _cloud(name: str, access: Access) -> Provisioner:
    from provision.clouds.engine.build import find_engine
    from provision.clouds.engine.here import EngineHere
    from provision.clouds.patience import Patience
    from provision.clouds.programs import load_cloud
    from provision.clouds.provisioner import PulumiProvisioner

    return PulumiProvisioner(
        name,
        load_cloud(name),
        EngineHere(
            access.places,
            find_engine(access.places, access.environment),
            without_secrets(access.environment, but=CLOUDS[name].secret_variables),  # it starts other programs
        ),
        regions=access.regions,
        patience=Patience(create_s=CLOUDS[name].waits.create_s),
    )


KINDS: Final[dict[str, Kind]] = {
    LOCAL: Kind(status="runs on this machine", ends="a reaper inside the box ends it", lists=Lists.THIS_HOME, make=_local_box),
    HOST: Kind(
        status="loopback SSH server only", ends="a watchdog on the host cleans up", lists=Lists.ONE_RUN, make=_existing_host
    ),
    **{name: Kind(status=row.status, ends=row.ends, lists=Lists.ACCOUNT, make=_cloud) for name, row in CLOUDS.items()},
}


def unwatched_words(provider: str) -> str:
    """What becomes of a box at its deadline while this machine is off or without a line, as a sentence on "it"."""
    if provider in CLOUDS:
        return UNWATCHED[CLOUDS[provider].ends].format(name=provider)
    return KINDS[provider].ends


def _caution(provider: str) -> str | None:
    """What `plan` and `run` say of a provider that may bill on; None where a box surely ends its own bill."""
    if ends_itself(provider):
        return None
    return (
        f"a process on this machine deletes a box at {provider} after its deadline; while this one is off or without a line, "
        f"{unwatched_words(provider)}"
    )


def ends_itself(provider: str) -> bool:
    """Whether a box there ends its own bill at its deadline: on one's own machines there is none, in a cloud its row tells."""
    return provider not in CLOUDS or CLOUDS[provider].ends_itself


def ended_from_home(provider: str) -> bool:
    """Whether nothing but this machine ends a bill there: one that has switched itself off is billed on."""
    return provider in CLOUDS and CLOUDS[provider].ends is Ends.HOME


def has_idle_limit(provider: str) -> bool:
    """Whether a box there ends itself where nobody comes before its trainer begins. A host bills nothing."""
    return provider == LOCAL or (provider in CLOUDS and CLOUDS[provider].ends_early)


def keeps_lease(provider: str) -> bool:
    """Whether a box there can end itself at any time without a bill that goes on: a host has none."""
    return provider == HOST or has_idle_limit(provider)


def leaseless() -> tuple[str, ...]:
    """Every provider that a lease rules out: a machine there that is off costs on."""
    return tuple(name for name in CLOUDS if not keeps_lease(name))


def boot_wait_s(provider: str) -> float | None:
    """Seconds that a box there is given from running to reachable; None on one's own machines: the plan knows those better."""
    return CLOUDS[provider].waits.boot_s if provider in CLOUDS else None


def never_met(provider: str) -> str | None:
    """What to say before the first dollar goes to a cloud that this version was never tried with; None where it was."""
    row = CLOUDS.get(provider)
    if row is None or row.run_for_real_on is not None:
        return None
    return f"this version was never run against the real {provider}, only against its double: {row.status}"


def reach_words(provider: str, allow_from: tuple[str, ...]) -> str | None:
    """From where a box there may be reached over SSH, said before that; None on one's own machines, where nothing opens."""
    if provider not in CLOUDS:
        return None
    if not CLOUDS[provider].firewall:
        return f"from everywhere, as {provider} has no firewall; the run's own key alone is let in, and no password"
    return f"from {', '.join(allow_from) or 'the address of this machine alone'}, with the run's own key"


def known_providers() -> dict[str, Provider]:
    """Every provider that this version can rent from, as the search wants to know it."""
    return {
        name: Provider(
            name=name,
            runnable=True,
            status=kind.status,
            keeps_volumes=name in CLOUDS and CLOUDS[name].keeps_volumes,
            keeps_lease=keeps_lease(name),
            has_firewall=name not in CLOUDS or CLOUDS[name].firewall,
            asks_ram=name in CLOUDS and CLOUDS[name].asks_ram,
            may_install_driver=name in CLOUDS and CLOUDS[name].may_install_driver,
            caution=_caution(name),
        )
        for name, kind in KINDS.items()
    }


def providers_here(places: Places, environment: Mapping[str, str]) -> dict[str, Provider]:
    """Every provider that this version can rent from, each with what it lacks on this machine: so a plan does not send anybody
    to what is not ready.
    """
    from provision.parts import missing_for, parts_here

    parts = parts_here(places, environment)
    return {
        name: msgspec.structs.replace(provider, missing=_parts(provider, missing_for(name, parts)))
        for name, provider in known_providers().items()
    }


def _parts(provider: Provider, missing: tuple[Finding, ...]) -> tuple[str, ...]:
    """By their own names: the provider's stands beside them."""
    return tuple(finding.part.removeprefix(f"{provider.name} ") for finding in missing)


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
    regions: tuple[str, ...] = (),
) -> Provisioner:
    """The provisioner of one provider. Raises BadInput for an unknown one, MissingPart when its SDK is not installed."""
    if provider not in KINDS:
        raise BadInput(f"Nothing can be rented from {provider!r} yet.", hint=f"This version rents from: {', '.join(KINDS)}")
    access = Access(
        places=places,
        environment=environment,
        user_at_host=user_at_host,
        host_key=host_key,
        confirm=confirm,
        regions=regions,
    )
    return KINDS[provider].make(provider, access)


def require_provider(provider: str, *, places: Places, user_at_host: str | None) -> None:
    """Raises what keeps its provisioner from being made, as `make_provisioner` does: better before a run is opened."""
    make_provisioner(provider, places=places, user_at_host=user_at_host)


def vouched_key(user_at_host: str | None) -> str | None:
    """The key of a host of the user's that this machine's files vouch for; None where they know none, or no host is meant."""
    if user_at_host is None:
        return None
    from provision.direct.host import ExistingHost

    return ExistingHost(user_at_host).vouched_key()


def provisioner_of_run(
    claim: Claim,
    *,
    places: Places,
    environment: Mapping[str, str] = os.environ,
    confirm: Confirm | None = None,
) -> Provisioner:
    """The provisioner of a run, from where its box is. A local box lies in the state folder that its run was opened in."""
    elsewhere = claim.opened_in if claim.provider == LOCAL and claim.opened_in != claim.folder else None
    return make_provisioner(
        claim.provider,
        places=msgspec.structs.replace(places, home=elsewhere.parent.parent) if elsewhere else places,
        environment=environment,
        user_at_host=claim.user_at_host,
        host_key=claim.host_key,
        confirm=confirm,
    )
