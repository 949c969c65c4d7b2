"""Every way out of the block ends the box, and the ledger says how."""

from __future__ import annotations

import datetime as dt
import errno
import os
import signal
import time
from decimal import Decimal
from pathlib import Path

import pytest

from catalogs.hardware import Billing
from provision.account.ledger import Ledger
from provision.account.lines import Opened, PhaseEnded
from provision.account.runs import RunState
from provision.direct.here import local_offer
from provision.errors import BadInput, BoxLost, NotOrdered, ProvisionError
from provision.home.clocks import CLOCKS
from provision.seam import Answer, Box, Claim, Ends, InCharge, Launch, Layer, Owned, Resource, ResourceEnd, Teardown, unshared
from provision.walk.renting import Renting, end, holding
from tests.provision.plans import attempted


class Rented:
    """A provisioner that notes what it is asked, and misbehaves where it is told to."""

    name = "noted"
    list_lag_s = worst_teardown_s = 0.0
    look = ""

    def __init__(self, *, up_fails: bool = False, destroy_fails: bool = False, interrupt_destroy: bool = False) -> None:
        self.asked: list[str] = []
        self.up_fails = up_fails
        self.destroy_fails = destroy_fails
        self.interrupt_destroy = interrupt_destroy

    def up(self, offer: object, launch: Launch) -> Box:
        self.asked.append("up")
        if self.up_fails:
            raise ProvisionError("No room.")
        return Box(
            run_id=launch.run_id,
            provider=self.name,
            host="192.0.2.1",
            port=22,
            user="u",
            host_key="ssh-ed25519 AAAA",
            folder="/f",
        )

    def destroy(self, claim: Claim, in_charge: InCharge = unshared) -> Teardown:
        if self.interrupt_destroy:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        self.asked.append("destroy")
        if self.destroy_fails:
            raise RuntimeError("a fault of the program")
        return Teardown.destroyed(claim.run_id, "Gone.")

    def owned(self, claim: Claim | None = None) -> Owned:
        raise NotImplementedError

    def console(self, claim: Claim) -> str:
        raise NotImplementedError

    def account(self) -> str | None:
        raise NotImplementedError

    def readmit(self, claim: Claim) -> str | None:
        raise NotImplementedError

    def rearm(self, claim: Claim, ends: Ends) -> None:
        raise NotImplementedError

    def layers(self, claim: Claim) -> tuple[Layer, ...]:
        raise NotImplementedError


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    return Launch(run_id="run-1", owner="me", folder=tmp_path, public_key="ssh-ed25519 AAAA", deadline_at_s=1e10)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A ledger in which the run is opened, as the walk leaves it to the block."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    billing = Billing(
        provider="noted",
        increment_s=1,
        minimum_s=0,
        stopped_compute_bills=None,
        stopped_disk_bills=None,
        minimum_disk_gib=0,
        disk_usd_per_gib_month=None,
        egress_usd_per_gb=None,
        egress_free_gb=0,
        source="a test",
        as_of=dt.date(2026, 11, 25),
    )
    ledger.append(
        Opened(
            run_id="run-1",
            at_s=1.0,
            owner="me",
            provider="noted",
            region="here",
            instance_type="one",
            model="tiny",
            usd_per_hour=Decimal(0),
            billing=billing,
            max_usd=None,
            deadline_at_s=1e10,
            tags={},
            versions={},
            folder="/runs/run-1",
        )
    )
    return ledger


def _state(ledger: Ledger) -> RunState:
    return ledger.runs()["run-1"]


def test_a_block_that_ends_well_ends_the_box(launch: Launch, ledger: Ledger) -> None:
    rented = Rented()
    with holding(local_offer(), launch, Renting(rented, ledger, clock=lambda: 5.0)) as held:
        assert _state(ledger).box == held.box
        assert rented.asked == ["up"]
    assert rented.asked == ["up", "destroy"]
    assert _state(ledger).over


@pytest.mark.parametrize("error", [BadInput("It is a folder."), OSError(errno.EIO, "Input/output error"), ValueError("Odd.")])
def test_books_that_cannot_be_read_after_the_destroy_lose_no_verdict(
    launch: Launch, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """It says that it is not written down, and why."""

    class Destroyed(Rented):
        def destroy(self, claim: Claim, in_charge: InCharge = unshared) -> Teardown:
            def broken() -> dict[str, RunState]:
                raise error

            monkeypatch.setattr(ledger, "runs", broken)
            return super().destroy(claim, in_charge)

    told = end(launch, Renting(Destroyed(), ledger, CLOCKS.wall))
    assert told.verdict == "destroyed"
    assert told.message.startswith(f"Gone. {ledger.path} could not take this line: ")


@pytest.mark.parametrize("way_out", [ValueError("a bug"), KeyboardInterrupt(), SystemExit(3)])
def test_whatever_is_raised_ends_the_box_and_goes_on(launch: Launch, ledger: Ledger, way_out: BaseException) -> None:
    rented = Rented()
    with pytest.raises(type(way_out)), holding(local_offer(), launch, Renting(rented, ledger, CLOCKS.wall)):
        raise way_out
    assert rented.asked == ["up", "destroy"]
    assert _state(ledger).over


def test_an_up_that_failed_halfway_is_destroyed_all_the_same(launch: Launch, ledger: Ledger) -> None:
    rented = Rented(up_fails=True)
    with pytest.raises(ProvisionError), holding(local_offer(), launch, Renting(rented, ledger, CLOCKS.wall)):
        pytest.fail("there is no box to work in")
    assert rented.asked == ["up", "destroy"]
    assert _state(ledger).over


class Unasked(Rented):
    """Its cloud can't be asked what it holds, so nothing was asked for."""

    def up(self, offer: object, launch: Launch) -> Box:
        self.asked.append("up")
        raise NotOrdered("Nobody answers.")


def test_what_was_never_ordered_is_no_orphan_and_costs_nothing(launch: Launch, ledger: Ledger) -> None:
    """Without a line or with a key that is none a cloud says for ten minutes that it can't be asked, and for ever after."""
    rented = Unasked()
    ledger.append(attempted("run-1", at_s=2.0))
    ledger.append(PhaseEnded(run_id="run-1", at_s=5.0, phase="create", duration_s=3.0, ok=False))
    with pytest.raises(NotOrdered), holding(local_offer(), launch, Renting(rented, ledger, CLOCKS.wall)):
        pytest.fail("there is no box to work in")
    assert rented.asked == ["up"]
    assert _state(ledger).over
    assert not _state(ledger).rentals[-1].bought


def test_what_an_earlier_attempt_may_have_left_is_ended_before(launch: Launch, ledger: Ledger) -> None:
    rented = Unasked()
    ledger.append(attempted("run-1", at_s=2.0))
    ledger.append(attempted("run-1", at_s=3.0))
    with pytest.raises(NotOrdered), holding(local_offer(), launch, Renting(rented, ledger, CLOCKS.wall)):
        pytest.fail("there is no box to work in")
    assert rented.asked == ["up", "destroy"]


@pytest.mark.fault("F19", tier="code")
def test_what_had_gone_before_anybody_looked_is_billed_until_its_deadline(launch: Launch, ledger: Ledger) -> None:
    """The state named it, the cloud did not list it any more. What was still there is billed until it was seen to be gone."""
    ledger.append(attempted("run-1", at_s=2.0, deadline_at_s=50.0))
    ends = tuple(
        ResourceEnd(resource=Resource(kind="instance", id=id, run_id="run-1"), gone=Answer.YES, at_s=90.0, before=before)
        for id, before in (("taken by its deadline", True), ("still there", False))
    )

    class Late(Rented):
        def destroy(self, claim: Claim, in_charge: InCharge = unshared) -> Teardown:
            return Teardown.destroyed(claim.run_id, "Gone.", resources=ends)

    written = end(launch, Renting(Late(), ledger, CLOCKS.wall))

    assert {each.resource.id: each.at_s for each in written.resources} == {"taken by its deadline": 50.0, "still there": 90.0}
    assert _state(ledger).teardown == written


def test_a_destroy_that_breaks_is_a_verdict_with_the_command_to_type(launch: Launch, ledger: Ledger) -> None:
    with holding(local_offer(), launch, Renting(Rented(destroy_fails=True), ledger, CLOCKS.wall)):
        pass
    teardown = _state(ledger).teardown
    assert teardown is not None
    assert teardown.verdict == "unknown"
    assert teardown.command == "rentune down run-1"
    assert not _state(ledger).over


def test_ctrl_c_during_the_destroy_is_answered_after_it(launch: Launch, ledger: Ledger) -> None:
    rented = Rented(interrupt_destroy=True)
    with pytest.raises(KeyboardInterrupt), holding(local_offer(), launch, Renting(rented, ledger, CLOCKS.wall)):
        pass
    assert rented.asked == ["up", "destroy"]
    assert _state(ledger).over
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_during_a_destroy_that_fails_is_answered_all_the_same(
    launch: Launch, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the books themselves break."""

    def broken(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ledger, "append", broken)
    with pytest.raises(KeyboardInterrupt):
        end(launch, Renting(Rented(interrupt_destroy=True), ledger, CLOCKS.wall))


def test_a_box_that_an_earlier_controller_left_is_taken_over_and_ended(launch: Launch, ledger: Ledger) -> None:
    rented = Rented()
    earlier = Rented().up(local_offer(), launch)
    with holding(local_offer(), launch, Renting(rented, ledger, CLOCKS.wall), box=earlier) as held:
        assert held.box is earlier
    assert rented.asked == ["destroy"]


def test_on_request_a_failed_block_keeps_its_box_until_the_deadline(launch: Launch, ledger: Ledger) -> None:
    rented = Rented()
    with (
        pytest.raises(ValueError, match="a bug"),
        holding(local_offer(), launch, Renting(rented, ledger, CLOCKS.wall), spare_on_failure=True),
    ):
        raise ValueError("a bug")
    assert rented.asked == ["up"]
    assert _state(ledger).teardown is None


def test_a_user_who_stops_the_run_keeps_no_box(launch: Launch, ledger: Ledger) -> None:
    rented = Rented()
    with (
        pytest.raises(KeyboardInterrupt),
        holding(local_offer(), launch, Renting(rented, ledger, CLOCKS.wall), spare_on_failure=True),
    ):
        raise KeyboardInterrupt
    assert rented.asked == ["up", "destroy"]


def test_a_box_that_is_gone_is_not_kept_to_be_looked_at(launch: Launch, ledger: Ledger) -> None:
    """`--keep-box-on-failure` is for one that stands: what is left of another is ended, and its bill with it."""
    rented = Rented()
    with (
        pytest.raises(BoxLost),
        holding(local_offer(), launch, Renting(rented, ledger, CLOCKS.wall), spare_on_failure=True) as held,
    ):
        raise BoxLost("It is gone.")
    assert not held.spared
    assert rented.asked == ["up", "destroy"]
    assert _state(ledger).over
