"""What a cloud itself lists of ours, and the end of it: asked by tag, region by region, never of Pulumi's state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import msgspec

from provision.clouds.patience import Patience
from provision.clouds.programs import Cloud
from provision.errors import RentuneError
from provision.seam import (
    MACHINE,
    Answer,
    Claim,
    InCharge,
    Own,
    Owned,
    Resource,
    ResourceEnd,
    Teardown,
    unshared,
)

PAUSE_S: Final = 5.0  # assumed: between two looks at what does not go away
AT_ONCE: Final = 8  # assumed: regions asked side by side


Key = tuple[str, str]  # kind and id


@dataclass(frozen=True)
class Notes:
    """What one teardown has seen on its way: every resource, and every reason why something did not work."""

    found: dict[Key, Resource] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    listed: set[Key] = field(default_factory=set)  # what the cloud has shown at least once
    gone_at_s: dict[Key, float] = field(default_factory=dict)  # of that: since which look it is not shown any more

    def recorded(self, resources: Iterable[Resource]) -> None:
        """What a state has. Where the cloud has shown it, that tells more."""
        for resource in resources:
            self.found.setdefault((resource.kind, resource.id), resource)

    def look(self, listed: Owned, *, at_s: float) -> None:
        """A listing. What was shown and is not any more has gone by now, unless a later look shows it again."""
        self.found.update(_by_key(listed.resources))
        shown = _by_key(listed.resources).keys()
        for key in shown & self.gone_at_s.keys():
            del self.gone_at_s[key]
        if listed.complete is Answer.YES:
            self.gone_at_s.update(dict.fromkeys(self.listed - shown - self.gone_at_s.keys(), at_s))
        self.listed.update(shown)


@dataclass(frozen=True)
class Inventory:
    """One cloud's lists, and how patient to be with them. Lists lag, so empty means: empty twice, the grace apart."""

    cloud: Cloud
    environment: Mapping[str, str]
    patience: Patience

    def listed(self, regions: tuple[str, ...], tag: str | None) -> Owned:
        """What carries our tag, or that of one run; complete only when every region has answered.

        A cloud's regions share one clock, and an answer that took its time looks like one of ours that is ahead: the least is
        nearest. Several providers have a clock each: `charge.ownerless.orphans.clock_ahead_s` takes the earliest instead.
        """
        with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            answers = list(pool.map(lambda region: self._listed_in(region, tag), regions))
        unseen = [answer.message for answer in answers if answer.complete is not Answer.YES]
        return Owned(
            resources=tuple(resource for answer in answers for resource in answer.resources),
            complete=Answer.UNKNOWN if unseen else Answer.YES,
            message="; ".join(unseen),
            kept=tuple(resource for answer in answers for resource in answer.kept),
            ahead_s=min((answer.ahead_s for answer in answers if answer.ahead_s is not None), default=None),
            asked=any(answer.asked for answer in answers),
        )

    def to_end(self, regions: tuple[str, ...], claim: Claim) -> Owned:
        """What carries the tag of a run, and among what is to end each volume that nothing was put on."""
        listed = self.listed(regions, claim.run_id)
        return with_blank_volumes(listed, claim) if claim.own is None else own_part(listed, claim.own, kept=claim.volumes)

    def told_apart(self, regions: tuple[str, ...], claim: Claim) -> Claim:
        """The claim, with the volumes of a run that has filled one: those of earlier attempts, and the one that a machine has,
        as long as the run's own stands. A further one was made by an order whose answer was lost, and holds nothing.

        Where none is seen in use, all stay.
        """
        if claim.filled is None or claim.volumes is not None:
            return claim
        listed = self.listed(regions, claim.run_id)
        used = frozenset(each.id for each in listed.kept if each.in_use)
        if not used or not any(each.kind == MACHINE for each in listed.resources):
            return claim
        return msgspec.structs.replace(claim, volumes=claim.filled | used)

    def as_shown(self, resources: Iterable[Resource], region: str, run_id: str) -> tuple[Resource, ...]:
        """The same resources, in the cloud's own words where it shows them by now."""
        shown = _by_key(self.listed((region,), run_id).resources)
        return tuple(shown.get((resource.kind, resource.id), resource) for resource in resources)

    def told_s(self, listed: Owned) -> float:
        """Now, by the cloud's own clock where its answer tells that: it bills by no other, and this machine's may be set."""
        return self.patience.clocks.wall() - (listed.ahead_s or 0.0)

    def _listed_in(self, region: str, tag: str | None) -> Owned:
        try:
            return self.cloud.owned(region, tag, self.environment)
        except Exception as error:  # noqa: BLE001 - an answer that can't be read is not an empty one
            message = f"{region}: its answer could not be read ({type(error).__name__}: {error})"
            return Owned(resources=(), complete=Answer.UNKNOWN, message=message)

    def end(self, regions: tuple[str, ...], claim: Claim, notes: Notes, in_charge: InCharge = unshared) -> Owned:
        """End what is listed until two listings, the grace apart, are empty; the last one when patience is over.

        Where there is nobody to ask, that is at once. Raises what `in_charge` raises, before anything more is ended.
        """
        ends_at_s = self.patience.clocks.steady() + self.patience.teardown_s
        was_empty = False
        while True:
            listed = self.to_end(regions, claim)
            notes.look(listed, at_s=self.told_s(listed))
            if (
                not listed.asked
                or (listed.nothing and was_empty)
                or (not listed.nothing and self.patience.clocks.steady() >= ends_at_s)
            ):
                return listed
            was_empty = listed.nothing
            if listed.resources:
                in_charge()
            self._end_each(listed.resources, notes)
            self.patience.clocks.sleep(self.patience.grace_s if listed.nothing else PAUSE_S)

    def _end_each(self, resources: Iterable[Resource], notes: Notes) -> None:
        for resource in resources:
            try:
                self.cloud.destroy_stray(resource, self.environment)
            except RentuneError as error:
                notes.troubles.append(str(error))
            except Exception as error:  # noqa: BLE001 - one that fails must not keep the next from ending
                notes.troubles.append(f"{resource.words}: {type(error).__name__}: {error}")


def verdict_of(provider: str, run_id: str, listed: Owned, notes: Notes, *, at_s: float, seen_before: bool = False) -> Teardown:
    """The teardown that a last listing amounts to: destroyed only if it was complete and empty.

    What is gone is billed until the look that first did not show it any more; what no look ever showed, until `at_s`, unless
    all of it was `seen_before` anything was ended: then it had gone by itself.
    """
    still = {(resource.kind, resource.id) for resource in listed.resources}
    unless_listed = Answer.YES if listed.complete is Answer.YES else Answer.UNKNOWN
    ends = tuple(
        ResourceEnd(
            resource=resource,
            gone=Answer.NO if key in still else unless_listed,
            at_s=notes.gone_at_s.get(key, at_s),
            before=seen_before and key not in notes.listed,
        )
        for key, resource in notes.found.items()
    )
    why = f" ({'; '.join(dict.fromkeys(notes.troubles))})" if notes.troubles else ""
    if still:
        teardown = Teardown.orphaned(run_id, f"{provider} still lists {names_of(listed.resources)}{why}.", resources=ends)
    elif listed.complete is not Answer.YES:
        teardown = Teardown.unknown(
            run_id, f"{provider} could not be asked what is left: {listed.message}{why}.", resources=ends
        )
    else:
        but = f" but {names_of(listed.kept)}, which is kept as asked" if listed.kept else ""
        teardown = Teardown.destroyed(run_id, f"{provider} lists nothing of this run any more{but}.", resources=ends)
    return msgspec.structs.replace(teardown, kept=listed.kept, ahead_s=listed.ahead_s)


def with_blank_volumes(listed: Owned, claim: Claim) -> Owned:
    """A listing in which blank volumes are no longer among what is kept.

    One that a machine has is let go by the run's own machine, which goes first; any other's machine may have put something on
    it, so it stays.
    """
    if claim.volumes is None:
        return listed
    is_ending = any(each.kind == MACHINE for each in listed.resources)
    blank = tuple(each for each in listed.kept if each.id not in claim.volumes and (is_ending or not each.in_use))
    kept = tuple(each for each in listed.kept if each not in blank)
    return msgspec.structs.replace(listed, resources=(*listed.resources, *blank), kept=kept)


def own_part(listed: Owned, own: Own, *, kept: frozenset[str] | None) -> Owned:
    """What one home has ordered of it, and of the volumes only those that its order made: not these of earlier ones (`kept`).

    Such a one is blank. It is to end once no machine has it, where the other home has one of that name as well; else that
    home may be about to use this very one, so it stays, and is named.
    """
    others = {each.name for each in listed.kept if not own.has(each)}
    made = tuple(each for each in listed.kept if own.has(each) and kept is not None and each.id not in kept)
    surplus = tuple(each for each in made if not each.in_use and each.name in others)
    resources = tuple(each for each in listed.resources if own.has(each))
    stays = tuple(each for each in made if each not in surplus)
    return msgspec.structs.replace(listed, resources=(*resources, *surplus), kept=stays)


def _by_key(resources: Iterable[Resource]) -> dict[Key, Resource]:
    return {(resource.kind, resource.id): resource for resource in resources}


def names_of(resources: Iterable[Resource]) -> str:
    """Kind and id of each."""
    return ", ".join(resource.words for resource in resources)
