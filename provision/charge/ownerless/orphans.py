"""What has no living owner: runs that nobody controls, and resources with our tag of no run that goes on.

An account may be shared. A resource that is in no ledger here may belong to a run that somebody else watches, so it is
a stray only if it was rented from this state folder or is past its own deadline; the rest is somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from catalogs.catalog import Rules
from catalogs.hardware import Billing
from catalogs.user_file import shortened
from provision.account.runs import RunState
from provision.account.upkeep import is_billed, spent, spent_words, upkeep, upkeep_words
from provision.charge.controller import Hands
from provision.charge.ownerless.elsewhere import Elsewhere
from provision.clouds.programs import CLOUDS
from provision.clouds.whose import other_account_words
from provision.providers import KINDS, Lists
from provision.seam import DEADLINE_GRACE_S, Answer, Owned, Resource, clock_trouble

NOBODY: Final[Mapping[str, Elsewhere]] = {}
NO_HANDS: Final[Mapping[str, Hands]] = {}
NO_RULES: Final = Rules()
EVERYWHERE: Final[Mapping[str, tuple[str, ...]]] = {}


class Orphans(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a look. `unseen` names what could not be asked or read, each with its reason."""

    runs: tuple[RunState, ...]  # opened, not over, no living controller
    strays: tuple[tuple[str, Resource], ...]  # provider, resource: ours to end
    over: tuple[str, ...] = ()  # the runs of those that this ledger has, as ended
    others: tuple[tuple[str, Resource], ...]  # with our tag, of a run that is unknown here, and not ours to end unasked
    unseen: dict[str, str]
    seen_at_s: float  # when it was looked, by the providers' clock where one was heard
    ahead_s: float | None = None  # of that clock this machine's; None = no provider told the time
    kept: tuple[tuple[str, Resource], ...] = ()  # what its user wanted to outlive its box: no orphan, and it bills
    elsewhere: tuple[Elsewhere, ...] = ()  # opened here, and in another machine's hands, or perhaps
    controlled: tuple[RunState, ...] = ()  # not ended, and in a living process's hands
    off: tuple[tuple[str, Resource], ...] = ()  # boxes of those runs, and of the others of this ledger, that are switched off
    unasked: tuple[str, ...] = ()  # clouds that this version knows and that can't be asked here: no credentials, or no package
    accounts: dict[str, str] = {}  # by provider, whose it was asked for, where that tells an id
    rules: Rules = NO_RULES
    regions: tuple[str, ...] = ()  # names and patterns of those that were to be looked at; empty = all
    only_in: dict[str, tuple[str, ...]] = {}  # by provider, which of its regions alone were asked for that

    def rule(self, provider: str, resource: Resource) -> Billing | None:
        """How that is billed where it is."""
        return self.rules.of_disk(provider, resource.region, resource.sold_as)

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
    rules: Rules = NO_RULES,
    regions: tuple[str, ...] = (),
    only_in: Mapping[str, tuple[str, ...]] = EVERYWHERE,
) -> Orphans:
    """Compare the ledger with what each provider lists. `installation` is this state folder's id, if it has one; `now_s` this
    machine's clock; `hands` in whose hands its runs are (left out: nobody's), `elsewhere` what stores said of them, `rules`
    how providers bill; `regions` what was to be looked at where that is not all, `only_in` which were asked there for that.

    Whether somebody else's deadline has passed is judged by the providers' clock alone: this machine's may be hours off.
    """
    ahead_s = clock_ahead_s(owned.values())
    told_s = None if ahead_s is None else now_s - ahead_s
    going_on = [state for state in runs.values() if not state.over]
    listed = [(provider, resource) for provider, found in owned.items() for resource in found.resources]
    unclaimed = [(provider, resource) for provider, resource in listed if _is_unclaimed(resource, runs)]
    ours = [
        lists_of(provider) is Lists.THIS_HOME or _is_ours(resource, runs, installation=installation, now_s=told_s)
        for provider, resource in unclaimed
    ]
    strays = tuple(each for each, is_ours in zip(unclaimed, ours, strict=True) if is_ours)
    return Orphans(
        seen_at_s=now_s if told_s is None else told_s,
        ahead_s=ahead_s,
        runs=tuple(
            state
            for state in going_on
            if hands.get(state.run_id, Hands.NOBODY) is Hands.NOBODY and state.run_id not in elsewhere
        ),
        elsewhere=tuple(elsewhere.values()),
        controlled=tuple(state for state in going_on if hands.get(state.run_id) is Hands.HELD),
        strays=strays,
        over=tuple(run_id for run_id in runs if run_id in {each.run_id for _, each in strays}),
        others=tuple(each for each, is_ours in zip(unclaimed, ours, strict=True) if not is_ours),
        kept=tuple((provider, resource) for provider, found in owned.items() for resource in found.kept),
        off=tuple(each for each in listed if each[1].runs is Answer.NO and each not in unclaimed),
        unasked=tuple(name for name, kind in KINDS.items() if kind.lists is Lists.ACCOUNT and name not in owned),
        accounts={provider: found.account for provider, found in owned.items() if found.account is not None},
        rules=rules,
        unseen=_unanswered(owned) | _in_other_accounts(runs, owned),
        regions=regions,
        only_in=dict(only_in),
    )


def _unanswered(owned: Mapping[str, Owned]) -> dict[str, str]:
    lists = owned.items()
    return {name: found.message or "could not be asked" for name, found in lists if found.complete is not Answer.YES}


def _in_other_accounts(runs: Mapping[str, RunState], owned: Mapping[str, Owned]) -> dict[str, str]:
    """Runs that may bill in an account which was not asked, each with what to do."""
    told = {
        run_id: other_account_words(state.provider, run_id, state.rental.account, owned[state.provider].account)
        for run_id, state in runs.items()
        if state.may_bill and state.rental is not None and state.provider in owned
    }
    return {f"run {run_id}": words for run_id, words in told.items() if words is not None}


def clock_ahead_s(owned: Iterable[Owned]) -> float | None:
    """How far this machine's clock is ahead of the providers', negative behind: by whoever has it the earliest, so that nothing
    is ended too soon. None where nobody told.
    """
    return max((found.ahead_s for found in owned if found.ahead_s is not None), default=None)


def clock_sentences(ahead_s: float | None) -> tuple[str, ...]:
    """That this machine's clock is off by more than the grace, and what follows from that; nothing where it is not."""
    trouble = clock_trouble(ahead_s)
    return () if trouble is None else (f"{trouble} Deadlines are judged by theirs; set yours before anything is run.",)


def stray_runs(orphans: Orphans) -> tuple[tuple[str, str], ...]:
    """Run id and provider of every stray that names its run: one that went from cloud to cloud may have left things at each."""
    named = ((each.run_id, provider) for provider, each in orphans.strays if each.run_id is not None and each.names_run)
    return tuple(dict.fromkeys(named))


def nameless_strays(orphans: Orphans) -> tuple[tuple[str, Resource], ...]:
    """The others, with their provider: what they carry as their run is none that can be, so nothing of ours ends them."""
    return tuple((provider, each) for provider, each in orphans.strays if not each.names_run)


def only_run(orphans: Orphans, run_id: str) -> Orphans:
    """Those orphans that are of one run, which the user has named: by that it is his to end, whoever rented it."""
    named = tuple(each for each in orphans.strays + orphans.others if each[1].run_id == run_id)
    runs = tuple(state for state in orphans.runs if state.run_id == run_id)
    kept, off = _of_run(orphans.kept, run_id), _of_run(orphans.off, run_id)
    return msgspec.structs.replace(orphans, runs=runs, strays=named, others=(), kept=kept, elsewhere=(), controlled=(), off=off)


def _of_run(found: tuple[tuple[str, Resource], ...], run_id: str) -> tuple[tuple[str, Resource], ...]:
    return tuple(each for each in found if each[1].run_id == run_id)


def other_sentences(orphans: Orphans) -> tuple[str, ...]:
    """What was seen of somebody else's, and how it is ended all the same; one sentence a resource."""
    return tuple(_other_sentence(provider, resource, orphans) for provider, resource in orphans.others)


def stray_sentences(orphans: Orphans) -> tuple[str, ...]:
    """What was seen of ours that no run goes on with, and what it has cost; one sentence a resource."""
    return tuple(
        f"{provider}: {each.words} {_of_run_words(each)}, "
        f"{'which the ledger has as ended' if each.run_id in orphans.over else 'in no ledger'}{_costs(provider, each, orphans)}"
        f"{'' if each.names_run else f'; {_no_way(provider, each)}'}"
        for provider, each in orphans.strays
    )


def kept_sentences(orphans: Orphans) -> tuple[str, ...]:
    """What bills because somebody has kept it, and how it is ended."""
    return tuple(
        f"{provider}: {each.words} ({each.name}) {_of_run_words(each)} is kept as asked, and bills: "
        f"{upkeep_words(upkeep(each, orphans.rule(provider, each)))}, in {each.region}; "
        f"{_way(provider, each, 'rentune down --volumes')}."
        for provider, each in orphans.kept
    )


def off_sentences(orphans: Orphans) -> tuple[str, ...]:
    """What a box of this ledger costs on that has no power, and is there."""
    return tuple(
        f"{provider}: {each.words} of run {each.run_id}: {upkeep_words(upkeep(each, orphans.rule(provider, each)))}; "
        f"`rentune down {each.run_id}` ends it."
        for provider, each in orphans.off
    )


def unasked_sentences(orphans: Orphans) -> tuple[str, ...]:
    """Where nobody looked: nothing is known to have been rented there from this home, and it can't be asked from here."""
    if not orphans.unasked:
        return ()
    return (f"Not asked, as credentials or packages are missing here (`rentune doctor`): {', '.join(orphans.unasked)}.",)


def nobody_asked(orphans: Orphans) -> bool:
    """Whether no cloud at all could be asked from here: what was seen is of this machine alone."""
    return set(orphans.unasked) >= CLOUDS.keys()


def none_words(orphans: Orphans) -> str:
    """Of a search that found nothing: as much as it has seen."""
    if nobody_asked(orphans):
        return "No orphans on this machine; no cloud was asked."
    return "No orphans where it was asked." if orphans.unasked or orphans.regions else "No orphans."


def account_sentences(orphans: Orphans) -> tuple[str, ...]:
    """Whose accounts were asked: what lies in another one is not seen by it."""
    if not orphans.accounts:
        return ()
    asked = (f"{CLOUDS[name].title}'s {CLOUDS[name].account_is} {account}" for name, account in orphans.accounts.items())
    return (f"Asked by the credentials here: {', '.join(asked)}.",)


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
    billing = orphans.rule(provider, resource)
    so_far = spent(resource, billing, now_s=orphans.seen_at_s)
    return f": {'' if so_far is None else f'{spent_words(so_far)}; '}{upkeep_words(upkeep(resource, billing))}"


def _other_sentence(provider: str, resource: Resource, orphans: Orphans) -> str:
    whose = f"somebody else's ({resource.owner})" if resource.owner else "somebody else's"
    what = f"{resource.words} in {resource.region or 'an unknown region'}"
    said = f"{provider}: {what} is {whose}{_costs(provider, resource, orphans)}; "
    return f"{said}{_way(provider, resource, 'rentune down --orphans')}."


def _of_run_words(resource: Resource) -> str:
    """Whose it is by its tag, whatever that says."""
    return f"of run {resource.run_id or 'unknown'}" if resource.names_run or not resource.run_id else "of no run that can be"


def _way(provider: str, resource: Resource, command: str) -> str:
    """How it is ended: a command holds no text of a tag but a run's id."""
    if resource.names_run:
        return f"`{command} {resource.run_id}` ends it"
    return _no_way(provider, resource)


def _no_way(provider: str, resource: Resource) -> str:
    return f"its tag '{shortened(resource.run_id or '')}' is no run's id, so {by_hand_words(provider)}"


def by_hand_words(provider: str) -> str:
    """Where that is ended which no command here can name."""
    title = CLOUDS[provider].title if provider in CLOUDS else None
    return f"no command here ends it, only the console of {title} does" if title else "it is ended by hand alone"


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
    return state is None or state.over


def _is_ours(resource: Resource, runs: Mapping[str, RunState], *, installation: str | None, now_s: float | None) -> bool:
    """Rented from here, by the ledger or by its tag; or a run's, and living past the deadline that it carries by more than the
    grace, whoever rented it: until then its own controller is at it. `now_s` is the providers'; None = nobody knows it.
    """
    if resource.run_id in runs or (installation is not None and resource.installation == installation):
        return True
    if now_s is None or resource.deadline_at_s is None:
        return False
    return resource.names_run and resource.deadline_at_s + DEADLINE_GRACE_S < now_s
