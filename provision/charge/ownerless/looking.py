"""Asking every provider that may hold something of ours: `ls --orphans` and `down --orphans`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from catalogs.catalog import read_rules
from provision.account.ledger import Ledger, damage
from provision.charge.controller import hands_of
from provision.charge.ownerless.elsewhere import ask_stores, in_other_hands
from provision.charge.ownerless.orphans import Orphans, clock_ahead_s, find_orphans, lists_of, providers_to_ask
from provision.charge.ownerless.regions import regions_meant, regions_unmet, require_met
from provision.clouds.programs import load_cloud
from provision.errors import RentuneError
from provision.home.clocks import Clocks
from provision.home.installation import known_installation
from provision.parts import clouds_in_reach
from provision.prepare.papers import read_claim
from provision.providers import Lists, make_provisioner, provisioner_of_run
from provision.seam import Answer, Owned, Provisioner, seen

if TYPE_CHECKING:
    from provision.account.runs import RunState
    from provision.home.places import Places
    from provision.walk.edges import MakeProvisioner


class Sky(NamedTuple):
    """The clouds as a look reaches them."""

    in_reach: Iterable[str]  # those that can be asked from here
    make: Callable[..., Provisioner]  # of a provider's name, with `places` and, where not all are asked, `regions`
    regions_of: Callable[[str], Iterable[str]]  # by a cloud's name the regions that the account may use there
    of_run: MakeProvisioner | None = None  # what ends what was found of a run; None = what this home has for its provider


def sky_from_here() -> Sky:
    """By the credentials that this process has."""
    return Sky(clouds_in_reach(os.environ), make_provisioner, regions_of=lambda cloud: load_cloud(cloud).regions(os.environ))


def look_for_orphans(places: Places, clocks: Clocks, *regions: str, sky: Sky | None = None) -> Orphans:
    """The ledger against what each provider lists: where a run was opened, and every cloud whose credentials are here. Of a
    cloud that is asked region by region these `regions` alone are, names or patterns; without any, all of them. `sky`: how
    they are reached, None = from here.

    The ledger is read once more when they have answered. What they list was written down before it was asked for, so nothing is
    a stray of a run that was opened meanwhile; nor is what was listed of one that has come to its end since.
    Raises BadInput for a region that nobody has, where every cloud that is asked by region has told its own.
    """
    sky = sky or sky_from_here()
    by_store = ask_stores(places, clocks)
    ledger = Ledger(places.ledger)
    before = ledger.runs()
    owned: dict[str, Owned] = {}
    only_in: dict[str, tuple[str, ...]] = {}
    for provider in providers_to_ask(before.values(), reached=sky.in_reach):
        if lists_of(provider) is Lists.ONE_RUN:
            here = [state for state in before.values() if state.opened.provider == provider and not state.over]
            owned |= {f"{provider} of {state.run_id}": _ask_of_run(state, places) for state in here}
        else:
            try:
                only = regions_meant(provider, regions, sky.regions_of)
            except RentuneError as error:
                owned[provider] = Owned(resources=(), complete=Answer.UNKNOWN, message=str(error))
                continue
            owned[provider] = _ask(provider, places, only, sky.make)
            only_in |= {} if only is None else {provider: only}
    met = [region for asked in only_in.values() for region in asked]
    met += [each.region for found in owned.values() for each in found.resources]
    for provider, why in require_met(regions_unmet(regions, met, places), only_in).items():
        owned.setdefault(provider, Owned(resources=(), complete=Answer.UNKNOWN, message=why))
    runs = ledger.runs()
    ended = {run_id for run_id, state in runs.items() if state.over and not (run_id in before and before[run_id].over)}
    owned = {name: _without(found, ended) for name, found in owned.items()}
    if sentence := damage(ledger):
        owned["ledger"] = Owned(resources=(), complete=Answer.UNKNOWN, message=sentence)
    now_s = clocks.wall()
    told_s = now_s - (clock_ahead_s(owned.values()) or 0.0)
    return find_orphans(
        runs,
        owned,
        installation=known_installation(places),
        now_s=now_s,
        hands={
            run_id: hands_of(state, places.run(run_id).lock, now_s=told_s) for run_id, state in runs.items() if not state.over
        },
        elsewhere=in_other_hands(places, by_store, now_s=told_s),
        rules=read_rules(),
        regions=regions,
        only_in=only_in,
    )


def _without(found: Owned, ended: set[str]) -> Owned:
    """What is on a list, but for what is of these runs; a disk that one of them has kept is there still."""
    return msgspec.structs.replace(found, resources=tuple(each for each in found.resources if each.run_id not in ended))


def _ask(provider: str, places: Places, only: tuple[str, ...] | None, make: Callable[..., Provisioner]) -> Owned:
    if only is None:
        return seen(lambda: make(provider, places=places).owned())
    if not only:
        return Owned(resources=(), complete=Answer.YES, asked=False)
    return seen(lambda: make(provider, places=places, regions=only).owned())


def _ask_of_run(state: RunState, places: Places) -> Owned:
    def asked() -> Owned:
        claim = read_claim(places.run(state.run_id), state)
        return provisioner_of_run(claim, places=places).owned(claim)

    return seen(asked)
