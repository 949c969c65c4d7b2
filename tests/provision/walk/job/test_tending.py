"""What becomes of a trainer that its lease has stopped: nobody blames it, and a rented box is not gone on with."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Never, cast

import msgspec
import pytest

from planner.plan import Plan
from provision.aboard.marks import LEASE_ENDED_FILE
from provision.aboard.renewal import TOO_LATE, attended
from provision.account.ledger import Ledger
from provision.account.lines import Created
from provision.errors import (
    BoxLost,
    ConnectionFailed,
    Declined,
    LeaseEnded,
    Reason,
    RentuneError,
    Scope,
    TrainingFailed,
)
from provision.home.clocks import Clocks
from provision.home.places import Places
from provision.prepare.inputs import find_base
from provision.prepare.opening import open_run
from provision.seam import Answer, Box, Claim, Owned
from provision.walk import attempt
from provision.walk.driven import Reach, Run, read_run
from provision.walk.edges import Edges
from provision.walk.job.patience import UNTIMED, gone_too_soon, lease_end_words
from provision.walk.job.tending import tended
from provision.walk.job.training import KILLED, LEASE_ENDED, MAX_RESTARTS, allow_restart
from provision.walk.run import walk
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Paper
from tests.provision.plans import attempted
from tests.provision.rigs import await_true

HOUR_S = 3600.0


@dataclasses.dataclass
class Line:
    """Runs on this machine what a box would, once it is not cut any more."""

    cuts: int = 0
    told: int = 0

    def close(self) -> None:
        """Nothing is open."""

    def run(self, command: str) -> Any:
        if self.cuts:
            self.cuts -= 1
            raise ConnectionFailed("The line is cut.")
        self.told += 1
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
    """It was set back: what it says of the time since then is nothing to go by; but where the deadline is over by it, too."""
    now_s = run.clocks.wall()
    ledger.append(attempted(run.run_id, at_s=now_s - 9000.0))
    run.folder.renewed.touch()
    for renewed_at_s, words in ((now_s + 3600.0, UNTIMED), (now_s - 60.0, None)):
        os.utime(run.folder.renewed, (renewed_at_s, renewed_at_s))
        assert lease_end_words(run) == words


@pytest.mark.parametrize(
    ("renewed_s", "error"),
    [(-3 * HOUR_S, LeaseEnded), (-HOUR_S, TrainingFailed), (2 * HOUR_S, TrainingFailed)],
    ids=["the lease ended first", "the deadline came first", "renewed after it"],
)
def test_what_came_first_is_what_ended_a_box(run: Run, ledger: Ledger, renewed_s: float, error: type[RentuneError]) -> None:
    """Both are over by the time that somebody looks: a lease of two hours, and a deadline an hour ago."""
    now_s = run.clocks.wall()
    ledger.append(attempted(run.run_id, at_s=now_s - 9 * HOUR_S, deadline_at_s=now_s - HOUR_S))
    run.folder.renewed.touch()
    os.utime(run.folder.renewed, (now_s + renewed_s - HOUR_S, now_s + renewed_s - HOUR_S))
    assert isinstance(gone_too_soon(run), error)


def renewing(run: Run, box: Box, *, wall: Callable[[], float]) -> Run:
    """With a controller's clock of its own, that renews more often than once a minute."""
    clocks = Clocks(wall=wall, sleep=lambda _: None)
    return dataclasses.replace(run, clocks=clocks, reach=Reach(attended=partial(attended, every_s=0.01)))


def test_home_notes_a_renewal_by_the_clock_that_asks_for_it_later(run: Run, box: Box) -> None:
    """A file's own time is the kernel's: a home on another machine's disk, or a clock that was set, has another."""
    (Path(box.folder) / LEASE_ENDED_FILE).unlink()
    with tended(renewing(run, box, wall=lambda: 5000.0), cast("Any", Line()), box):
        await_true(lambda: run.folder.renewed.exists() and run.folder.renewed.stat().st_mtime == 5000.0)


def test_a_line_that_comes_back_while_the_trainer_leaves_hides_no_lease_that_has_ended(
    run: Run, box: Box, ledger: Ledger
) -> None:
    """The box is gone before anybody asked it: by what home has it was its lease, so the run goes on elsewhere."""
    now_s, line = run.clocks.wall(), Line()
    ledger.append(attempted(run.run_id, at_s=now_s - 3 * HOUR_S))
    with tended(renewing(run, box, wall=lambda: now_s), cast("Any", line), box):
        await_true(lambda: line.told > 1)
    assert isinstance(gone_too_soon(run), LeaseEnded)
    assert cast("Quiet", run.display).notes == [TOO_LATE]


def standing(run: Run, ledger: Ledger, box: Box) -> None:
    now_s = run.clocks.wall()
    ledger.append(attempted(run.run_id, at_s=now_s))
    ledger.append(Created(run_id=run.run_id, at_s=now_s, box=box))


def test_a_lease_is_renewed_from_the_first_contact_on(
    run: Run, box: Box, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home that is full holds up the new host key, for as long as it is: hours, in which somebody is there."""
    standing(run, ledger, msgspec.structs.replace(box, ours=True, replace_host_key=True))
    order: list[str] = []

    @contextmanager
    def renewed(*_: object, **__: object) -> Iterator[None]:
        order.append("renewed")
        try:
            yield
        finally:
            order.append("renewed no more")

    def no_key(*_: object) -> Never:
        order.append("key")
        raise Declined("No key.", reason=Reason.HOST, scope=Scope.OFFER)

    monkeypatch.setattr("provision.walk.attempt.replace_host_key", no_key)
    walk(dataclasses.replace(run, reach=Reach(connect=lambda *_, **__: Line(), attended=renewed)))  # type: ignore[arg-type]
    assert order == ["renewed", "key", "renewed no more"]


def test_what_a_box_of_this_machine_has_left_comes_home_before_its_remains_go(
    run: Run, box: Box, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went after whoever takes the run up had begun, and before he asked for it."""
    standing(run, ledger, msgspec.structs.replace(box, ours=True, shares_files=True))
    order: list[str] = []
    monkeypatch.setattr("provision.walk.attempt.has_gone", lambda _run: True)
    monkeypatch.setattr("provision.walk.attempt.bring_left", lambda _run: order.append("brought"))
    monkeypatch.setattr("provision.walk.renting.end", lambda *_: order.append("ended"))
    with pytest.raises(BoxLost):
        attempt._standing_box(run)
    assert order == ["brought", "ended"]
