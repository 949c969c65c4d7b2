"""Seeded random schedules: everything that can go wrong with one run, drawn together, played in virtual time, and judged.

A schedule is a cloud with its manners and refusals, a trainer, a line with cuts, and a row of controllers, each of which is
killed, stopped or left in peace. Afterwards time goes on past the deadline, a fresh process ends what is left to be
ended, and the promises are checked.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from planner.plan import Plan
from planner.units import GB, SECONDS_PER_HOUR
from provision.account.ledger import Ledger
from provision.charge.controller import in_control
from provision.charge.ends.ending import end_with_books
from provision.charge.ends.handover import is_ending
from provision.clouds.programs.order import PowerOff
from provision.home.clocks import Clocks
from provision.home.places import Places, RunFolder
from provision.home.wish import end_wished, wish_no_end
from provision.prepare.inputs import find_base
from provision.prepare.opening import Agreed, open_run
from provision.walk.driven import Reach, Run, read_run
from provision.walk.edges import Edges
from provision.walk.run import walk
from provision.walk.timekeeping import with_steady_clock
from remote.contract import Phase
from tests.doubles.displays import Quiet
from tests.doubles.virtual.cloud import GRACE_S, HOURS_PER_MONTH, VirtualCloud
from tests.doubles.virtual.lives import Killed, Life, MortalLedger
from tests.doubles.virtual.outside import Outside
from tests.doubles.virtual.shell import VirtualShell
from tests.doubles.virtual.trainer import ADAPTER, Training
from tests.doubles.world.core import MACHINE, Fault, Reason, Settings, Verb
from tests.faults.drawn.judge import LATE_S, JudgedRun, broken_by_dollars, broken_by_result
from tests.provision.plans import about, tiny_files, tiny_plan

USD_PER_HOUR: Final = Decimal("3.60")
DISK_USD_PER_GIB_MONTH: Final = Decimal("0.20")
ADDRESS_USD_PER_HOUR: Final = Decimal("0.05")  # of an address: ten times as much as clouds ask, so that it is seen in a sum
USD_PER_SENT_BYTE: Final = Decimal("0.02")  # a result is seven bytes, and costs more than two minutes of its box
DEARER: Final = (Decimal("3.90"), Decimal("4.20"))
SET_BY_S: Final = (-3600.0, -200.0, -20.0, 20.0, 200.0, 3600.0)
AT_ONCE: Final = 0.05  # of the faults, what the first look or the first order meets: most of such runs rent nothing
TEARDOWN_S: Final = 180.0  # a delete of 120 s, and lists that lag 60 s
STEPS: Final = 5000  # a checkpoint is called by its seconds of work
SECOND_LOOK_S: Final = 3600.0  # when the fresh process comes, after deadline and grace


@dataclass(frozen=True)
class Controller:
    """One process that takes charge: what it is for, when it comes, and the moment at which it dies or is stopped."""

    command: str  # "resume" or "down"
    pause_s: float
    killed_at: int | None = None
    stopped_at: int | None = None
    told_at: int | None = None  # somebody types `down` meanwhile
    heard_after: int | None = None  # so many moments later that sends its signal; None = it was killed before

    def life(self) -> Life:
        return Life(killed_at=self.killed_at, stopped_at=self.stopped_at, told_at=self.told_at, heard_after=self.heard_after)


@dataclass(frozen=True)
class Schedule:
    seed: int
    settings: Settings
    training: Training
    faults: tuple[tuple[float, Fault], ...]  # each from so many seconds on
    elsewhere_usd_per_hour: tuple[Decimal, ...]  # what else may be rented
    cuts: tuple[tuple[float, float], ...]
    lost_answers: float
    taken_after_s: float | None
    max_usd: Decimal
    controllers: tuple[Controller, ...]
    disk_gib: int = 0
    spot: bool = False
    clock_set: tuple[tuple[float, float], ...] = ()  # at home: after so many seconds, and by how much
    lease_s: float | None = None  # controllers go for less than it, and for longer


@dataclass(frozen=True)
class Played:
    """How one schedule ended. `broken` names each promise that did not hold."""

    schedule: Schedule
    broken: tuple[str, ...]
    trained: bool
    kills: int
    stops: int
    attempts: int
    boxes: int
    leases_ended: int
    billed_usd: Decimal  # by the fake cloud
    ledger_usd: Decimal
    told: int = 0  # controllers during which somebody typed `down`


def draw(seed: int) -> Schedule:
    """The same schedule for the same seed, on every machine."""
    rng, apart = random.Random(seed), random.Random(f"down {seed}")
    verbs: tuple[Verb, ...] = ("create", "list", "delete")
    faults = tuple(
        (
            0.0 if rng.random() < AT_ONCE else rng.uniform(0.0, 9000.0),
            Fault(
                verb=rng.choice(verbs),
                kind=MACHINE,
                reason=rng.choice([Reason.THROTTLED, Reason.BROKEN, Reason.NO_CAPACITY]),
                times=rng.choice([1, 1, 2, 5]),
                after=rng.random() < 0.3,
            ),
        )
        for _ in range(rng.choice([0, 0, 1, 2, 4]))
    )
    begins_s = sorted(rng.uniform(0.0, 9000.0) for _ in range(rng.choice([0, 0, 1, 3])))
    work_s = rng.uniform(600.0, 9000.0)
    return Schedule(
        seed=seed,
        settings=Settings(
            power_off=PowerOff.ENDS_BILL,
            list_lag_s=rng.choice([0.0, 0.0, 30.0, 60.0]),
            boot_s=rng.choice([5.0, 60.0, 150.0, 300.0]),  # the last is given up
            delete_s=rng.choice([0.0, 20.0, 120.0]),
        ),
        training=Training(
            work_s=work_s,
            crashes=rng.random() < 0.1,
            killed_after_s=rng.uniform(1.0, work_s) if rng.random() < 0.2 else None,
        ),
        faults=faults,
        elsewhere_usd_per_hour=rng.choice([(), (USD_PER_HOUR,), DEARER]),
        cuts=tuple((begin_s, begin_s + rng.choice([5.0, 60.0, 600.0, 3600.0])) for begin_s in begins_s),
        lost_answers=rng.choice([0.0, 0.0, 0.05, 0.2]),
        taken_after_s=rng.uniform(0.0, 9000.0) if rng.random() < 0.15 else None,
        max_usd=rng.choice([Decimal(3), Decimal(6), Decimal(12)]),
        controllers=tuple(_told(apart, _controller(rng, first=number == 0)) for number in range(rng.choice([1, 2, 3, 5]))),
        disk_gib=rng.choice([0, 100, 2_000, 6_000]),  # the last as dear as a third of the machine
        spot=rng.random() < 0.3,
        clock_set=tuple((rng.uniform(0.0, 9000.0), rng.choice(SET_BY_S)) for _ in range(rng.choice([0, 0, 1, 2]))),
        lease_s=rng.choice([None, None, 900.0, 1800.0, 3600.0]),
    )


def _controller(rng: random.Random, *, first: bool) -> Controller:
    fate = rng.random()
    moment = round(rng.choice([40, 150, 600]) * rng.random()) + 1  # early, while it ships, in training
    return Controller(
        command="resume" if first or rng.random() < 0.8 else "down",
        pause_s=0.0 if first else rng.choice([0.0, 5.0, 300.0, 4000.0]),
        killed_at=moment if fate < 0.6 else None,
        stopped_at=moment if fate > 0.85 else None,
    )


def _told(rng: random.Random, controller: Controller) -> Controller:
    """During one of four somebody types `down`; drawn apart, so that all else of a seed stays as it was."""
    if controller.command != "resume" or rng.random() > 0.25:
        return controller
    told_at = round(rng.choice([40, 150, 600]) * rng.random()) + 1
    return dataclasses.replace(controller, told_at=told_at, heard_after=rng.choice([None, 0, 3, 20]))


def _say(folder: RunFolder) -> None:
    with end_wished(folder, Quiet().note):
        pass


def play(schedule: Schedule, folder: Path) -> Played:
    """Play it in this folder, with virtual seconds and this process's signals. Nothing outside of the folder is touched."""
    stage = Stage.set(schedule, folder)
    kills = stops = told = late_orders = 0
    for controller in schedule.controllers:
        stage.pass_unattended(controller.pause_s)
        life = controller.life()
        kills += stage.send(controller, life=life)
        stops += controller.stopped_at is not None
        told += life.is_told
        late_orders += life.late_orders
        if life.is_told and controller.heard_after is not None:  # whoever typed it waits, and ends what is left
            stage.send(Controller("down", pause_s=0.0))
    late = (f"{late_orders} orders followed a `down`",) if late_orders else ()
    return Played(
        schedule=schedule,
        broken=(*stage.judged(), *late),
        told=told,
        trained=stage.trained,
        kills=kills,
        stops=stops,
        attempts=len(stage.state.rentals),
        boxes=len(stage.outside.world.things),
        leases_ended=sum(each.details["job"].lease_ended_at_s is not None for each in stage.outside.world.things),
        billed_usd=stage.outside.bill_usd,
        ledger_usd=stage.ledger_usd,
    )


@dataclass(frozen=True)
class Stage(JudgedRun):
    """One schedule's places, its world, and the run in it."""

    schedule: Schedule
    places: Places
    outside: Outside
    run_id: str

    @classmethod
    def set(cls, schedule: Schedule, folder: Path) -> Stage:
        places = Places(home=folder / "home", cache=folder / "cache")
        outside = Outside(schedule.settings, schedule.training, rng=random.Random(schedule.seed), cuts=schedule.cuts)
        outside.disk_usd_per_gib_month, outside.usd_per_sent_byte = DISK_USD_PER_GIB_MONTH, USD_PER_SENT_BYTE
        outside.address_usd_per_hour = ADDRESS_USD_PER_HOUR
        outside.lost_answers = schedule.lost_answers
        outside.taken_after_s = schedule.taken_after_s
        outside.to_come = list(schedule.faults)
        outside.clock_set = schedule.clock_set
        plan = _plan(schedule, folder)
        run_id = open_run(
            plan,
            find_base(plan.request.model),
            places=places,
            ledger=Ledger(places.ledger),
            clock=lambda: outside.home_s,
            agreed=Agreed(alternatives=tuple(_elsewhere(plan, each) for each in schedule.elsewhere_usd_per_hour)),
        )
        return cls(schedule, places, outside, run_id)

    # ── controllers ────────────────────────────────────────────────────────────────────────────────────────────────

    def send(self, controller: Controller, *, ledger: Ledger | None = None, life: Life | None = None) -> bool:
        """Let it do what it is for; whether it was killed. A run that is over is refused by either command."""
        if self.is_over:
            return False
        life, folder = life or controller.life(), self.places.run(self.run_id)
        life.say, life.asks = partial(_say, folder), lambda: not is_ending(self.state)
        if controller.command == "resume":
            wish_no_end(folder, run_id=self.run_id)
        else:
            _say(folder)
        held = self._held(life, ledger or MortalLedger(self.places.ledger, life))
        act: Callable[[Run], object] = walk if controller.command == "resume" else end_with_books
        try:
            run = with_steady_clock(held)
            with suppress(KeyboardInterrupt), in_control(self.run_id, run.folder, run.ledger, clocks=run.clocks):
                act(run)
        except Killed:
            return True
        return False

    def _held(self, life: Life, ledger: Ledger) -> Run:
        cloud = VirtualCloud(self.outside, life)
        run = read_run(
            self.run_id,
            Edges(
                self.places,
                Quiet(),
                make=lambda _claim: cloud,
                clocks=Clocks(wall=lambda: self.outside.home_s, steady=lambda: self.outside.now_s, sleep=cloud.sleep),
            ),
            ledger=ledger,
        )
        connect = VirtualShell.connector(self.outside, life)
        return dataclasses.replace(run, reach=Reach(connect=connect, attended=self.outside.attended))

    def pass_unattended(self, duration_s: float) -> None:
        """Until the next process comes. Of a run that is over there is nothing to see."""
        (self.outside.pass_time if self.is_over else self.outside.pass_unattended)(duration_s)

    # ── what must hold ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def now_s(self) -> float:
        return self.outside.home_s

    def judged_when_nobody_came(self) -> list[str]:
        deadlines_s = [self.state.deadline_at_s, *(each.details["deadline_at_s"] for each in self.outside.standing)]
        self.pass_unattended(max(deadlines_s) + GRACE_S - self.outside.now_s)
        return [f"box {each.id} lives past the deadline" for each in self.outside.standing]

    def end_by_a_fresh_process(self) -> None:
        self.pass_unattended(SECOND_LOOK_S)
        self.outside.to_come.clear()
        self.outside.world.faults.clear()
        self.outside.lost_answers = 0.0
        self.outside.cuts = ()
        if not self.is_over:
            self.send(Controller(command="down", pause_s=0.0))

    def judged_at_the_end(self) -> list[str]:
        billed, at_once = self.outside.bill_usd, self.outside.most_at_once
        disk_usd_per_hour = self.schedule.disk_gib * DISK_USD_PER_GIB_MONTH / HOURS_PER_MONTH
        beside_usd_per_hour = disk_usd_per_hour + ADDRESS_USD_PER_HOUR
        cap, usd_per_hour = self.schedule.max_usd, max(USD_PER_HOUR, *DEARER) + beside_usd_per_hour
        unseen_s = self.outside.unseen_s + LATE_S * len(self.state.rentals)
        return [
            *([] if at_once <= 1 else [f"two boxes stood at once ({at_once})"]),
            *broken_by_dollars(billed=billed, ledger=self.ledger_usd, cap=cap, usd_per_hour=usd_per_hour, unseen_s=unseen_s),
            *broken_by_result(self.receipt, home=self.is_home),
        ]


def _elsewhere(plan: Plan, usd_per_hour: Decimal) -> Plan:
    """The same job on another machine, which costs more or the same."""
    offer = msgspec.structs.replace(plan.offer, instance_type=f"at-{usd_per_hour}", usd_per_hour=usd_per_hour)
    return msgspec.structs.replace(plan, offer=offer)


def _plan(schedule: Schedule, folder: Path) -> Plan:
    plan = tiny_plan(*tiny_files(folder), usd_per_hour=USD_PER_HOUR)
    lease_hours = None if schedule.lease_s is None else schedule.lease_s / SECONDS_PER_HOUR
    budget = msgspec.structs.replace(plan.request.budget, max_usd=schedule.max_usd, lease_hours=lease_hours)
    return msgspec.structs.replace(
        plan,
        offer=msgspec.structs.replace(
            plan.offer, provider="virtual", purchase="spot" if schedule.spot else plan.offer.purchase
        ),
        billing=msgspec.structs.replace(
            plan.billing,
            provider="virtual",
            minimum_disk_gib=schedule.disk_gib,
            disk_usd_per_gib_month=DISK_USD_PER_GIB_MONTH,
            egress_usd_per_gb=USD_PER_SENT_BYTE * GB,
            address_usd_per_hour=ADDRESS_USD_PER_HOUR,
        ),
        host=msgspec.structs.replace(plan.host, disk_components={"result": ADAPTER.size_bytes}),
        request=msgspec.structs.replace(plan.request, budget=budget),
        duration=msgspec.structs.replace(
            plan.duration,
            wall_s=about(5000.0),
            num_steps=STEPS,
            phase_s=plan.duration.phase_s | {Phase.BOOT.value: about(60.0), Phase.TEARDOWN.value: about(TEARDOWN_S)},
        ),
    )
