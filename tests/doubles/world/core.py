"""The account at a cloud: what it holds, what that has cost, and everything that can go wrong with it.

Nothing here knows a vendor, HTTP or a real machine. Time is a clock's, which a test may advance.
"""

from __future__ import annotations

import datetime as dt
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, Literal

import msgspec

from provision.clouds.programs.order import PowerOff

TOKEN: Final = "a-secret-of-the-account"
MACHINE: Final = "machine"
S_PER_HOUR: Final = 3600
FIRST_ID: Final = 1001

Verb = Literal["create", "read", "list", "change", "delete"]


class Reason(StrEnum):
    """Why a cloud says no; each dialect has its own words for it."""

    ABSENT = "there is no such thing"
    BROKEN = "the cloud itself is not well"
    IN_USE = "something still uses it"
    INVALID = "what was asked makes no sense"
    LOCKED = "something else is being done with it"
    NO_CAPACITY = "none of this type is left"
    QUOTA = "the account may have no more"
    TAKEN = "there is one already"
    THROTTLED = "too many requests"
    NOT_ALLOWED = "the token may not do that"
    UNKNOWN_CALLER = "the token is not known"


class Declined(Exception):
    """The cloud's no."""

    def __init__(self, reason: Reason, text: str = "") -> None:
        super().__init__(text or str(reason))
        self.reason = reason


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What shall go wrong, as often as `times` says. With `after` it is done all the same, and only the answer is no."""

    verb: Verb
    reason: Reason
    kind: str | None = None  # None: of whatever kind
    times: int = 1
    after: bool = False


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The manners of this cloud."""

    power_off: PowerOff
    token: str = TOKEN  # who has another is not known: one that expires is replaced by a new one
    account: str = "account-1"  # as a caller is told
    scopes: tuple[str, ...] | None = None  # what it may do, in the words of the dialect; None: everything
    list_lag_s: float = 0.0  # a list shows what was so long ago
    boot_s: float = 0.0  # from the order until the machine runs
    delete_s: float = 0.0  # from the yes to a delete until it is gone, and billed no more
    quota: int | None = None  # machines at the same time
    capacity: dict[str, int] = {}  # machines of a type at the same time; a type that is not named has no end
    prices: dict[str, Decimal] = {}  # dollars per hour of a type, from now on, in place of the list's


class Clock:
    """Seconds since the epoch: the wall's, or one that stands still; either can be advanced."""

    def __init__(self, base: Callable[[], float] = time.time) -> None:
        self.base = base
        self.advanced_s = 0.0

    def now_s(self) -> float:
        return self.base() + self.advanced_s

    def advance(self, duration_s: float) -> None:
        self.advanced_s += duration_s


@dataclass
class Thing:
    """One thing that the account holds, or held."""

    kind: str
    id: int
    name: str
    created_at_s: float
    usd_per_hour: Decimal
    address: str = ""
    off_at_s: float | None = None  # since when it has no power
    off_usd_per_hour: Decimal | None = None  # what it costs without; None: as with
    ends_at_s: float | None = None  # from then on it is gone, and costs nothing
    details: dict[str, Any] = field(default_factory=dict)  # what a dialect keeps of it

    @property
    def created(self) -> str:
        """As APIs write it."""
        return dt.datetime.fromtimestamp(self.created_at_s, dt.UTC).isoformat(timespec="seconds")

    def stands(self, at_s: float) -> bool:
        return self.created_at_s <= at_s and (self.ends_at_s is None or at_s < self.ends_at_s)

    @property
    def off(self) -> bool:
        return self.off_at_s is not None

    def usd(self, now_s: float) -> Decimal:
        """What it has cost so far, to the second and unrounded."""
        until_s = now_s if self.ends_at_s is None else min(now_s, self.ends_at_s)
        ran_until_s = until_s if self.off_at_s is None else min(until_s, self.off_at_s)
        off_usd_per_hour = self.usd_per_hour if self.off_usd_per_hour is None else self.off_usd_per_hour
        ran_s, off_s = (Decimal(max(each, 0.0)) for each in (ran_until_s - self.created_at_s, until_s - ran_until_s))
        return (self.usd_per_hour * ran_s + off_usd_per_hour * off_s) / S_PER_HOUR


class World:
    """One account. Every deed raises Declined where the cloud says no."""

    def __init__(self, settings: Settings, clock: Clock, addresses: Iterator[str]) -> None:
        self.settings = self.manners = settings
        self.clock = clock
        self.addresses = addresses
        self.outside = ""  # the address at which whatever stands behind a machine reaches this computer
        self.ids = itertools.count(FIRST_ID)  # never twice, not after a reset either: machines are called by them
        self.things: list[Thing] = []
        self.faults: list[Fault] = []

    def reset(self) -> None:
        """A new account, and the time that it was."""
        self.settings = self.manners
        self.clock.advanced_s = 0.0
        self.things.clear()
        self.faults.clear()

    # ── what a customer may do ─────────────────────────────────────────────────────────────────────────────────────

    def create(
        self,
        kind: str,
        name: str,
        details: dict[str, Any],
        *,
        usd_per_hour: Decimal = Decimal(0),
        off_usd_per_hour: Decimal | None = None,
        type: str = "",
    ) -> Thing:
        """Of a machine `type` decides on capacity and price, and `off_usd_per_hour` is what it costs without power, if less."""
        with self._asked("create", kind):
            if kind == MACHINE:
                self._require_room(type)
            thing = Thing(
                kind=kind,
                id=next(self.ids),
                name=name,
                created_at_s=self.clock.now_s(),
                usd_per_hour=self.price(type, usd_per_hour),
                off_usd_per_hour=off_usd_per_hour,
                address=next(self.addresses) if kind == MACHINE else "",
                details={**details, "type": type},
            )
            self.things.append(thing)
        return thing

    def price(self, type: str, listed_usd_per_hour: Decimal) -> Decimal:
        """What a machine of this type costs if it is ordered now."""
        return self.settings.prices.get(type, listed_usd_per_hour)

    def listed(self, kind: str) -> list[Thing]:
        """As lists show them: late, in what came and in what went."""
        with self._asked("list", kind):
            at_s = self.clock.now_s() - self.settings.list_lag_s
        return [thing for thing in self.things if thing.kind == kind and thing.stands(at_s)]

    def read(self, kind: str, id: int) -> Thing:
        """By its id a thing is seen as it is now."""
        with self._asked("read", kind):
            return self._find(kind, id)

    def change(self, kind: str, id: int, details: dict[str, Any]) -> Thing:
        with self._asked("change", kind):
            thing = self._find(kind, id)
            thing.details.update(details)
        return thing

    def delete(self, kind: str, id: int) -> Thing:
        """Accepted now, done when the cloud is so far."""
        with self._asked("delete", kind):
            thing = self._find(kind, id)
            ends_at_s = self.clock.now_s() + self.settings.delete_s
            thing.ends_at_s = ends_at_s if thing.ends_at_s is None else min(thing.ends_at_s, ends_at_s)
        return thing

    # ── what happens by itself ─────────────────────────────────────────────────────────────────────────────────────

    def power_off(self, id: int) -> None:
        """A machine has switched itself off; a cloud whose machines start again notices nothing."""
        machine = self._find(MACHINE, id)
        if self.settings.power_off is PowerOff.ENDS_BILL:
            machine.ends_at_s = self.clock.now_s()
        if self.settings.power_off is PowerOff.STOPS:
            machine.ends_at_s = None  # a limit of its run has nothing to end any more
        if self.settings.power_off is not PowerOff.REBOOTS:
            machine.off_at_s = self.clock.now_s()

    def runs(self, machine: Thing) -> bool:
        now_s = self.clock.now_s()
        return machine.stands(now_s) and not machine.off and now_s >= machine.created_at_s + self.settings.boot_s

    # ── what only a test can see ───────────────────────────────────────────────────────────────────────────────────

    def standing(self) -> list[Thing]:
        """What is there this moment, whatever the lists say."""
        return [thing for thing in self.things if thing.stands(self.clock.now_s())]

    def bill_usd(self) -> Decimal:
        """Everything so far, with what is long gone."""
        return sum((thing.usd(self.clock.now_s()) for thing in self.things), Decimal(0))

    # ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _find(self, kind: str, id: int) -> Thing:
        for thing in self.standing():
            if (thing.kind, thing.id) == (kind, id):
                return thing
        raise Declined(Reason.ABSENT, f"{kind} with ID '{id}' not found")

    def require_free(self, kind: str, told: str, taken: Callable[[Thing], bool]) -> None:
        """Raises Declined where something of this kind has already what must be one's own."""
        if any(thing.kind == kind and taken(thing) for thing in self.standing()):
            raise Declined(Reason.TAKEN, told)

    def _require_room(self, type: str) -> None:
        machines = [thing for thing in self.standing() if thing.kind == MACHINE]
        if self.settings.quota is not None and len(machines) >= self.settings.quota:
            raise Declined(Reason.QUOTA)
        alike = [machine for machine in machines if machine.details["type"] == type]
        if len(alike) >= self.settings.capacity.get(type, len(alike) + 1):
            raise Declined(Reason.NO_CAPACITY)

    @contextmanager
    def _asked(self, verb: Verb, kind: str) -> Iterator[None]:
        fault = self._due(verb, kind)
        if fault and not fault.after:
            raise Declined(fault.reason)
        yield
        if fault:
            raise Declined(fault.reason)

    def _due(self, verb: Verb, kind: str) -> Fault | None:
        for place, fault in enumerate(self.faults):
            if fault.verb == verb and fault.kind in (None, kind):
                left = fault.times - 1
                self.faults[place : place + 1] = [msgspec.structs.replace(fault, times=left)] if left else []
                return fault
        return None
