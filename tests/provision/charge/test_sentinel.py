"""Where a box that is off is billed on, a process at home ends the run at its deadline, whatever becomes of its controller."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from decimal import Decimal

import msgspec
import psutil
import pytest

from catalogs.hardware import Offer
from planner.asking.request import LOCAL
from planner.plan import Plan
from provision.account.ledger import Ledger
from provision.account.lines import Ended, Tried
from provision.account.runs import RunState
from provision.charge import sentinel
from provision.charge.control import SENTINEL, drive
from provision.charge.controller import hold_alone
from provision.charge.sentinel import AGAIN_S, is_over, watch
from provision.clouds.programs import CLOUDS
from provision.errors import Exit, ProvisionError, Reason, Scope
from provision.home.places import Places
from provision.prepare.inputs import find_base
from provision.prepare.opening import open_run
from provision.providers import known_providers, never_met
from provision.provisioner import DEADLINE_GRACE_S, Answer, Box, Launch, Owned, Teardown
from provision.walk.crash import VARIABLE
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Failing
from tests.provision.plans import attempted
from tests.provision.rigs import await_true

DEADLINE_AT_S = 5000.0
HOUR_S = 3600.0


class Time:
    """A clock that only sleeping moves, and what happens at some of its seconds. `set_s`: how far the wall clock was set."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.set_s = 0.0
        self.at: list[tuple[float, Callable[[], None]]] = []

    def clock(self) -> float:
        return self.now_s + self.set_s

    def steady(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        while self.at and self.at[0][0] <= self.now_s:
            self.at.pop(0)[1]()


@pytest.fixture
def hours() -> Time:
    return Time()


def gone(run_id: str) -> Ended:
    return Ended(run_id=run_id, at_s=1.0, teardown=Teardown.destroyed(run_id, ""))


def test_a_run_that_ended_is_nobody_s_business(run_id: str, ledger: Ledger, hours: Time) -> None:
    """It leaves within a look; nothing was ended by it."""
    ledger.append(attempted(run_id, at_s=1.0, deadline_at_s=DEADLINE_AT_S))
    hours.at = [(2000.0, lambda: ledger.append(gone(run_id)))]
    watch(run_id, ledger, lambda: pytest.fail("it was over"), clock=hours.clock, steady=hours.steady, sleep=hours.sleep)
    assert hours.now_s == pytest.approx(2000.0, abs=5.0)


def test_after_the_deadline_and_a_grace_it_ends_the_run(run_id: str, ledger: Ledger, hours: Time) -> None:
    """And again after a pause, until it is seen to be gone."""
    ledger.append(attempted(run_id, at_s=1.0, deadline_at_s=DEADLINE_AT_S))
    ends_at_s: list[float] = []

    def end_run() -> Teardown:
        ends_at_s.append(hours.now_s)
        if len(ends_at_s) == 3:
            ledger.append(gone(run_id))
            return Teardown.destroyed(run_id, "")
        return Teardown.unknown(run_id, "No line.")

    watch(run_id, ledger, end_run, clock=hours.clock, steady=hours.steady, sleep=hours.sleep)
    first_s = DEADLINE_AT_S + DEADLINE_GRACE_S
    assert ends_at_s == pytest.approx([first_s, first_s + AGAIN_S, first_s + 2 * AGAIN_S], abs=10.0)


@pytest.mark.parametrize(
    ("set_s", "ends_at_s"), [(-86_400.0, DEADLINE_AT_S + DEADLINE_GRACE_S), (1000.0, DEADLINE_AT_S + DEADLINE_GRACE_S - 1000.0)]
)
def test_a_clock_that_is_set_back_puts_the_deadline_off_by_nothing(
    run_id: str, ledger: Ledger, hours: Time, set_s: float, ends_at_s: float
) -> None:
    """One that is set forward is believed: that is how a machine wakes from its sleep."""
    ledger.append(attempted(run_id, at_s=1.0, deadline_at_s=DEADLINE_AT_S))
    hours.at = [(2000.0, lambda: setattr(hours, "set_s", set_s))]
    ended_s: list[float] = []

    def end_run() -> Teardown:
        ended_s.append(hours.now_s)
        ledger.append(gone(run_id))
        return Teardown.destroyed(run_id, "")

    watch(run_id, ledger, end_run, clock=hours.clock, steady=hours.steady, sleep=hours.sleep)
    assert ended_s == pytest.approx([ends_at_s], abs=5.0)


def test_a_ledger_that_can_not_be_read_for_a_while_is_no_end(
    run_id: str, ledger: Ledger, hours: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is one that is lost: nobody else would end the box."""
    ledger.append(attempted(run_id, at_s=1.0, deadline_at_s=DEADLINE_AT_S))
    ended: list[float] = []
    runs, failures = ledger.runs, iter([OSError("the disk"), KeyError(run_id), ProvisionError("not now")])

    def reading() -> Mapping[str, RunState]:
        if hours.now_s > 2000.0 and (failure := next(failures, None)) is not None:
            raise failure
        return runs()

    def end_run() -> Teardown:
        ended.append(hours.now_s)
        ledger.append(gone(run_id))
        return Teardown.destroyed(run_id, "")

    monkeypatch.setattr(ledger, "runs", reading)
    watch(run_id, ledger, end_run, clock=hours.clock, steady=hours.steady, sleep=hours.sleep)
    assert len(ended) == 1
    assert next(failures, None) is None


def test_between_two_attempts_it_stays_and_takes_the_next_deadline(run_id: str, ledger: Ledger, hours: Time) -> None:
    """What a first attempt leaves is no end, and a second has a deadline of its own."""
    ledger.append(attempted(run_id, at_s=1.0, deadline_at_s=DEADLINE_AT_S))
    ledger.append(gone(run_id))
    ledger.append(
        Tried(
            run_id=run_id,
            at_s=2.0,
            offer="o",
            reason=Reason.CAPACITY,
            scope=Scope.OFFER,
            message="",
            took_s=1.0,
            usd=Decimal(0),
        )
    )
    later_s = 9000.0
    hours.at = [(1100.0, lambda: ledger.append(attempted(run_id, at_s=1100.0, deadline_at_s=later_s)))]
    ends_at_s: list[float] = []

    def end_run() -> Teardown:
        ends_at_s.append(hours.now_s)
        ledger.append(gone(run_id))
        return Teardown.destroyed(run_id, "")

    watch(run_id, ledger, end_run, clock=hours.clock, steady=hours.steady, sleep=hours.sleep)
    assert ends_at_s == pytest.approx([later_s + DEADLINE_GRACE_S], abs=5.0)


@pytest.mark.parametrize(
    ("ahead_s", "is_due"), [(None, True), (0.0, True), (-3600.0, True), (299.0, True), (3600.0, False), (4 * 86_400.0, False)]
)
def test_a_clock_that_was_set_ahead_ends_nothing_where_the_provider_tells_the_time(
    run_id: str, ledger: Ledger, ahead_s: float | None, is_due: bool
) -> None:
    """Before anything is ended its cloud is asked, by whose clock the box lives as well."""
    ledger.append(attempted(run_id, at_s=1.0, deadline_at_s=DEADLINE_AT_S))
    listed = Owned(resources=(), complete=Answer.YES, ahead_s=ahead_s)
    now_s = DEADLINE_AT_S + DEADLINE_GRACE_S + 300.0
    assert is_over(ledger.runs()[run_id], listed, now_s=now_s) is is_due


def test_so_it_asks_before_it_ends_a_run(
    run_id: str, places: Places, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By this machine's clock the deadline has long passed, by theirs it has not: it says so, and lets the box train on."""
    now_s = time.time()
    ledger.append(attempted(run_id, at_s=1.0, deadline_at_s=now_s - HOUR_S))

    def lists_and_is_done(_state: RunState, _places: Places) -> Owned:
        ledger.append(gone(run_id))  # by its own controller, meanwhile: else this would go on asking for hours
        return Owned(resources=(), complete=Answer.YES, ahead_s=2 * HOUR_S)

    monkeypatch.setattr(sentinel, "_listed", lists_and_is_done)
    monkeypatch.setattr(sentinel, "LOOK_S", 0.0)
    assert sentinel.main([run_id]) == 0
    said = capsys.readouterr().out
    assert "2 h 00 min ahead of the providers'. By theirs the deadline has not passed." in said
    assert "ending it" not in said
    assert ledger.runs()[run_id].billed is None


def test_as_a_process_it_ends_a_run_whose_controller_died(run_id: str, places: Places, ledger: Ledger) -> None:
    """Long past its deadline: ended, its books closed, and the process gone."""
    ledger.append(attempted(run_id, at_s=1.0, deadline_at_s=2.0))
    assert subprocess.run([*SENTINEL, run_id], check=False, timeout=60).returncode == 0
    state = ledger.runs()[run_id]
    assert state.ended
    assert state.billed is not None


def test_a_second_one_leaves_to_the_first(run_id: str, places: Places, ledger: Ledger) -> None:
    ledger.append(attempted(run_id, at_s=1.0, deadline_at_s=2.0))
    with hold_alone(places.run(run_id).sentinel):
        assert subprocess.run([*SENTINEL, run_id], check=False, timeout=60).returncode == 0
    assert not ledger.runs()[run_id].ended


def sentinels(run_id: str) -> list[psutil.Process]:
    found = psutil.process_iter(["cmdline", "status"])
    return [
        each
        for each in found
        if (each.info["cmdline"] or [])[1:] == [*SENTINEL[1:], run_id] and each.info["status"] != psutil.STATUS_ZOMBIE
    ]


@pytest.mark.parametrize(
    ("providers", "watched"), [(["hetzner"], 1), (["aws"], 0), (["local"], 0), (["aws", "hetzner"], 1), (["aws", "gcp"], 0)]
)
def test_whoever_takes_charge_sets_one_where_it_is_needed(
    plan: Plan, places: Places, ledger: Ledger, providers: list[str], watched: int
) -> None:
    """In a session of its own, with no crash point: it is there for when its controller has died. It leaves when the run has
    ended. One that may only go on to such a cloud needs it as well.
    """
    seen: list[psutil.Process] = []
    crash_points: list[str | None] = []

    class Looks(Failing):
        def up(self, offer: Offer, launch: Launch) -> Box:
            if watched:
                await_true(lambda: sentinels(launch.run_id))
            found = sentinels(launch.run_id)
            crash_points.extend(each.environ().get(VARIABLE) for each in found)
            seen.extend(found)
            return super().up(offer, launch)

    first, *others = (
        msgspec.structs.replace(plan, offer=msgspec.structs.replace(plan.offer, provider=each)) for each in providers
    )
    base = find_base(plan.request.model)
    run_id = open_run(first, base, places=places, ledger=ledger, clock=time.time, alternatives=tuple(others))
    never_reached = {**os.environ, VARIABLE: "fetch:after"}
    looks = Looks(ProvisionError("No room."))
    receipt = drive(run_id, places=places, display=Quiet(), environment=never_reached, make=lambda _claim: looks)
    assert receipt.exit_code == Exit.FAILED
    assert len(seen) == watched
    assert crash_points == [None] * watched
    await_true(lambda: not sentinels(run_id))


def test_plan_and_run_say_which_clouds_need_it_and_what_remains() -> None:
    """One sentence among what a plan takes for granted."""
    cautions = {name: provider.caution for name, provider in known_providers().items()}
    assert {name for name, caution in cautions.items() if caution} == {"hetzner", "digitalocean", "runpod"}
    assert "while this one is off or without a line, it switches itself off, and hetzner bills it" in str(cautions["hetzner"])
    assert "while this one is off or without a line, it asks runpod for its own end" in str(cautions["runpod"])


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_cloud_that_was_never_met_is_called_so_before_the_first_dollar(cloud: str) -> None:
    assert f"was never run against the real {cloud}" in str(never_met(cloud))


def test_nothing_is_said_of_one_s_own_machines() -> None:
    assert never_met(LOCAL) is None
