"""A run on the real local box with the real trainer and a model of two layers, and ways to make its controller die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from planner.plan import Plan
from provision.account.ledger import Ledger
from provision.account.receipt.value import Receipt
from provision.account.runs import RunState
from provision.charge.attendant import NOBODY_THERE, Attendant
from provision.charge.driving import drive
from provision.charge.supervise import SUPERVISOR
from provision.direct.local import LocalBox
from provision.home.clocks import CLOCKS, Clocks
from provision.home.places import Places
from provision.prepare.inputs import find_base
from provision.prepare.opening import Agreed, open_run
from provision.prepare.papers import read_claim
from provision.providers import boxes_folder
from provision.walk.edges import Edges, MakeProvisioner
from provision.watch.view import read_events
from remote.contract import EVENTS_FILE, Event
from tests.doubles.displays import Quiet
from tests.provision.plans import tiny_files, tiny_plan

# A supervisor that renews its box's lease more often than once a minute, which no test waits for.
RENEWING = """
import sys
from functools import partial
from provision.charge import supervise
from provision.walk.driven import REACH
object.__setattr__(REACH, "attended", partial(REACH.attended, every_s={every_s}))
sys.exit(supervise.main(sys.argv[1:]))
"""
PATIENCE_S = 240.0  # an import of torch on a busy machine takes most of a minute


class Rehearsal:
    """One test's state folder, with the runs in it."""

    def __init__(self, places: Places, folder: Path) -> None:
        self.places = places
        self.folder = folder
        self.ledger = Ledger(places.ledger)
        self._files: tuple[Path, Path] | None = None
        self.box = LocalBox(boxes_folder(places), places.cache)

    def plan(self, *, steps: int = 8) -> Plan:
        """A plan with files of its own, which are made once."""
        if self._files is None:
            self._files = tiny_files(self.folder)
        return tiny_plan(*self._files, steps=steps)

    def open(
        self,
        *,
        steps: int = 8,
        deadline_s: float = 900.0,
        change: Callable[[Plan], Plan] = lambda plan: plan,
        alternatives: tuple[Plan, ...] = (),
        alerts: tuple[str, ...] = (),
    ) -> str:
        """Open a run and return its id; nothing is rented yet."""
        plan = change(self.plan(steps=steps))
        base = find_base(plan.request.model)
        now_s = time.time()
        return open_run(
            plan,
            base,
            places=self.places,
            ledger=self.ledger,
            clock=lambda: now_s,
            agreed=Agreed(deadline_at_s=now_s + deadline_s, alternatives=alternatives, alerts=alerts),
        )

    def drive(
        self,
        run_id: str,
        display: Quiet | None = None,
        *,
        make: MakeProvisioner | None = None,
        clocks: Clocks = CLOCKS,
        attendant: Attendant = NOBODY_THERE,
    ) -> Receipt:
        """Control the run from this process."""
        return drive(run_id, Edges(self.places, display or Quiet(), make=make, clocks=clocks), attendant=attendant)

    def start_controller(
        self, run_id: str, *, crash_at: str = "", renews_every_s: float | None = None
    ) -> subprocess.Popen[bytes]:
        """Control the run from a process of its own, which dies where it is told to; `renews_every_s`: else as any does."""
        renewing = ["-c", RENEWING.format(every_s=renews_every_s)]
        with (self.folder / "controller.out").open("ab") as out:
            return subprocess.Popen(
                [*(SUPERVISOR if renews_every_s is None else (sys.executable, *renewing)), run_id],
                env={**os.environ, "RENTUNE_CRASH_AT": crash_at},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def kill_controller_at(self, run_id: str, crash_at: str) -> None:
        """Run a controller until it kills itself at that point."""
        process = self.start_controller(run_id, crash_at=crash_at)
        assert process.wait(PATIENCE_S) == -signal.SIGKILL, (self.folder / "controller.out").read_text()

    def state(self, run_id: str) -> RunState:
        return self.ledger.runs()[run_id]

    def events_on_box(self, run_id: str) -> list[Event]:
        """What the trainer has said so far, read on the box itself."""
        return read_events(boxes_folder(self.places) / run_id / "job" / EVENTS_FILE)

    def num_steps(self, run_id: str) -> int:
        """Optimizer steps taken on the box, those of the probe not counted."""
        return sum(event.kind == "step" for event in self.events_on_box(run_id))

    def is_gone(self, run_id: str) -> bool:
        """Whether nothing of the run can be seen on this machine."""
        return not self.box.owned(read_claim(self.places.run(run_id), self.state(run_id))).resources

    def end_all(self) -> None:
        """Leave nothing behind, whatever the test did."""
        for run_id, state in self.ledger.runs().items():
            self.box.destroy(read_claim(self.places.run(run_id), state))


def wait_until(true: Callable[[], bool], *, patience_s: float = PATIENCE_S) -> None:
    """Look often; give up late."""
    ends_at_s = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < ends_at_s, "waited for too long"
        time.sleep(0.05)
