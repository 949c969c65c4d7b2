"""What becomes of a trainer that its lease has stopped: nobody blames it, and a rented box is not gone on with."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from planner.plan import Plan
from provision.aboard.lease import LEASE_ENDED_FILE
from provision.account.ledger import Ledger
from provision.errors import ConnectionFailed, LeaseEnded, TrainingFailed
from provision.home.clocks import Clocks
from provision.home.places import Places
from provision.prepare.inputs import find_base
from provision.prepare.opening import open_run
from provision.seam import Answer, Box, Claim, Owned
from provision.walk.driven import Run, read_run
from provision.walk.edges import Edges
from provision.walk.job.patience import UNTIMED, lease_end_words
from provision.walk.job.training import KILLED, LEASE_ENDED, MAX_RESTARTS, allow_restart
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Paper
from tests.provision.plans import attempted


@dataclasses.dataclass
class Line:
    """Runs on this machine what a box would, once it is not cut any more."""

    cuts: int = 0

    def close(self) -> None:
        """Nothing is open."""

    def run(self, command: str) -> Any:
        if self.cuts:
            self.cuts -= 1
            raise ConnectionFailed("The line is cut.")
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        return type("Done", (), {"rc": done.returncode, "out": done.stdout, "err": done.stderr})


class Unseen(Paper):
    """A provider that does not answer: nothing is read into that."""

    def owned(self, claim: Claim | None = None) -> Owned:
        return Owned(resources=(), complete=Answer.UNKNOWN, message="no answer")


@pytest.fixture
def run(plan: Plan, places: Places, ledger: Ledger) -> Run:
    budget = msgspec.structs.replace(plan.request.budget, lease_hours=2.0)
    asks = msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, budget=budget))
    clocks = Clocks(sleep=lambda _: None)
    run_id = open_run(asks, find_base(plan.request.model), places=places, ledger=ledger, clock=clocks.wall)
    return read_run(run_id, Edges(places, Quiet(), make=lambda _claim: Unseen(), clocks=clocks), ledger=ledger)


@pytest.fixture
def box(run: Run, tmp_path: Path) -> Box:
    """A host of the user's on which a lease has ended."""
    (tmp_path / LEASE_ENDED_FILE).touch()
    return Box(run_id=run.run_id, provider="host", host="h", port=22, user="me", host_key="k", folder=str(tmp_path), ours=False)


def restarted(run: Run, box: Box, restarts: int, *, cuts: int = 0) -> int:
    return allow_restart(run, cast("Any", Line(cuts)), box, restarts, why=KILLED)


def test_a_lease_that_ends_on_a_host_is_no_kill_of_its_trainer(run: Run, box: Box) -> None:
    """However often it does, and over a line that is cut; the next kill is one, for the host has forgotten the lease."""
    assert restarted(run, box, MAX_RESTARTS) == MAX_RESTARTS
    assert cast("Quiet", run.display).notes[-1].startswith(LEASE_ENDED)
    assert restarted(run, box, 0) == 1
    with pytest.raises(TrainingFailed, match=f"killed {MAX_RESTARTS + 1} times"):
        restarted(run, box, MAX_RESTARTS)


def test_a_line_that_is_cut_says_nothing_of_a_lease(run: Run, box: Box) -> None:
    assert restarted(run, box, 2, cuts=2) == 2


def test_a_rented_box_whose_lease_has_ended_is_not_gone_on_with(run: Run, box: Box) -> None:
    """It is about to end itself, and nothing on it is changed."""
    with pytest.raises(LeaseEnded, match="no renewal had reached it for 2 h"):
        restarted(run, msgspec.structs.replace(box, ours=True), 0)
    assert (Path(box.folder) / LEASE_ENDED_FILE).exists()


def test_a_clock_behind_the_last_renewal_leaves_open_whether_a_lease_ended(run: Run, ledger: Ledger) -> None:
    """It was set back: what it says of the time since then is nothing to go by."""
    now_s = run.clocks.wall()
    ledger.append(attempted(run.run_id, at_s=now_s - 9000.0))
    run.folder.renewed.touch()
    for renewed_at_s, words in ((now_s + 3600.0, UNTIMED), (now_s - 60.0, None)):
        os.utime(run.folder.renewed, (renewed_at_s, renewed_at_s))
        assert lease_end_words(run) == words
