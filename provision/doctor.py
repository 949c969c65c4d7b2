"""What is there, what is missing, and what to type: one finding per part and per provider. Stores nothing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec

from catalogs.catalog import Catalog
from catalogs.hardware import ANYWHERE, Offer
from planner.asking.policy import Rule
from planner.units import GIB
from provision.aboard.ship import stack_is_here
from provision.account.ledger import Ledger, damage
from provision.clouds.credentials import flaw
from provision.clouds.orders.images import trains_on
from provision.clouds.programs import CLOUDS, load_cloud
from provision.errors import BadInput, ProvisionError
from provision.extras import install_command
from provision.home.places import HOME_VARIABLE, Places, nearest_there, obstacle
from provision.parts import Find, Finding, clouds_in_reach, credentials_of, looked_for, missing_for, needed_parts
from provision.prepare.limits.policy import read_rules
from provision.prepare.limits.quotas import Told
from provision.providers import known_providers
from provision.seam import seen

LEAST_FREE_GIB: Final = 6  # measured: the trainer's stack (4.4 GiB with CUDA libraries) and a small base, 2026-11
MOVE: Final = f"{HOME_VARIABLE}=FOLDER rentune …"
MEND: Final = "See what it may hide (rentune ls --orphans), then mend or move away {ledger}"
LEAST_PYTHON: Final = (3, 11)  # derived: requires-python of pyproject.toml


def examine(places: Places, environment: Mapping[str, str], *, find: Find = shutil.which) -> tuple[Finding, ...]:
    """Look at this machine: programs, packages, folders, credentials. `find` locates a program."""
    return (
        _python(),
        _state_folder(places),
        _ledger(places),
        _policy(places),
        _disk(places),
        *needed_parts(places, environment, find=find),
        _bubblewrap(find),
        _stack(),
        _object_storage(),
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


class CloudHere(msgspec.Struct, frozen=True, kw_only=True):
    """What decides whether a cloud's GPUs can be had, each in words."""

    credentials: str
    gpu_quota: str
    smallest_offer: str
    clock_ahead_s: float | None = None  # of its clock this machine's; None = it was not asked, or told none


def clouds_here(
    findings: tuple[Finding, ...],
    catalog: Catalog,
    environment: Mapping[str, str],
    *,
    remember: Callable[[Told], None] = lambda _told: None,
) -> dict[str, CloudHere]:
    """Every cloud. Those whose credentials and packages are here are asked for their quota and the time, over the network;
    `remember` is told what every offer in that region takes of it.
    """
    credentials = {finding.part: finding for finding in findings}
    in_reach = clouds_in_reach(environment)
    return {
        name: CloudHere(
            credentials=_credentials_words(credentials[credentials_of(name)], flaw(row, environment), row.credentials_at),
            gpu_quota=_quota_words(name, offer, catalog, environment, remember) if name in in_reach else "not asked",
            smallest_offer="none in the catalog: rentune catalog import FILE.csv"
            if offer is None
            else _offer_words(offer, catalog),
            clock_ahead_s=_clock_ahead_s(name, offer, environment) if name in in_reach else None,
        )
        for name, row in CLOUDS.items()
        for offer in [smallest_offer(name, catalog)]
    }


def smallest_offer(provider: str, catalog: Catalog) -> Offer | None:
    """The cheapest hour on demand with a GPU that the trainer runs on; without GPU where a provider has none."""
    offers = [each for each in catalog.offers if each.provider == provider and each.purchase == "on_demand"]
    usable = [each for each in offers if each.cpu_architecture == "x86_64" and each.hosts != "community"]
    with_gpu = [each for each in usable if each.gpu is not None and each.num_gpus >= 1 and trains_on(catalog.gpus[each.gpu])]
    return min(with_gpu or usable, key=lambda each: (each.usd_per_hour, each.key), default=None)


def _credentials_words(found: Finding, wrong: str | None, where_from: str) -> str:
    return found.detail if found.state == "there" else f"{wrong or 'not found'}; from {where_from}"


def _offer_words(offer: Offer, catalog: Catalog) -> str:
    card = f"{offer.gpu}, {catalog.gpus[offer.gpu].memory_gib:g} GiB" if offer.gpu else "no GPU"
    where = "" if offer.region == ANYWHERE else f" in {offer.region}"
    return f"{offer.instance_type}{where} ({card}): ${offer.usd_per_hour.normalize():f} an hour"


def _quota_words(
    name: str, offer: Offer | None, catalog: Catalog, environment: Mapping[str, str], remember: Callable[[Told], None]
) -> str:
    """What its GPU quotas are, where the smallest offer is."""
    cloud = load_cloud(name)
    if offer is None or not cloud.GPU_QUOTAS:
        return "not told by its API"
    names = tuple(dict.fromkeys((*cloud.GPU_QUOTAS, *cloud.needs(offer))))
    try:
        told = dict(zip(names, cloud.quotas(offer.region, names, environment), strict=True))
    except ProvisionError as error:
        return f"could not be asked for: {error}"
    there = [each for each in catalog.offers if (each.provider, each.region) == (name, offer.region)]
    taken = {each.key: cloud.needs(each) for each in there}
    remember({key: tuple((told[of], much) for of, much in needs.items() if of in told) for key, needs in taken.items()})
    return "; ".join(quota.words for quota in told.values())


def _clock_ahead_s(name: str, offer: Offer | None, environment: Mapping[str, str]) -> float | None:
    """By the answers to a look at what is ours, where the smallest offer is: whoever rents there may ask that."""
    if offer is None:
        return None
    cloud = load_cloud(name)
    return seen(lambda: cloud.owned(offer.region, None, environment)).ahead_s


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
        remedy=MOVE,
    )


def _ledger(places: Places) -> Finding:
    """Lines that can't be read may have opened a run, and stop nobody; where no line can be written nothing is rented."""
    ledger = Ledger(places.ledger)
    told = partial(looked_for, "ledger", serves="everything")
    try:
        ledger.require_place()
        trouble = damage(ledger)
    except BadInput as error:
        return told(None, lack=error.message, remedy=error.hint or MOVE)
    except OSError as error:
        return told(None, lack=f"{ledger.path}: {error.strerror}", remedy=MOVE)
    mend = MEND.format(ledger=places.ledger)
    return told(None if trouble else str(places.ledger), lack=trouble or "", remedy=mend, without="optional")


def _policy(places: Places) -> Finding:
    """What may be rented from here, by the places that say so; one that can't be understood stops everything."""
    found, lack, remedy = None, "", ""
    try:
        found = "; ".join(_rule_words(rule) for rule in read_rules(places))
    except BadInput as error:
        lack, remedy = error.message, error.hint or "Mend the file."
    return looked_for("policy", found, serves="everything", lack=lack, remedy=remedy)


def _rule_words(rule: Rule) -> str:
    """What it allows, where that stands, and whom it rules out by what they can't keep."""
    return f"{rule.words} (nothing is rented from {', '.join(rule.unkept_at)})" if rule.unkept_at else rule.words


def _trouble_with(folder: Path) -> str | None:
    """Why nothing can be written in a folder, or below the nearest one that is there."""
    if (why := obstacle(folder)) is not None:
        return why
    nearest = nearest_there(folder)
    if os.statvfs(nearest).f_flag & os.ST_RDONLY:
        return "on a file system that is read-only"
    if not os.access(nearest, os.W_OK | os.X_OK):
        return "can't be written to" if nearest == folder else f"can't be made in {nearest}"
    return None if shutil.disk_usage(nearest).free else "no space left"


def _disk(places: Places) -> Finding:
    there = next(folder for folder in (places.home, *places.home.absolute().parents) if folder.exists())
    free_gib = shutil.disk_usage(there).free / GIB
    words = f"{free_gib:.1f} GiB free at {places.home}"
    return looked_for(
        "disk",
        words if free_gib >= LEAST_FREE_GIB else None,
        serves="the local box",
        lack=words,
        remedy=f"Free {LEAST_FREE_GIB} GiB for the trainer's packages and a base.",
        without="optional",
    )


def _bubblewrap(find: Find) -> Finding:
    return looked_for(
        "bubblewrap",
        find("bwrap"),
        serves="the local box",
        lack="no bwrap: the box's processes are found by their marks instead of by their namespace",
        remedy="sudo apt-get install bubblewrap",
        without="optional",
    )


def _object_storage() -> Finding:
    return looked_for(
        "obstore",
        "installed" if find_spec("obstore") is not None else None,
        serves="--state",
        lack="not installed: a run's state lies on this machine alone",
        remedy=install_command("state"),
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
