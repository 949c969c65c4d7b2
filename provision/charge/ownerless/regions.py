"""A look in some regions alone (`--region`): what is asked there, what was not, and what is left alone outside of them.

Only a cloud that is asked region by region is asked for less. One whose list shows the whole account is asked for all of it: to
hide what it shows would save nothing, and might hide what bills.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from catalogs.compiled import read_compiled
from planner.asking.policy import matches
from provision.account.runs import RunState
from provision.charge.ownerless.orphans import Orphans, account_sentences, clock_sentences, unasked_sentences
from provision.clouds.programs import CLOUDS
from provision.errors import BadInput
from provision.home.places import Places
from provision.seam import Resource


class Parted(NamedTuple):
    """What lies in the regions that were named, and a sentence for each thing that does not."""

    within: Orphans
    outside: tuple[str, ...]


def require_one_wish(regions: tuple[str, ...], *, everywhere: bool, orphans: bool) -> None:
    """Raises BadInput where all regions, which is the default and can be said, are asked for beside some of them, or either of
    anything but orphans, and for a region without a name.
    """
    if not all(region.strip() for region in regions):
        raise BadInput("--region names no region.", hint="Name one, such as --region eu-west-1, or leave it out.")
    if regions and everywhere:
        raise BadInput("--all-regions and --region are two things to ask.", hint="Leave one of them out.")
    if (regions or everywhere) and not orphans:
        option = "--region" if regions else "--all-regions"
        raise BadInput(f"{option} is about orphans: a run knows where it is.", hint=f"Add --orphans, or leave {option} out.")


def asked_by_region() -> tuple[str, ...]:
    """The clouds whose lists show one region each."""
    return tuple(name for name, cloud in CLOUDS.items() if not cloud.one_look)


def regions_meant(
    provider: str, patterns: tuple[str, ...], regions_of: Callable[[str], Iterable[str]]
) -> tuple[str, ...] | None:
    """The account's regions there (`regions_of`) that these names and patterns mean, perhaps none; None where the whole
    account is asked: where no pattern is given, or one list shows it. Raises RentuneError where the cloud can't be asked.
    """
    if not patterns or provider not in asked_by_region():
        return None
    return tuple(region for region in regions_of(provider) if matches(region, patterns))


def regions_unmet(patterns: tuple[str, ...], met: Iterable[str], places: Places) -> tuple[str, ...]:
    """The patterns that mean neither a region which was met nor one of the price list."""
    if not patterns:
        return ()
    sold = (offer.region for offer in read_compiled(places.catalog).offers if offer.provider in CLOUDS)
    known = {*met, *sold}
    return tuple(pattern for pattern in patterns if not any(matches(region, (pattern,)) for region in known))


def require_met(unmet: tuple[str, ...], answered: Iterable[str]) -> dict[str, str]:
    """Which clouds may have those regions all the same, each with why that is not known: those that are asked by region and
    have not `answered`. Raises BadInput where all have: a slip of the pen would look nowhere, and find nothing.
    """
    silent = [name for name in asked_by_region() if name not in set(answered)] if unmet else []
    if unmet and not silent:
        raise BadInput(f"No cloud that this version rents from has a region {unmet[0]!r}.", hint="rentune catalog list")
    asked = f"whether it has a region {', '.join(unmet)} can't be asked"
    why = f"{asked}: credentials or packages are missing here (`rentune doctor`)"
    return dict.fromkeys(silent, why)


def limit_sentences(found: Orphans) -> tuple[str, ...]:
    """What to know of a look beside what it found: whose accounts and which regions were asked, who was not, by whose clock."""
    return (
        *account_sentences(found),
        *region_sentences(found),
        *unasked_sentences(found),
        *clock_sentences(found.ahead_s),
    )


def region_sentences(found: Orphans) -> tuple[str, ...]:
    """Where was looked, and where not; nothing where all was asked."""
    if not found.regions:
        return ()
    told = [_only_words(provider, only, found.regions) for provider, only in found.only_in.items()]
    whole = [name for name in CLOUDS if name not in found.only_in and name not in found.unasked and name not in found.unseen]
    if whole:
        told.append(f"Asked for all regions, which one list shows: {', '.join(whole)}.")
    return tuple(told)


def _only_words(provider: str, only: tuple[str, ...], patterns: tuple[str, ...]) -> str:
    if not only:
        return f"Not asked, as it has no region {', '.join(patterns)}: {provider}."
    return f"At {provider} only {', '.join(only)} was looked at; `rentune ls --orphans` looks at every region."


def parted(found: Orphans) -> Parted:
    """Of what is to be ended that which lies in the regions that were named. A run with anything there is ended whole."""
    if not found.regions:
        return Parted(found, ())
    there = {each.run_id for _, each in found.strays if each.names_run and matches(each.region, found.regions)}
    strays = tuple(each for each in found.strays if each[1].run_id in there or matches(each[1].region, found.regions))
    runs = tuple(state for state in found.runs if matches(_region_of(state), found.regions))
    outside = (
        *_stray_sentences(each for each in found.strays if each not in strays),
        *_run_sentences(state for state in found.runs if state not in runs),
    )
    return Parted(msgspec.structs.replace(found, strays=strays, runs=runs), outside)


def _region_of(state: RunState) -> str:
    return state.rental.offer.region if state.rental is not None else ""


def _stray_sentences(strays: Iterable[tuple[str, Resource]]) -> Iterable[str]:
    for provider, each in strays:
        where = f"in {each.region}" if each.region else "in no region that is told"
        yield f"{provider}: {each.words} {where} lies outside of --region and is left alone; `rentune down --orphans` ends it."


def _run_sentences(states: Iterable[RunState]) -> Iterable[str]:
    for state in states:
        where = f"{state.provider} {_region_of(state)}".strip()
        outside = f"Run {state.run_id} ({where}) lies outside of --region and is left alone"
        yield f"{outside}; to end it: rentune down {state.run_id}."
