"""The frame that plays schedules on the real engine (`benchmarks/renting/chaos_engine.py`): what it draws, whom it strikes.

The fake cloud is here, without machines; the engine is not, and what stands for a controller holds the run's lock and waits.
"""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest

from provision.account.ledger import Ledger
from provision.providers import keeps_lease
from tests.doubles.bench import ROOT, set_up
from tests.doubles.emulator import started
from tests.doubles.world.core import MACHINE, Fault, Reason
from tests.faults.drawn.on_engine import CLOUDS, LEASES_S, MOST_LINES, Controller, Schedule, Stage, draw
from tests.provision.plans import attempted

SEEDS = range(20)  # as many as the benchmark plays
IN_CHARGE = "import sys, time; from provision.charge.controller import hold_alone as h; from pathlib import Path; \
from provision.home.clocks import CLOCKS; held = h(Path(sys.argv[1]), CLOCKS); held.__enter__(); time.sleep(60)"


class Waiting(Stage):
    """Its controllers take charge and do nothing; its `down` ends at once."""

    def _start(self, command: str) -> subprocess.Popen[bytes]:
        code = IN_CHARGE if command == "resume" else "pass"
        process = subprocess.Popen([sys.executable, "-c", code, str(self.places.run(self.run_id).lock)], cwd=ROOT)
        self.processes.append(process)
        return process


@pytest.fixture
def schedule() -> Schedule:
    """One controller, killed half a second after it took charge, and a create that is refused from the beginning."""
    return Schedule(
        seed=0,
        cloud="runpod",
        settings={"list_lag_s": 0.0},
        faults=((0.0, Fault(verb="create", kind=MACHINE, reason=Reason.BROKEN)),),
        cuts=(),
        steps=8,
        max_usd=Decimal("0.20"),
        controllers=(Controller("resume", pause_s=0.0, struck_after_s=0.5),),
    )


def test_a_seed_is_a_schedule_and_those_that_are_played_are_no_calm_ones() -> None:
    """Both clouds, controllers and engines are struck, cables pulled, calls refused, runs that have no time to end."""
    assert draw(7) == draw(7)
    drawn = [draw(seed) for seed in SEEDS]
    assert {schedule.cloud for schedule in drawn} == set(CLOUDS)
    struck = [each.struck for schedule in drawn for each in schedule.controllers if each.struck_after_s is not None]
    assert set(struck) == {"controller", "engine", "both"}
    assert len(struck) >= 10
    for fault in ("faults", "cuts"):
        assert sum(bool(getattr(schedule, fault)) for schedule in drawn) >= 5, fault
    assert len({schedule.steps for schedule in drawn}) == 2
    assert {schedule.lease_s for schedule in drawn if schedule.cloud == "runpod"} == {None, *LEASES_S}
    late = [each.pause_s > (schedule.lease_s or 1e9) for schedule in drawn for each in schedule.controllers]
    assert sum(late) >= 2, "somebody comes back to a box that its lease has ended"
    assert not any(schedule.lease_s for schedule in drawn if not keeps_lease(schedule.cloud))


def test_a_controller_is_struck_once_it_is_in_charge_and_what_is_left_open_is_told(schedule: Schedule, tmp_path: Path) -> None:
    """What was drawn is planted when it is due; a run that nobody has ended is named with each promise that it breaks."""
    with started(schedule.cloud) as running:
        stage = Waiting.set(schedule, tmp_path, set_up(tmp_path / "bench", tmp_path / "no-engine", running))
        try:
            assert stage.send(schedule.controllers[0])
            assert stage.processes[0].returncode == -signal.SIGKILL
            assert (stage.to_come, stage.standing, stage.broken) == ([], [], [])
            assert not stage.send(dataclasses.replace(schedule.controllers[0], command="down")), "nobody was there to be struck"
            assert stage.judged_once_ended() == ["the run is not ended: None", "its books are open"]
            assert stage.judged_at_the_end() == ["there is no receipt"]
        finally:
            stage.end_processes()


@pytest.mark.parametrize(("silent_s", "num_lines"), [(0.1, 0), (3600.0, MOST_LINES)], ids=["silent", "endless"])
def test_a_controller_that_never_lets_go_is_told_by_what_it_does(
    silent_s: float, num_lines: int, schedule: Schedule, tmp_path: Path
) -> None:
    """Past its deadline it says nothing for so long, or goes round for ever. How busy the machine is decides neither."""
    with started(schedule.cloud) as running:
        stage = Waiting.set(schedule, tmp_path, set_up(tmp_path / "bench", tmp_path / "no-engine", running))
        stage.silent_s, deadline_s = silent_s, stage.state.opened.at_s
        for _ in range(1 + num_lines):
            line = attempted(stage.run_id, at_s=time.time(), deadline_at_s=deadline_s)
            Ledger(stage.places.ledger).append(line)
        try:
            assert not stage.send(dataclasses.replace(schedule.controllers[0], struck_after_s=None))
        finally:
            stage.end_processes()
    assert stage.processes[0].returncode is not None
    assert [f"after {1 + num_lines} lines" in told for told in stage.broken] == [True]
