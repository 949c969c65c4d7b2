"""A box that says that its trainer runs, long after its deadline; and one whose outcome can't be read."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from provision.aboard import job
from provision.aboard.job import JobState
from provision.account.ledger import Ledger
from provision.errors import ConnectionFailed, RentuneError, Spoilt, TrainingFailed, TransferFailed
from provision.home.clocks import Clocks
from provision.home.places import Places
from provision.seam import Box
from provision.ssh import Shell
from provision.ssh.channel import Completed
from provision.walk.driven import Run, read_run
from provision.walk.edges import Edges
from provision.walk.job import training
from provision.walk.job.patience import MAX_BROKEN_TRANSFERS, OVERDUE_S, patiently
from provision.walk.phases import Phases
from remote.contract import EndReason, Measured, Outcome
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Paper

BOX = Box(run_id="r", provider="local", host="h", port=22, user="me", host_key="k", folder="/box")
MOST_LOOKS = 50


@dataclasses.dataclass
class LyingBox:
    """Answers that the trainer runs, for ever, and a moment passes with each look."""

    now_s: float
    outcome: Outcome | None = None
    num_looks: int = 0
    asked: list[str] = dataclasses.field(default_factory=list)
    closed: bool = False

    def state(self, *_asked: object) -> JobState:
        self.num_looks += 1
        self.now_s += OVERDUE_S / 3
        assert self.num_looks < MOST_LOOKS, "followed on and on"
        return JobState(state="running")

    def follow(self, _remote: str, _local: Path, *, alive: Callable[[], bool], tell: object) -> Iterator[bytes]:
        assert tell
        while alive():
            pass
        yield from ()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def driven(run_id: str, places: Places, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, LyingBox]:
    """A run that is followed from just before its deadline on."""
    lying = LyingBox(now_s=ledger.runs()[run_id].deadline_at_s - 1.0)
    run = read_run(
        run_id,
        Edges(places, Quiet(), make=lambda _claim: Paper(), clocks=Clocks(wall=lambda: lying.now_s, sleep=lambda _s: None)),
        ledger=ledger,
    )

    def outcome(*_asked: object) -> Outcome | None:
        lying.asked.append("outcome")
        return lying.outcome

    monkeypatch.setattr(job, "state", lying.state)
    monkeypatch.setattr(job, "outcome", outcome)
    monkeypatch.setattr(job, "log", lambda *_asked: "the last words\n")
    return run, lying


def trained_on(run: Run, lying: LyingBox) -> None:
    phases = Phases(run.run_id, run.ledger, run.display, clocks=run.clocks, crash_point=None)
    training.train(run, phases, cast("Shell", lying), BOX)


def test_a_trainer_that_is_said_to_run_past_the_deadline_counts_as_over(driven: tuple[Run, LyingBox]) -> None:
    """Its box is asked for a result once, and given up: it was followed, and billed, until somebody looked."""
    run, lying = driven
    with pytest.raises(TrainingFailed, match=r"long past the deadline, so the run counts as over\..*the last words"):
        trained_on(run, lying)
    assert lying.asked == ["outcome"]
    assert training.OVERDUE in cast("Quiet", run.display).notes
    assert run.left_s <= -OVERDUE_S


def test_what_such_a_box_has_comes_home_all_the_same(driven: tuple[Run, LyingBox], monkeypatch: pytest.MonkeyPatch) -> None:
    run, lying = driven
    reason = EndReason.DEADLINE
    lying.outcome = Outcome(run_id=run.run_id, reason=reason, message="", phase_s={}, measured=Measured(), adapter=())
    fetched: list[Outcome] = []
    monkeypatch.setattr(training, "_fetch_adapter", lambda _run, _shell, _box, outcome: fetched.append(outcome))
    with pytest.raises(TrainingFailed, match="ended without a result"):
        trained_on(run, lying)
    assert lying.asked == ["outcome"]


def test_before_that_it_is_followed(driven: tuple[Run, LyingBox]) -> None:
    """A trainer has its grace: it saves at the deadline."""
    run, lying = driven
    with pytest.raises(TrainingFailed):
        trained_on(run, lying)
    assert lying.num_looks > 3


def test_a_box_that_bills_is_not_listened_to_for_ever(driven: tuple[Run, LyingBox], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that sends a byte a minute answers, and never ends: the line is closed some minutes after the deadline."""
    run, lying = driven
    monkeypatch.setattr(training, "PAST_S", 0.01)

    def drips(*_asked: object) -> Outcome | None:
        for _ in range(1000):
            if lying.closed:
                raise ConnectionFailed("The connection was closed on purpose.")
            time.sleep(0.01)
        raise AssertionError("listened to on and on")

    monkeypatch.setattr(job, "outcome", drips)
    with pytest.raises(RentuneError):
        trained_on(run, lying)
    assert lying.closed


# ── what can't be read ─────────────────────────────────────────────────────────────────────────────────────────────


class Says:
    """A box that answers each command with this."""

    box = BOX

    def __init__(self, rc: int, out: str) -> None:
        self._said = Completed(rc=rc, out=out, err="cat: Is a directory")

    def run(self, _command: str, **_more: object) -> Completed:
        return self._said


@pytest.mark.parametrize(("rc", "out"), [(1, ""), (0, '{"run_id": "r", "rea'), (0, "[]")], ids=["unreadable", "cut", "a list"])
def test_an_outcome_that_cannot_be_read_is_told_apart_from_a_line_that_breaks(rc: int, out: str) -> None:
    with pytest.raises(Spoilt):
        job.outcome(cast("Shell", Says(rc, out)), BOX)


@pytest.mark.parametrize(
    ("error", "num_asked"),
    [(Spoilt("It is not whole."), 2), (TransferFailed("Its disk is full."), MAX_BROKEN_TRANSFERS + 1)],
    ids=["spoilt", "refused"],
)
def test_what_lies_there_spoilt_is_asked_for_twice(driven: tuple[Run, LyingBox], error: RentuneError, num_asked: int) -> None:
    """Asked for eleven times it cost a minute on the meter; a full disk takes a moment to clear."""
    run, _ = driven
    asked: list[Any] = []

    def act() -> None:
        asked.append(error)
        raise error

    with pytest.raises(type(error)):
        patiently(run, act)
    assert len(asked) == num_asked
