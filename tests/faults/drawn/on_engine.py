"""Drawn schedules as in schedule.py beside it, but nothing virtual: engine, machines, SSH, trainer and seconds are real.

What is emulated is the cloud: its API, its manners and its bill. A controller is a process of its own, and it, its engine or
both are struck by a signal; the machines' cable is pulled; calls are refused. The deadline is a minute or two away.

`python -m tests.faults.drawn.on_engine BENCH HOME RUN_ID resume|down` is such a controller.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Final, Literal

import msgspec
import psutil

from planner.asking.request import Where
from planner.plan import Plan
from planner.units import SECONDS_PER_HOUR
from provision.account.ledger import Ledger
from provision.charge.controller import is_locked
from provision.charge.driving import drive
from provision.charge.ends.ending import end
from provision.clouds.engine.runner import living_engines
from provision.errors import Reason as NotHad
from provision.errors import RentuneError
from provision.home.clocks import CLOCKS
from provision.home.places import Places
from provision.prepare.inputs import find_base
from provision.prepare.opening import open_run
from provision.providers import keeps_lease
from provision.walk.driven import REACH
from provision.walk.edges import Edges
from remote.contract import Phase
from tests.doubles.bench import ROOT, Bench, WithTheStack, set_up
from tests.doubles.displays import Quiet
from tests.doubles.emulator import started
from tests.doubles.world.core import MACHINE, Fault, Reason, Verb
from tests.faults.drawn.judge import JudgedRun, broken_by_dollars, broken_by_result
from tests.provision.plans import about, tiny_files, tiny_plan

USD_PER_HOUR: Final = Decimal("3.60")  # a tenth of a cent a second
GRACE_S: Final = 45.0  # after the deadline: a container that asks for its end is refused once, and asks again after 30 s
LAG_S: Final = 6.0  # lists lag less, and the provisioner is told this much
TEARDOWN_S: Final = 20.0
SILENT_S: Final = 120.0  # under whatever load: what ends a run says something sooner, in the ledger or by its engine
MOST_LINES: Final = 60  # of the ledger after the deadline: a teardown takes a dozen, and what goes round for ever takes more
LOOK_S: Final = 0.25
LEASES_S: Final = (25.0, 35.0)  # a pod is reached within ten seconds, also on a busy machine
LATE: Final = 1.5  # leases: whoever comes then finds that it has ended
RENEW_S: Final = 2.0
TRAINS_AT_S: Final = (25.0, 40.0)  # a controller has a pod that trains after 12 to 20 s, on a machine that is busy
MANY_STEPS: Final = 100_000
MOST_USD: Final = Decimal("0.20")
SAY_S: Final = 5.0  # for the stacks of a controller that is given up
CLOUDS: Final = {"runpod": "NVIDIA GeForce RTX 4090 SECURE", "gcp": "g2-standard-4"}  # whose machines end themselves; the type
Struck = Literal["controller", "engine", "both"]


@dataclass(frozen=True)
class Controller:
    """One process that takes charge, and what strikes it."""

    command: Literal["resume", "down"]
    pause_s: float
    struck_after_s: float | None = None  # once it is in charge
    struck: Struck = "controller"
    number: signal.Signals = signal.SIGKILL


@dataclass(frozen=True)
class Schedule:
    seed: int
    cloud: str
    settings: dict[str, float]
    faults: tuple[tuple[float, Fault], ...]  # each from so many seconds on
    cuts: tuple[tuple[float, float], ...]  # of the machines' cable
    steps: int  # a few, or more than there is time for
    max_usd: Decimal
    controllers: tuple[Controller, ...]
    lease_s: float | None = None  # where a cloud keeps one


@dataclass(frozen=True)
class Played:
    """How one schedule ended. `broken` names each promise that did not hold."""

    schedule: Schedule
    broken: tuple[str, ...]
    trained: bool
    struck: int
    boxes: int  # that were seen to stand
    leases_ended: int
    billed_usd: Decimal
    ledger_usd: Decimal
    took_s: float


def draw(seed: int) -> Schedule:
    """The same schedule for the same seed, as far as real seconds are the same."""
    rng = random.Random(seed)
    faults = tuple(_fault(rng) for _ in range(rng.choice([0, 1, 1, 2])))
    begins_s = sorted(rng.uniform(5.0, 70.0) for _ in range(rng.choice([0, 1, 2])))
    cloud = sorted(CLOUDS)[seed % len(CLOUDS)]
    drawn = Schedule(
        seed=seed,
        cloud=cloud,
        settings={
            "list_lag_s": rng.choice([0.0, 2.0, 5.0]),
            "boot_s": rng.choice([0.0, 5.0]),
            "delete_s": rng.choice([0.0, 4.0]),
        },
        faults=faults,
        cuts=tuple((begin_s, begin_s + rng.choice([2.0, 10.0])) for begin_s in begins_s),
        steps=rng.choice([8, 8, MANY_STEPS]),
        max_usd=rng.choice([Decimal("0.14"), Decimal("0.17"), MOST_USD]),
        controllers=tuple(_controller(rng, first=number == 0) for number in range(rng.choice([1, 2, 2, 3]))),
    )
    return drawn if not keeps_lease(cloud) else _leased(drawn, rng)


def _leased(drawn: Schedule, rng: random.Random) -> Schedule:
    """Two of three have one. Of half of those the first controller is killed while it trains and another comes once the lease
    has ended, for whom there is time.
    """
    lease_s = rng.choice([None, *LEASES_S])
    if lease_s is None or rng.random() < 0.5:
        return replace(drawn, lease_s=lease_s)
    first, *later = drawn.controllers
    killed = replace(first, struck_after_s=rng.uniform(*TRAINS_AT_S), struck="controller", number=signal.SIGKILL)
    comes, *others = later or [Controller(rng.choice(["resume", "down"]), pause_s=0.0)]
    late = replace(comes, pause_s=LATE * lease_s, struck_after_s=None)
    return replace(drawn, controllers=(killed, late, *others), lease_s=lease_s, steps=MANY_STEPS, max_usd=MOST_USD)


def _fault(rng: random.Random) -> tuple[float, Fault]:
    """A create is refused at first, else once; a list or a delete later on. A container that asks for its end is heard soon."""
    verb: Verb = rng.choice(["create", "list", "list", "delete"])
    reasons = [Reason.THROTTLED, Reason.BROKEN, Reason.NO_CAPACITY]
    times = rng.choice([1, 2, 4]) if verb == "list" else 1
    fault = Fault(verb=verb, kind=MACHINE, reason=rng.choice(reasons), times=times, after=rng.random() < 0.5)
    return 0.0 if verb == "create" else rng.uniform(15.0, 100.0), fault


def _controller(rng: random.Random, *, first: bool) -> Controller:
    return Controller(
        command="resume" if first or rng.random() < 0.8 else "down",
        pause_s=0.0 if first else rng.choice([0.0, 3.0, 15.0]),
        struck_after_s=rng.choice([rng.uniform(1.0, 12.0), rng.uniform(12.0, 70.0)])
        if rng.random() < (0.8 if first else 0.5)
        else None,
        struck=rng.choice(["controller", "controller", "engine", "both"]),
        number=rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]),
    )


def play(schedule: Schedule, folder: Path, engine: Path) -> Played:
    """Play it in this folder, with a cloud and machines of its own, in two to four minutes."""
    began_s = time.monotonic()
    with ExitStack() as held:
        running = held.enter_context(started(schedule.cloud, machines=True))
        stage = Stage.set(schedule, folder, set_up(folder / "bench", engine, running))
        held.callback(stage.end_processes)
        struck = sum([stage.send(controller) for controller in schedule.controllers])
        broken = stage.judged()
        return Played(
            schedule=schedule,
            broken=(*stage.broken, *broken),
            trained=stage.trained,
            struck=struck,
            boxes=len(stage.seen),
            leases_ended=stage.leases_ended,
            billed_usd=stage.bench.control.bill_usd(),
            ledger_usd=stage.ledger_usd,
            took_s=time.monotonic() - began_s,
        )


@dataclass
class Stage(JudgedRun):
    """One schedule's cloud and places, the run in it, and what is still to come."""

    schedule: Schedule
    bench: Bench
    places: Places
    run_id: str
    to_come: list[tuple[float, Callable[[], object]]]  # by wall clock
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)  # every machine that stood at some look
    silent_s: float = SILENT_S
    broken: list[str] = field(default_factory=list)

    @classmethod
    def set(cls, schedule: Schedule, folder: Path, bench: Bench) -> Stage:
        control = bench.control
        control.set(**schedule.settings, prices={CLOUDS[schedule.cloud]: str(USD_PER_HOUR)})
        places = Places(home=folder / "home", cache=folder / "cache")
        plan = _plan(schedule, bench, folder)
        base, ledger, now_s = find_base(plan.request.model), Ledger(places.ledger), time.time()
        run_id = open_run(plan, base, places=places, ledger=ledger, clock=time.time)
        last_cut_s = ledger.runs()[run_id].deadline_at_s - 15.0  # at its end a container needs its line
        to_come: list[tuple[float, Callable[[], object]]] = [
            (now_s + after_s, partial(control.plant, **msgspec.structs.asdict(fault))) for after_s, fault in schedule.faults
        ]
        for begin_s, end_s in schedule.cuts:
            to_come.append((min(now_s + begin_s, last_cut_s), partial(control.cable, joined=False)))
            to_come.append((min(now_s + end_s, last_cut_s), partial(control.cable, joined=True)))
        return cls(schedule, bench, places, run_id, sorted(to_come, key=lambda each: each[0]))

    # ── controllers ────────────────────────────────────────────────────────────────────────────────────────────────

    def send(self, controller: Controller) -> bool:
        """Let it do what it is for; whether it was struck. A run that is over needs nobody."""
        self.pass_time(controller.pause_s)
        if self.is_over:
            return False
        process, strikes_at_s, struck = self._start(controller.command), math.inf, False
        while self._is_at_it(process):
            self._look()
            if (
                controller.struck_after_s is not None
                and strikes_at_s == math.inf
                and is_locked(self.places.run(self.run_id).lock)
            ):
                strikes_at_s = time.time() + controller.struck_after_s  # from when it is in charge
            if time.time() >= strikes_at_s and not struck:
                struck = self._strike(controller, process)
        return struck

    def _is_at_it(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether it still runs. One that never lets go past its deadline is told by what it does, not by the clock: on a
        busy machine a teardown is slow, and neither silent nor endless.
        """
        if process.poll() is not None:
            return False
        deadline_s, began_s = self.state.deadline_at_s, psutil.Process(process.pid).create_time()
        silent_s = time.time() - max(deadline_s, began_s, self._last_sign_s())
        num_lines = sum(line.at_s > deadline_s for line in Ledger(self.places.ledger).lines())
        if silent_s <= self.silent_s and num_lines <= MOST_LINES:
            return True
        process.send_signal(signal.SIGUSR1)  # it says where it stands
        with suppress(subprocess.TimeoutExpired):
            process.wait(SAY_S)
        process.kill()
        process.wait()
        self.broken.append(f"past the deadline a controller was silent for {silent_s:.0f} s, after {num_lines} lines")
        return False

    def _last_sign_s(self) -> float:
        """When the ledger, or anything in the run's directory, was last written: its engine's words are there."""
        written_s = [self.places.ledger.stat().st_mtime]
        for folder, _, names in os.walk(self.places.run(self.run_id).root):  # which passes over what goes away meanwhile
            for name in names:
                with suppress(FileNotFoundError):
                    written_s.append((Path(folder) / name).stat().st_mtime)
        return max(written_s)

    def _start(self, command: str) -> subprocess.Popen[bytes]:
        words = [msgspec.json.encode(self.bench).decode(), str(self.places.home), self.run_id, command]
        with (self.places.home.parent / "controllers.out").open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "tests.faults.drawn.on_engine", *words],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def _strike(self, controller: Controller, process: subprocess.Popen[bytes]) -> bool:
        """Whether somebody was there to be struck: an engine is waited for."""
        engines = living_engines(self.places.run(self.run_id).engine / "log")
        struck = [
            *(engines if controller.struck != "controller" else []),
            *([process] if controller.struck != "engine" else []),
        ]
        for each in struck:
            with suppress(ProcessLookupError):
                each.send_signal(controller.number)
        return bool(struck)

    def end_processes(self) -> None:
        """Nothing of it goes on, whatever broke."""
        for each in [*self.processes, *living_engines(self.places.run(self.run_id).engine / "log")]:
            each.kill()
            each.wait()

    # ── time ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def pass_time(self, duration_s: float) -> None:
        ends_at_s = time.time() + duration_s
        while time.time() < ends_at_s:
            self._look()

    def _look(self) -> None:
        """Do what is due, and see what stands."""
        while self.to_come and time.time() >= self.to_come[0][0]:
            self.to_come.pop(0)[1]()
        standing = self.standing
        self.seen.update(standing)
        if len(standing) > 1:
            self.broken.append(f"{len(standing)} boxes stood at once")
        time.sleep(LOOK_S)

    @property
    def standing(self) -> list[int]:
        return [int(thing["id"]) for thing in self.bench.control.standing(MACHINE)]

    @property
    def leases_ended(self) -> int:
        """As the run's books tell: those after which another box may follow, and the one that ended it."""
        told = [each.tried is not None and each.tried.reason is NotHad.LEASE for each in self.state.rentals]
        return max(sum(told), int(self.receipt is not None and self.receipt.ending.ended_by == "lease"))

    # ── what must hold ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def now_s(self) -> float:
        return time.time()

    def judged_when_nobody_came(self) -> list[str]:
        """As of every stage; of a run that is over nothing stands now."""
        if not self.is_over:
            self.pass_time(self.state.deadline_at_s + GRACE_S - time.time())
        return [f"box {each} lives past the deadline" for each in self.standing]

    def end_by_a_fresh_process(self) -> None:
        self.to_come.clear()
        self.bench.control.clear_faults()
        if self.schedule.cuts:
            self.bench.control.cable(joined=True)
        if not self.is_over:
            ending = self._start("down")
            while self._is_at_it(ending):
                time.sleep(LOOK_S)

    def judged_at_the_end(self) -> list[str]:
        billed, cap, state = self.bench.control.bill_usd(), self.schedule.max_usd, self.state
        unseen_s = state.deadline_at_s - state.opened.at_s  # of so short a life all may pass over one that nobody saw
        return [
            *broken_by_dollars(billed=billed, ledger=self.ledger_usd, cap=cap, usd_per_hour=USD_PER_HOUR, unseen_s=unseen_s),
            *broken_by_result(self.receipt, home=self.is_home),
        ]


def _plan(schedule: Schedule, bench: Bench, folder: Path) -> Plan:
    """The small job at this cloud's offer, with a reserve for its teardown."""
    plan = tiny_plan(*tiny_files(folder), steps=schedule.steps, where=Where(allow_from=bench.row.allow_from))
    lease_hours = None if schedule.lease_s is None else schedule.lease_s / SECONDS_PER_HOUR
    budget = msgspec.structs.replace(plan.request.budget, max_usd=schedule.max_usd, lease_hours=lease_hours)
    ending = {phase.value: about(LAG_S + TEARDOWN_S / 2) for phase in (Phase.TEARDOWN, Phase.CONFIRM)}
    return msgspec.structs.replace(
        plan,
        offer=msgspec.structs.replace(bench.row.offer, usd_per_hour=USD_PER_HOUR),
        request=msgspec.structs.replace(plan.request, budget=budget),
        duration=msgspec.structs.replace(plan.duration, wall_s=about(3600.0), phase_s=plan.duration.phase_s | ending),
    )


def main(bench_json: str, home: str, run_id: str, command: str) -> None:
    """The controller: it has a provisioner that knows how much this cloud's lists lag."""
    faulthandler.register(signal.SIGUSR1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever is started in a shell's background ignores it
    bench, display = msgspec.json.decode(bench_json, type=Bench), Quiet()
    places = Places(home=Path(home), cache=Path(home).parent / "cache")
    provisioner = bench.provisioner(WithTheStack, teardown_s=TEARDOWN_S)
    provisioner.inventory = dataclasses.replace(
        provisioner.inventory, patience=dataclasses.replace(provisioner.patience, grace_s=LAG_S, clocks=CLOCKS)
    )
    provisioner.list_lag_s = LAG_S
    object.__setattr__(REACH, "attended", partial(REACH.attended, every_s=RENEW_S))
    try:
        if command == "resume":
            said: object = drive(run_id, Edges(places, display, make=lambda _: provisioner)).ending.message
        else:
            said = end(run_id, Edges(places, display, make=lambda _: provisioner))
    except (RentuneError, KeyboardInterrupt) as error:
        said = repr(error)
    print(f"{time.time():.0f} {command}: {said}\n  {'; '.join(display.notes)}", flush=True)  # noqa: T201 - for who reads a broken seed


if __name__ == "__main__":
    main(*sys.argv[1:])
