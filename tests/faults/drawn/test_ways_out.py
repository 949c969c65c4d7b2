"""Whatever ends an attempt, what is worth most is not lost to it: the only copy of a result, what was learned, the money."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

import msgspec
import pytest

from provision.aboard import ship
from provision.aboard.checkpoints import Fetched
from provision.account.lines import AnyLine, PhaseStarted
from provision.clouds.programs.order import PowerOff
from provision.errors import BoxLost, ConnectionFailed, HomeFailed, ProvisionError, TransferFailed
from provision.walk.job import carrying, training
from provision.walk.job.carrying import LINE_SHARE, Carrier
from remote.contract import OUTPUT_DIR, Event, Phase
from tests.doubles.virtual.cloud import VirtualCloud
from tests.doubles.virtual.lives import Life, MortalLedger
from tests.doubles.virtual.shell import VirtualShell
from tests.doubles.virtual.trainer import Training
from tests.faults.drawn.schedule import Controller, Stage
from tests.faults.drawn.test_schedule import CALM

SHORT = Training(work_s=600.0)


def no_result_comes(self: VirtualShell, remote: str, local: Path, **_more: object) -> Never:
    if OUTPUT_DIR in remote:
        raise HomeFailed(f"{local} can't be written on this machine: No space left on device.", hint="Free space there.")
    raise TransferFailed("It came home damaged.")


def nothing_comes_whole(_self: VirtualShell, remote: str, _local: Path, **_more: object) -> Never:
    raise TransferFailed(f"{remote} came home damaged.")


def test_past_its_deadline_a_box_is_ended_though_its_result_does_not_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a cloud that bills what is off, and with a timer on the machine that failed, nothing else would ever end it."""
    settings = msgspec.structs.replace(CALM.settings, power_off=PowerOff.KEEPS_BILLING)
    stage = Stage.set(dataclasses.replace(CALM, settings=settings, training=SHORT), tmp_path)
    stage.send(Controller("resume", pause_s=0.0, killed_at=60))
    monkeypatch.setattr(type(stage.outside.world), "runs", lambda _self, _each: True, raising=False)
    monkeypatch.setattr(VirtualShell, "get", no_result_comes)
    stage.outside.pass_time(600)
    stage.send(Controller("down", pause_s=0.0))
    assert stage.outside.standing, "before the deadline the only copy of a result keeps its box"
    stage.outside.pass_time(stage.state.deadline_at_s + 400 - stage.outside.now_s)
    stage.send(Controller("down", pause_s=0.0))
    assert not stage.outside.standing
    assert stage.receipt is not None
    assert "did not come home before its deadline, and is lost" in stage.receipt.ending.message
    assert not stage.receipt.trained


def finished_on_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Past its deadline on a machine of the user's: a trainer that was done while nobody was there."""
    rented = VirtualCloud.up
    monkeypatch.setattr(VirtualCloud, "up", lambda *asked: msgspec.structs.replace(rented(*asked), ours=False))
    settings = msgspec.structs.replace(CALM.settings, power_off=PowerOff.KEEPS_BILLING)
    stage = Stage.set(dataclasses.replace(CALM, settings=settings, training=SHORT), tmp_path)
    stage.send(Controller("resume", pause_s=0.0, killed_at=60))
    monkeypatch.setattr(type(stage.outside.world), "runs", lambda _self, _each: True, raising=False)
    stage.outside.pass_time(stage.state.deadline_at_s + 400 - stage.outside.now_s)
    return stage


def refuses_the_key(self: VirtualShell, _patience_s: float) -> Never:
    """As a host does past the deadline, whose owner can't log in either."""
    raise ConnectionFailed(f"{self.box.host} does not take the run's key.")


@pytest.mark.parametrize("command", ["down", "resume"])
@pytest.mark.parametrize(("method", "fails"), [("get", no_result_comes), ("_reach", refuses_the_key)])
def test_a_machine_of_ones_own_keeps_the_only_copy_past_its_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, fails: Callable[..., Never], command: str
) -> None:
    """It bills nothing, so there is nothing to save but the result; nor does one that could not be asked go."""
    stage = finished_on_ones_own(tmp_path, monkeypatch)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(VirtualShell, method, fails)
        stage.send(Controller(command, pause_s=0.0))
    assert stage.outside.standing
    stage.send(Controller("down", pause_s=0.0))
    assert not stage.outside.standing
    assert stage.receipt is not None
    assert stage.receipt.trained


class FullAtTheEnd(MortalLedger):
    """A disk that has room for no line once the teardown begins."""

    def append(self, line: AnyLine) -> None:
        if isinstance(line, PhaseStarted) and line.phase == Phase.TEARDOWN:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().append(line)


def test_a_line_that_the_ledger_can_not_take_ends_no_box_with_the_only_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage.set(dataclasses.replace(CALM, training=SHORT), tmp_path)
    monkeypatch.setattr(VirtualShell, "get", nothing_comes_whole)
    stage.send(CALM.controllers[0], ledger=FullAtTheEnd(stage.places.ledger, Life()))
    assert stage.outside.standing


def test_what_was_learned_comes_home_whatever_ended_the_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here an environment that could not be built anew for a trainer that was killed at half."""
    stage = Stage.set(dataclasses.replace(CALM, training=Training(work_s=3000.0, killed_after_s=1500.0)), tmp_path)
    built, learned, real = [], [], ship.ensure_environment

    def once(*asked: Any, **more: Any) -> str:
        built.append(1)
        if len(built) > 1:
            raise ProvisionError("The environment could not be built: No space left on device")
        return real(*asked, **more)

    monkeypatch.setattr(ship, "ensure_environment", once)
    monkeypatch.setattr(training, "bring_learned", lambda *_run: learned.append(1))
    stage.send(CALM.controllers[0])
    assert not stage.outside.standing
    assert learned


def told(kind: str, **data: Any) -> Event:
    return Event(seq=1, kind=kind, at_s=1.0, monotonic_s=1.0, phase=Phase.TRAIN, data=data)


def test_after_a_notice_a_box_without_a_checkpoint_is_not_left_as_if_one_were_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage.set(CALM, tmp_path)
    run = stage._held(Life(), MortalLedger(stage.places.ledger, Life()))
    spot = msgspec.structs.replace(run.plan, offer=msgspec.structs.replace(run.plan.offer, purchase="spot"))
    monkeypatch.setattr(carrying, "fetch_newest", lambda *_asked: None)
    carrier = Carrier(dataclasses.replace(run, plans=(spot,)), None, None)  # type: ignore[arg-type]  # neither is asked
    carrier.heard(told("spot_notice"))
    try:
        carrier.heard(told("checkpoint", step=7, size_bytes=5))
    except BoxLost as lost:
        pytest.fail(f"{lost} It is not.")


@pytest.mark.parametrize("set_by_s", [9000.0, -9000.0])
def test_a_wall_clock_that_is_set_changes_nothing_of_how_often_a_checkpoint_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, set_by_s: float
) -> None:
    """Set forward it would fetch them one after the other, set back none for hours."""
    stage = Stage.set(CALM, tmp_path)
    held = stage._held(Life(), MortalLedger(stage.places.ledger, Life()))
    now, fetched = {"wall": held.clocks.wall(), "steady": 5.0}, []
    plan = msgspec.structs.replace(held.plan, offer=msgspec.structs.replace(held.plan.offer, purchase="spot"))
    run = dataclasses.replace(
        held, plans=(plan,), clocks=dataclasses.replace(held.clocks, wall=lambda: now["wall"], steady=lambda: now["steady"])
    )

    def comes_home(*_asked: object) -> Fetched:
        fetched.append(now["steady"])
        now["steady"] += 10.0
        now["wall"] += set_by_s
        return Fetched(step=1, num_bytes=1)

    monkeypatch.setattr(carrying, "fetch_newest", comes_home)
    carrier = Carrier(run, None, None)  # type: ignore[arg-type]  # neither is asked
    for later_s in (0.0, 10.0 / LINE_SHARE - 1.0, 1.0):
        now["steady"] += later_s
        now["wall"] += set_by_s
        carrier.heard(told("checkpoint", step=1, size_bytes=0))  # whose sending costs nothing
    assert fetched == [5.0, 15.0 + 10.0 / LINE_SHARE]
