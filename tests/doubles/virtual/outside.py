"""Everything that goes on without a controller: the account, its machines with their jobs, the clock, the line."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal

from provision.aboard.renewal import RENEW_S
from provision.clouds.programs.order import PowerOff
from provision.seam import Box
from tests.doubles.virtual.trainer import Job, Training
from tests.doubles.world.core import Clock, Fault, Settings, Thing, World


class Outside:
    """One account and what becomes of it. `settle` makes true what has happened by itself."""

    def __init__(
        self, settings: Settings, training: Training, *, rng: random.Random, cuts: tuple[tuple[float, float], ...] = ()
    ) -> None:
        self.clock = Clock(base=lambda: 1_800_000_000.0)
        self.began_at_s = self.clock.now_s()
        self.world = World(settings, self.clock, (f"198.18.0.{number}" for number in range(1, 255)))
        self.training = training
        self.rng = rng
        self.cuts = tuple((self.began_at_s + begin_s, self.began_at_s + end_s) for begin_s, end_s in cuts)
        self.lost_answers = 0.0  # the share of commands whose answer is lost, or which never arrive
        self.taken_after_s: float | None = None  # the first box is taken away so long after it came up
        self.disk_usd_per_gib_month = self.address_usd_per_hour = self.usd_per_sent_byte = Decimal(0)
        self.sent_bytes = 0  # that have come home
        self.to_come: list[tuple[float, Fault]] = []  # seconds after the beginning, and what is planted then
        self.most_at_once = 0
        self.clock_set: tuple[tuple[float, float], ...] = ()  # at home: seconds after the beginning, and by how much
        self._renewals: list[Callable[[], None]] = []  # of whoever is in control
        self.unseen_s = 0.0  # without a box and without anybody in charge

    @property
    def now_s(self) -> float:
        return self.clock.now_s()

    @property
    def home_s(self) -> float:
        """What the clock at home shows, which somebody may have set."""
        return self.now_s + self.ahead_s

    @property
    def ahead_s(self) -> float:
        """Of the account's clock."""
        return sum(by_s for at_s, by_s in self.clock_set if self.began_at_s + at_s <= self.now_s)

    def pass_unattended(self, duration_s: float) -> None:
        """Nobody is in charge meanwhile."""
        begin_s = self.now_s
        self.pass_time(duration_s)
        if not self.standing:
            gone_s = max((each.ends_at_s for each in self.world.things if each.ends_at_s is not None), default=begin_s)
            self.unseen_s += self.now_s - max(begin_s, gone_s)

    def pass_time(self, duration_s: float) -> None:
        left_s = max(duration_s, 0.0)
        while self._renewals:
            step_s = min(left_s, RENEW_S)
            self.clock.advance(step_s)
            self.settle()
            for renew in self._renewals:
                renew()
            left_s -= step_s
            if left_s <= 0.0:
                return
        self.clock.advance(left_s)
        self.settle()

    @contextmanager
    def attended(
        self,
        _shell: object,
        box: Box,
        *,
        spare: bool,
        renewed: Callable[[float], object] = lambda _: None,
        tell: Callable[[str], object] = lambda _: None,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> Iterator[None]:
        """As renewal.attended, once a minute of virtual time and without a thread."""

        def renew() -> None:
            machine = self.answers(box.host)
            if machine is not None and machine.details["job"].renew(self.now_s):
                renewed(clock())

        self._renewals.append(renew)
        renew()
        try:
            yield
        finally:
            self._renewals.remove(renew)

    def settle(self) -> None:
        """What has happened by itself by now: faults came up, boxes ended or were taken away, jobs worked."""
        due = [each for each in self.to_come if self.began_at_s + each[0] <= self.now_s]
        self.to_come = [each for each in self.to_come if each not in due]
        self.world.faults.extend(fault for _, fault in due)
        for machine in self.world.things:
            job: Job = machine.details["job"]
            until_s = min(self.now_s, math.inf if machine.ends_at_s is None else machine.ends_at_s)
            end_s = min(machine.details["deadline_at_s"], self._taken_at_s(machine))
            end_s = min(end_s, job.box_ends_at_s(min(until_s, end_s)))
            if (machine.ends_at_s is None or machine.ends_at_s > end_s) and end_s <= self.now_s:
                if self.world.settings.power_off is PowerOff.ENDS_BILL or end_s < machine.details["deadline_at_s"]:
                    machine.ends_at_s = end_s
                machine.off_at_s = end_s if machine.off_at_s is None else machine.off_at_s
            job.settle(self.now_s if machine.ends_at_s is None else min(self.now_s, machine.ends_at_s))
        self.most_at_once = max(self.most_at_once, len(self.standing))

    def _taken_at_s(self, machine: Thing) -> float:
        if self.taken_after_s is None or machine is not self.world.things[0]:
            return float("inf")
        return machine.created_at_s + self.taken_after_s

    @property
    def bill_usd(self) -> Decimal:
        """Machines with their disks and addresses, to the second, and what has left the account."""
        return self.world.bill_usd() + self.sent_bytes * self.usd_per_sent_byte

    @property
    def standing(self) -> list[Thing]:
        return self.world.standing()

    def answers(self, host: str) -> Thing | None:
        """The machine at this address, unless it is silent or the line is cut."""
        if any(begin_s <= self.now_s < end_s for begin_s, end_s in self.cuts):
            return None
        return next((each for each in self.standing if each.address == host and self.world.runs(each)), None)
