"""A run, folded from its ledger's lines: where it stands, what was rented for it, and since when that bills.

How far a trainer came, and why it ended, its run's directory tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any, Final, TypeVar

import msgspec

from catalogs.hardware import ANYWHERE, Billing, Offer
from planner.asking.request import OWN_MACHINES
from planner.estimators.cost import UNBILLED_PHASES
from provision.account.lines import (
    AnyLine,
    Attempted,
    Billed,
    Controlled,
    Created,
    Ended,
    Late,
    Opened,
    PhaseEnded,
    PhaseStarted,
    Sent,
    Tried,
)
from provision.seam import CLOCK_ERROR_S, VOLUME, Answer, Box, Ends, Resource, Teardown
from remote.contract import Phase

LineT = TypeVar("LineT")
Place = tuple[int, int, bytes]
FIRST: Final = (0, 0, b"")  # derived: of a line without a number, as no place is before it


class Rental(msgspec.Struct, frozen=True, kw_only=True):
    """One stretch of time for which a box of this run may have been billed, from an attempt to its clean teardown."""

    offer: Offer
    billing: Billing
    disk_gib: int
    volume_gib: int = 0
    account: str | None = None  # whose it was rented in; None = not known
    asked_at_s: float
    started_at_s: float  # from when it is billed: when its provider made it, where that tells, else when it was asked for
    up_at_s: float | None = None  # when the provider said that the box runs; None = it never did
    ended_at_s: float | None = None  # None = not known to have ended
    late_until_s: float | None = None  # until when a box of it billed that came when another machine had the run
    off_at_s: float | None = None  # from when its machine was off, where that ends the bill for it; None = it was not
    off_gib: int | None = None  # of its disk, what its provider showed to be billed then; None = it showed none, so all of it
    shown: bool = False  # whether its end named something that bills
    tried: Tried | None = None  # why it came to nothing, where another attempt may follow
    phase_s: dict[str, float] = {}  # by the controller's clock, of what it did on this box
    furnished: bool = False  # whether the trainer's environment was built on it: before that nothing is on a volume of its own
    sent_bytes: int = 0  # of checkpoints that left it, for home or for object storage
    pushed: frozenset[int] = frozenset()  # the trainer's events that told of the latter, by their numbers

    @property
    def created(self) -> bool:
        """Whether the provider said that the box runs."""
        return self.up_at_s is not None

    @property
    def busy_s(self) -> float:
        """Seconds on the bill in which the controller did something. Until a box runs it is billed from its beginning only: a
        plan knows of none, and leaves all of that phase out.
        """
        return self.making_s + sum(seconds for phase, seconds in self.phase_s.items() if phase not in UNBILLED_PHASES)

    @property
    def making_s(self) -> float:
        """Seconds on the bill before the provider said that the box runs."""
        took_s = self.phase_s.get(Phase.CREATE)
        if self.up_at_s is None:
            return took_s or 0.0
        told_s = max(0.0, self.up_at_s - self.started_at_s)  # by two clocks
        return told_s if took_s is None else min(told_s, took_s)

    @property
    def bought(self) -> bool:
        """Whether it is billed. Not where the provider's answer was heard, and neither it nor the end showed a box."""
        answered = Phase.CREATE.value in self.phase_s
        return self.created or self.shown or self.ended_at_s is None or not answered


class Standing(StrEnum):
    """Where a run stands towards what bills."""

    OPENED = "opened"  # no box was asked for yet
    ASKED = "asked"  # one was asked for, and may be there
    UP = "up"  # one runs, as far as anybody has seen
    BETWEEN = "between"  # the last attempt came to nothing and left nothing; another may follow
    OVER = "over"  # nothing of it can bill any more


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """One run, folded from its lines in their order."""

    run_id: str
    opened: Opened
    controlled: Controlled | None = None
    box: Box | None = None
    phase: str | None = None  # the one that the controller entered last
    phase_s: dict[str, float] = {}  # by the controller's clock, restarts added up
    rentals: tuple[Rental, ...] = ()
    deadline_at_s: float
    more_time: str | None = None  # what would have moved it; None = no box was asked for yet, and in older ledgers
    teardown: Teardown | None = None
    billed: Billed | None = None
    goes_on: bool = False  # whether another attempt may follow the last one
    volumes: dict[str, Resource] = {}  # by id: every disk of its boxes that was to outlive them
    volumes_ended: frozenset[str] = frozenset()  # those of them that somebody has ended since
    fetched: bool = False  # whether a controller, on whatever machine, has brought home all that the last box had

    @property
    def kept(self) -> tuple[Resource, ...]:
        """The disks that its user keeps, of whichever attempt: they bill by the month."""
        return tuple(volume for id, volume in self.volumes.items() if id not in self.volumes_ended)

    @property
    def used_volumes(self) -> frozenset[str] | None:
        """By id, those of this run that are worth keeping; None where all of them may be.

        An attempt that put nothing on its box has put nothing on a volume that it made: not even a file system may be there,
        and no later box makes one on what it finds.
        """
        if self.rental is None or self.rental.furnished:
            return None
        return frozenset(each.id for each in self.kept)

    @property
    def filled_volumes(self) -> frozenset[str] | None:
        """By id, those of earlier attempts, where the last one has put something on a volume as well: on the one that its
        machine has. None where it has not, or had none.
        """
        rental = self.rental
        if rental is None or not rental.furnished or not rental.volume_gib:
            return None
        return frozenset(each.id for each in self.kept)

    @property
    def rental(self) -> Rental | None:
        """The last one; None where no box was asked for yet."""
        return self.rentals[-1] if self.rentals else None

    @property
    def provider(self) -> str:
        """Who has the box, or was asked for it last."""
        return self.rental.offer.provider if self.rental else self.opened.provider

    @property
    def assumed(self) -> bool:
        """Whether its dollars are those of a price that was made up: a machine of one's own has no other."""
        return self.provider in OWN_MACHINES

    @property
    def ends(self) -> Ends:
        """When its box is to end."""
        return Ends(deadline_at_s=self.deadline_at_s, lease_s=self.opened.lease_s)

    @property
    def over(self) -> bool:
        """Whether nothing of it can bill any more, as far as anyone has seen, and nothing follows."""
        return self.standing is Standing.OVER

    @property
    def may_bill(self) -> bool:
        """Whether a box was asked for, and nobody has seen it gone."""
        return self.standing in (Standing.ASKED, Standing.UP)

    @property
    def standing(self) -> Standing:
        """The one truth of where it stands: between two attempts nothing bills, and the run goes on all the same."""
        if self.rental is None:
            return Standing.OVER if self.teardown is not None and self.teardown.clean else Standing.OPENED
        if self.rental.ended_at_s is None:
            return Standing.ASKED if self.box is None else Standing.UP
        return Standing.BETWEEN if self.goes_on else Standing.OVER


def kept_at(runs: Iterable[RunState], name: str) -> tuple[tuple[str, str], ...]:
    """Provider and region of every volume of that name that some run of these keeps."""
    places = ((_renter(state, each), each.region) for state in runs for each in state.kept if each.name == name)
    return tuple(dict.fromkeys(places))


def _renter(state: RunState, volume: Resource) -> str:
    """Who has a volume of a run, which may have gone on to another provider since."""
    there = (each.offer.provider for each in state.rentals if each.offer.region in (volume.region, ANYWHERE))
    return next(there, state.provider)


class Folding(msgspec.Struct, frozen=True):
    """Runs as far as their lines are known, and the places of these."""

    states: dict[str, RunState] = {}  # by id, in the order in which they were opened
    opened: dict[str, Place] = {}  # of the line that opened it
    last: dict[str, Place] = {}  # of the last of its lines


def fold(lines: Iterable[AnyLine]) -> dict[str, RunState]:
    """Runs by id, in the order in which they were opened: the same from the same lines, however the homes have them sorted."""
    return _folded(Folding(), sorted(lines, key=_place)).states


def fold_on(folding: Folding, lines: Sequence[AnyLine]) -> Folding | None:
    """With these lines as well; None where one belongs before one of its run that was folded: then all are folded anew."""
    if any(_place(line) < folding.last.get(line.run_id, FIRST) for line in lines):
        return None
    return _folded(folding, sorted(lines, key=_place))


def _folded(folding: Folding, lines: Iterable[AnyLine]) -> Folding:
    """With these lines as well, each behind those of its run."""
    states, opened, last = dict(folding.states), dict(folding.opened), dict(folding.last)
    for line in lines:
        place = last[line.run_id] = _place(line)
        if isinstance(line, Opened):
            states.setdefault(line.run_id, RunState(run_id=line.run_id, opened=line, deadline_at_s=line.deadline_at_s))
            opened.setdefault(line.run_id, place)
        elif state := states.get(line.run_id):
            states[line.run_id] = msgspec.structs.replace(state, **_changes(state, line))
    if len(opened) > len(folding.opened):
        states = {run_id: states[run_id] for run_id in sorted(states, key=opened.__getitem__)}
    return Folding(states, opened, last)


def _place(line: AnyLine) -> Place:
    """Where a line stands among its run's. One that was written by a machine which was overtaken, and came through late, is
    before those of the next that took charge. Lines without a number stand as they were written.
    """
    return line.taking, line.number, msgspec.json.encode(line) if line.number else b""


def _changes(state: RunState, line: AnyLine) -> dict[str, Any]:
    match line:
        case Controlled():
            return {"controlled": line, "billed": None}  # its books are open again
        case Attempted():
            asked = Rental(
                offer=line.offer,
                billing=line.billing,
                disk_gib=line.disk_gib,
                volume_gib=line.volume_gib,
                account=line.account,
                asked_at_s=line.at_s,
                started_at_s=line.at_s,
            )
            rentals = (*state.rentals, asked)
            fresh = {"box": None, "teardown": None, "goes_on": False, "fetched": False}
            return fresh | {"rentals": rentals, "deadline_at_s": line.deadline_at_s, "more_time": line.more_time}
        case PhaseStarted():
            return {"phase": line.phase}
        case Created():
            return {"box": line.box, "rentals": _with_last(state.rentals, _with_box, line)}
        case PhaseEnded():
            rentals = _with_last(state.rentals, _with_phase, line)
            fetched = state.fetched or (line.ok and line.phase == Phase.FETCH)
            return {"phase_s": _longer(state.phase_s, line), "rentals": rentals, "fetched": fetched}
        case Sent():
            return {"rentals": _with_last(state.rentals, _with_sent, line)}
        case Late():
            return {"rentals": tuple(_with_late(rental, line) for rental in state.rentals)}
        case Ended():
            ended = {"teardown": line.teardown, "rentals": _after_end(state, line), "goes_on": False}
            return ended | _volumes_after(state, line.teardown)
        case Tried():
            return {"rentals": _with_last(state.rentals, _with_reason, line), "goes_on": True}
        case Billed():
            return {"billed": line}
        case _:
            return {}


def _longer(phase_s: dict[str, float], line: PhaseEnded) -> dict[str, float]:
    return phase_s | {line.phase: phase_s.get(line.phase, 0.0) + line.duration_s}


def _with_last(rentals: tuple[Rental, ...], change: Callable[[Rental, LineT], Rental], line: LineT) -> tuple[Rental, ...]:
    """A line of a rental is of the last one: the one before ended cleanly before another was asked for."""
    return (*rentals[:-1], change(rentals[-1], line)) if rentals else ()


def _with_box(rental: Rental, line: Created) -> Rental:
    if rental.created:
        return rental  # the same box with another host key
    since_s = _made_at_s(line.box.resources, rental, line.at_s)
    return msgspec.structs.replace(rental, started_at_s=since_s or rental.started_at_s, up_at_s=line.at_s)


def _made_at_s(resources: Iterable[Resource], rental: Rental, until_s: float) -> float | None:
    """When the first of what bills was made, by the provider's own word and clock; None where it does not tell of all that.

    Nothing was made before it was asked for, and what it says to have made after the box ran is no word of that: of one that
    was started again its cloud tells that start alone. Its clock is not ours, but nothing is ordered where they differ by more
    than the grace.
    """
    from_s, until_s = rental.asked_at_s - CLOCK_ERROR_S, until_s + CLOCK_ERROR_S
    told = [each.since_s for each in resources if each.bills_as_box]
    if not told or not all(since_s is not None and from_s <= since_s <= until_s for since_s in told):
        return None
    return min(filter(None, told))


def _with_phase(rental: Rental, line: PhaseEnded) -> Rental:
    furnished = rental.furnished or (line.ok and line.phase == Phase.ENVIRONMENT)
    return msgspec.structs.replace(rental, phase_s=_longer(rental.phase_s, line), furnished=furnished)


def _with_sent(rental: Rental, line: Sent) -> Rental:
    """What is told of twice, by two controllers or by the box, has left once."""
    if line.seq is not None and line.seq in rental.pushed:
        return rental
    pushed = rental.pushed if line.seq is None else rental.pushed | {line.seq}
    return msgspec.structs.replace(rental, sent_bytes=rental.sent_bytes + line.num_bytes, pushed=pushed)


def _with_late(rental: Rental, line: Late) -> Rental:
    if (rental.offer.key, rental.asked_at_s) != (line.offer, line.asked_at_s):
        return rental
    until_s, from_s = max(rental.late_until_s or line.until_s, line.until_s), line.from_s or rental.started_at_s
    return msgspec.structs.replace(rental, late_until_s=until_s, started_at_s=from_s, shown=True)


def _after_end(state: RunState, line: Ended) -> tuple[Rental, ...]:
    """A clean verdict ends whatever has not ended; one that takes it back opens the last rental again."""
    if line.teardown.clean:
        deadline_at_s = state.deadline_at_s
        ended_at_s = _stopped_billing_s(line, deadline_at_s=deadline_at_s)
        return tuple(_with_end(rental, line, ended_at_s, deadline_at_s=deadline_at_s) for rental in state.rentals)
    return _with_last(state.rentals, lambda rental, _: msgspec.structs.replace(rental, ended_at_s=None), line)


def _with_end(rental: Rental, line: Ended, ended_at_s: float, *, deadline_at_s: float) -> Rental:
    if rental.ended_at_s is not None:
        return rental
    ends = [end.resource for end in line.teardown.resources]
    since_s = _made_at_s(ends, rental, rental.up_at_s or line.at_s)
    shown = any(each.bills_as_box for each in ends)
    return msgspec.structs.replace(
        rental,
        started_at_s=since_s or rental.started_at_s,
        ended_at_s=ended_at_s,
        off_at_s=_off_at_s(line, deadline_at_s=deadline_at_s) if rental.billing.stopped_compute_bills is False else None,
        off_gib=_off_gib(line),
        shown=shown,
    )


def _off_at_s(line: Ended, *, deadline_at_s: float) -> float | None:
    """From when the machine was off that whoever ended it found so: as its provider tells, else by its deadline at the latest,
    as nothing but that switches it off.
    """
    off = [end for end in line.teardown.resources if end.resource.runs is Answer.NO]
    told_s = (end.resource.off_since_s or min(end.at_s - (line.teardown.ahead_s or 0.0), deadline_at_s) for end in off)
    return max(told_s, default=None)


def _off_gib(line: Ended) -> int | None:
    off = [end.resource.off_gib for end in line.teardown.resources if end.resource.runs is Answer.NO]
    return None if None in off or not off else sum(filter(None, off))


def _volumes_after(state: RunState, teardown: Teardown) -> dict[str, Any]:
    """In whatever order two homes have the lines: a disk that was ended is gone for good."""
    gone = {each.resource.id for each in teardown.resources if each.gone is Answer.YES and each.resource.kind == VOLUME}
    kept = {volume.id: volume for volume in teardown.kept}
    return {"volumes": state.volumes | kept, "volumes_ended": state.volumes_ended | gone}


def _with_reason(rental: Rental, line: Tried) -> Rental:
    return msgspec.structs.replace(rental, tried=line)


def _stopped_billing_s(line: Ended, *, deadline_at_s: float) -> float:
    """When the last of what bills had gone: at the end, or earlier where a deadline came before whoever looked.

    A box that nobody here ever saw, and that is not there, was gone by its deadline at the latest.
    """
    unseen_at_s = min(line.at_s - (line.teardown.ahead_s or 0.0), deadline_at_s)
    return max((end.at_s for end in line.teardown.resources if end.resource.bills_as_box), default=unseen_at_s)
