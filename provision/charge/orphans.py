"""What has no living owner: runs that nobody controls, and resources with our tag that are in no ledger.

An account may be shared. A resource that is in no ledger here may belong to a run that somebody else watches, so it is
a stray only if it was rented from this state folder or is past its own deadline; the rest is somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from catalogs.hardware import Billing
from provision.account.runs import RunState
from provision.account.upkeep import is_billed, spent, spent_words, upkeep, upkeep_words
from provision.charge.controller import Hands
from provision.charge.elsewhere import Elsewhere
from provision.providers import KINDS, Lists
from provision.provisioner import Answer, Owned, Resource

NOBODY: Final[Mapping[str, Elsewhere]] = {}
NO_HANDS: Final[Mapping[str, Hands]] = {}
NO_RULES: Final[Mapping[str, Billing]] = {}


class Orphans(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a look. `unseen` names what could not be asked or read, each with its reason."""

    runs: tuple[RunState, ...]  # opened, not ended, no living controller
    strays: tuple[tuple[str, Resource], ...]  # provider, resource: ours to end
    others: tuple[tuple[str, Resource], ...]  # with our tag, of a run that is unknown here, and not ours to end unasked
    unseen: dict[str, str]
    seen_at_s: float  # when it was looked
    kept: tuple[tuple[str, Resource], ...] = ()  # what its user wanted to outlive its box: no orphan, and it bills
    elsewhere: tuple[Elsewhere, ...] = ()  # opened here, and in another machine's hands, or perhaps
    controlled: tuple[RunState, ...] = ()  # not ended, and in a living process's hands
    off: tuple[tuple[str, Resource], ...] = ()  # boxes of those runs, and of the others of this ledger, that are switched off
    unasked: tuple[str, ...] = ()  # clouds that this version knows and that can't be asked here: no credentials, or no package
    billing: dict[str, Billing] = {}  # by provider, of those that bill otherwise while a machine is off

    @property
    def nothing(self) -> bool:
        return not self.runs and not self.strays and not self.unseen


def find_orphans(
    runs: Mapping[str, RunState],
    owned: Mapping[str, Owned],
    *,
    installation: str | None,
    now_s: float,
    hands: Mapping[str, Hands] = NO_HANDS,
    elsewhere: Mapping[str, Elsewhere] = NOBODY,
    billing: Mapping[str, Billing] = NO_RULES,
) -> Orphans:
    """Compare the ledger with what each provider lists. `installation` is this state folder's id, if it has one; `hands` in
    whose hands its runs are (left out: nobody's), `elsewhere` what stores said of them, `billing` how providers bill.
    """
    going_on = [state for state in runs.values() if not state.ended]
    unclaimed = [
        (provider, resource)
        for provider, found in owned.items()
        for resource in found.resources
        if _is_unclaimed(resource, runs)
    ]
    ours = [
        lists_of(provider) is Lists.THIS_HOME or _is_ours(resource, runs, installation=installation, now_s=now_s)
        for provider, resource in unclaimed
    ]
    return Orphans(
        seen_at_s=now_s,
        runs=tuple(
            state
            for state in going_on
            if hands.get(state.run_id, Hands.NOBODY) is Hands.NOBODY and state.run_id not in elsewhere
        ),
        elsewhere=tuple(elsewhere.values()),
        controlled=tuple(state for state in going_on if hands.get(state.run_id) is Hands.HELD),
        strays=tuple(each for each, is_ours in zip(unclaimed, ours, strict=True) if is_ours),
        others=tuple(each for each, is_ours in zip(unclaimed, ours, strict=True) if not is_ours),
        kept=tuple((provider, resource) for provider, found in owned.items() for resource in found.kept),
        off=tuple(
            (provider, resource)
            for provider, found in owned.items()
            for resource in found.resources
            if resource.runs is Answer.NO and not _is_unclaimed(resource, runs)
        ),
        unasked=tuple(name for name, kind in KINDS.items() if kind.lists is Lists.ACCOUNT and name not in owned),
        billing={provider: billing[provider] for provider in owned if provider in billing},
        unseen={
            provider: found.message or "could not be asked"
            for provider, found in owned.items()
            if found.complete is not Answer.YES
        },
    )


def stray_runs(orphans: Orphans) -> tuple[tuple[str, str], ...]:
    """Run id and provider of every stray that names its run: one that went from cloud to cloud may have left things at each."""
    return tuple(
        dict.fromkeys((resource.run_id, provider) for provider, resource in orphans.strays if resource.run_id is not None)
    )


def only_run(orphans: Orphans, run_id: str) -> Orphans:
    """The same of one run that the user has named: by that it is his to end, whoever rented it."""
    named = tuple(each for each in orphans.strays + orphans.others if each[1].run_id == run_id)
    runs = tuple(state for state in orphans.runs if state.run_id == run_id)
    return msgspec.structs.replace(
        orphans, runs=runs, strays=named, others=(), kept=(), elsewhere=(), controlled=(), off=_of_run(orphans.off, run_id)
    )


def _of_run(found: tuple[tuple[str, Resource], ...], run_id: str) -> tuple[tuple[str, Resource], ...]:
    return tuple(each for each in found if each[1].run_id == run_id)


def other_sentences(orphans: Orphans) -> tuple[str, ...]:
    """What was seen of somebody else's, and how it is ended all the same; one sentence a resource."""
    return tuple(_other_sentence(provider, resource, orphans) for provider, resource in orphans.others)


def stray_sentences(orphans: Orphans) -> tuple[str, ...]:
    """What was seen of ours that is in no ledger, and what it has cost; one sentence a resource."""
    return tuple(
        f"{provider}: {each.kind} {each.id} of run {each.run_id or 'unknown'}, in no ledger{_costs(provider, each, orphans)}"
        for provider, each in orphans.strays
    )


def kept_sentences(orphans: Orphans) -> tuple[str, ...]:
    """What bills because somebody has kept it, and how it is ended."""
    return tuple(
        f"{provider}: {each.kind} {each.id} ({each.name}) of run {each.run_id} is kept as asked, and bills: "
        f"{upkeep_words(upkeep(each, orphans.billing.get(provider)))}, in {each.region}; "
        f"`rentune down --volumes {each.run_id}` ends it."
        for provider, each in orphans.kept
    )


def off_sentences(orphans: Orphans) -> tuple[str, ...]:
    """What a box of this ledger costs on that has no power, and is there."""
    return tuple(
        f"{provider}: {each.kind} {each.id} of run {each.run_id}: {upkeep_words(upkeep(each, orphans.billing.get(provider)))}; "
        f"`rentune down {each.run_id}` ends it."
        for provider, each in orphans.off
    )


def unasked_sentences(orphans: Orphans) -> tuple[str, ...]:
    """Where nobody looked: nothing is known to have been rented there from this home, and it can't be asked from here."""
    if not orphans.unasked:
        return ()
    return (f"Not asked, as credentials or packages are missing here (`rentune doctor`): {', '.join(orphans.unasked)}.",)


def elsewhere_sentences(orphans: Orphans) -> tuple[str, ...]:
    """What is left alone because another machine has it, or because its store alone knows who has; one sentence a run."""
    return tuple(each.sentence for each in orphans.elsewhere)


def controlled_sentences(orphans: Orphans) -> tuple[str, ...]:
    """What is left alone because a process holds it, and how it is ended all the same."""
    by_pid: dict[int, list[str]] = {}
    for state in orphans.controlled:
        if state.controlled is not None:
            by_pid.setdefault(state.controlled.pid, []).append(state.run_id)
    return tuple(
        f"{len(run_ids)} {'run is' if len(run_ids) == 1 else 'runs are'} controlled by process {pid} and left alone; "
        f"to end {'it' if len(run_ids) == 1 else 'one'}: {', '.join(f'rentune down {run_id}' for run_id in run_ids)}."
        for pid, run_ids in by_pid.items()
    )


def _costs(provider: str, resource: Resource, orphans: Orphans) -> str:
    """So far and from now on, of what has a bill of its own; by its tags: whoever rented it may have no ledger any more."""
    if not is_billed(resource):
        return ""
    billing = orphans.billing.get(provider)
    so_far = spent(resource, billing, now_s=orphans.seen_at_s)
    return f": {'' if so_far is None else f'{spent_words(so_far)}; '}{upkeep_words(upkeep(resource, billing))}"


def _other_sentence(provider: str, resource: Resource, orphans: Orphans) -> str:
    whose = f"somebody else's ({resource.owner})" if resource.owner else "somebody else's"
    way = f"`rentune down --orphans {resource.run_id}` ends it" if resource.run_id else f"only {provider} itself can end it"
    what = f"{resource.kind} {resource.id} in {resource.region or 'an unknown region'}"
    return f"{provider}: {what} is {whose}{_costs(provider, resource, orphans)}; {way}."


def providers_to_ask(runs: Iterable[RunState], *, reached: Iterable[str] = ()) -> tuple[str, ...]:
    """Who is asked always, whoever a run of this ledger was opened at or went on to, and whoever is reached from here: what
    was rented from another computer is found by its tag alone.
    """
    always = (name for name, kind in KINDS.items() if kind.lists is Lists.THIS_HOME)
    at = (provider for state in runs for provider in (state.opened.provider, *(each.offer.provider for each in state.rentals)))
    return tuple(dict.fromkeys((*always, *at, *reached)))


def lists_of(provider: str) -> Lists:
    """What it shows; of one that this version does not know, the least that can be taken for granted."""
    return KINDS[provider].lists if provider in KINDS else Lists.ACCOUNT


def _is_unclaimed(resource: Resource, runs: Mapping[str, RunState]) -> bool:
    state = runs.get(resource.run_id or "")
    return state is None or state.ended


def _is_ours(resource: Resource, runs: Mapping[str, RunState], *, installation: str | None, now_s: float) -> bool:
    """Rented from here, by the ledger or by its tag; or living past the deadline that it carries, whoever rented it."""
    if resource.run_id in runs or (installation is not None and resource.installation == installation):
        return True
    return resource.deadline_at_s is not None and resource.deadline_at_s < now_s
