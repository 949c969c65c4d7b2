"""Where a box that is off is billed on, a process at home ends the run at its deadline, whatever becomes of its controller."""

from __future__ import annotations

import itertools
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
from provision.charge.controller import hold_alone, is_locked, this_process
from provision.charge.driving import drive
from provision.charge.guard import SENTINEL, set_again
from provision.charge.ownerless.forsaken import forsaken_runs
from provision.charge.sentinel import AGAIN_S, grace_for, is_over, watch
from provision.clouds.programs import CLOUDS
from provision.errors import Exit, ProvisionError, Reason, Scope
from provision.home.clocks import CLOCKS, Clocks
from provision.home.places import Places, RunFolder
from provision.prepare.inputs import find_base
from provision.prepare.opening import Agreed, open_run
from provision.prepare.papers import read_claim
from provision.providers import known_providers, never_met, reach_words
from provision.seam import DEADLINE_GRACE_S, Answer, Box, Claim, Launch, Owned, Teardown
from provision.walk.crash import VARIABLE
from provision.walk.edges import Edges
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

    @property
    def clocks(self) -> Clocks:
        return Clocks(wall=lambda: self.now_s + self.set_s, steady=lambda: self.now_s, sleep=self.sleep)

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
    watch(run_id, ledger, lambda _state: pytest.fail("it was over"), clocks=hours.clocks)
    assert hours.now_s == pytest.approx(2000.0, abs=5.0)


def test_after_the_deadline_and_a_grace_it_ends_the_run(run_id: str, ledger: Ledger, hours: Time) -> None:
    """And again after a pause, until it is seen to be gone."""
    ledger.append(attempted(run_id, at_s=1.0, deadline_at_s=DEADLINE_AT_S))
    ends_at_s: list[float] = []

    def end_run(_state: RunState) -> bool:
        ends_at_s.append(hours.now_s)
        if len(ends_at_s) == 3:
            ledger.append(gone(run_id))
            return False
        return False

    watch(run_id, ledger, end_run, clocks=hours.clocks)
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

    def end_run(_state: RunState) -> bool:
        ended_s.append(hours.now_s)
        ledger.append(gone(run_id))
        return False

    watch(run_id, ledger, end_run, clocks=hours.clocks)
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

    def end_run(_state: RunState) -> bool:
        ended.append(hours.now_s)
        ledger.append(gone(run_id))
        return False

    monkeypatch.setattr(ledger, "runs", reading)
    watch(run_id, ledger, end_run, clocks=hours.clocks)
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

    def end_run(_state: RunState) -> bool:
        ends_at_s.append(hours.now_s)
        ledger.append(gone(run_id))
        return False

    watch(run_id, ledger, end_run, clocks=hours.clocks)
    assert ends_at_s == pytest.approx([later_s + DEADLINE_GRACE_S], abs=5.0)


@pytest.mark.parametrize(
    ("ahead_s", "is_due"),
    [(None, True), (0.0, True), (-3600.0, True), (299.0, True), (301.0, True), (310.0, False), (4 * 86_400.0, False)],
)
def test_a_clock_that_was_set_ahead_ends_nothing_where_the_provider_tells_the_time(ahead_s: float | None, is_due: bool) -> None:
    """Before anything is ended its cloud is asked, by whose clock the box lives as well."""
    listed = Owned(resources=(), complete=Answer.YES, ahead_s=ahead_s)
    assert is_over(DEADLINE_AT_S, listed, now_s=DEADLINE_AT_S + 300.0) is is_due


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
    assert state.over
    assert state.billed is not None


@pytest.mark.parametrize("back_at_look", [None, 3], ids=["for good", "for a while"])
def test_a_run_whose_ledger_is_away_at_its_deadline_is_ended_by_its_tag(
    run_id: str,
    places: Places,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    back_at_look: int | None,
) -> None:
    """Nobody else would end the box. A book that stays away keeps nobody here; one that is back is closed."""
    ledger.append(attempted(run_id, at_s=1.0, deadline_at_s=2.0))
    looks, away = itertools.count(1), places.ledger.with_suffix(".away")

    class Moved(Ledger):
        """Away after the first look."""

        def runs(self) -> dict[str, RunState]:
            look = next(looks)
            if look == back_at_look:
                away.rename(places.ledger)
            found = super().runs()
            if look == 1:
                places.ledger.rename(away)
            return found

    monkeypatch.setattr(sentinel, "Ledger", Moved)
    monkeypatch.setattr(sentinel, "AGAIN_S", 0.0)
    assert sentinel.main([run_id]) == 0
    assert "has lost it" in capsys.readouterr().out
    found = Ledger(places.ledger).runs().get(run_id)
    assert (found is not None and found.over and found.billed is not None) is (back_at_look is not None)


def test_what_fails_while_it_ends_a_run_is_told_and_tried_again(
    run_id: str, places: Places, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever it is."""
    ledger.append(attempted(run_id, at_s=1.0, deadline_at_s=2.0))
    failures, reading = iter([RuntimeError("a damaged folder")]), read_claim

    def failing(folder: RunFolder, state: RunState) -> Claim:
        if (failure := next(failures, None)) is not None:
            raise failure
        return reading(folder, state)

    monkeypatch.setattr(sentinel, "read_claim", failing)
    monkeypatch.setattr(sentinel, "AGAIN_S", 0.0)
    assert sentinel.main([run_id]) == 0
    assert "a damaged folder" in capsys.readouterr().out
    assert ledger.runs()[run_id].over


def test_nobody_in_control_is_given_no_grace(run_id: str, places: Places, ledger: Ledger) -> None:
    """What is billed by the hour may be one hour dearer for five minutes."""
    ledger.append(attempted(run_id, at_s=1.0, deadline_at_s=DEADLINE_AT_S))
    ledger.append(this_process(run_id, at_s=2.0))
    assert grace_for(ledger.runs()[run_id], places, now_s=DEADLINE_AT_S) == DEADLINE_GRACE_S
    dead = msgspec.structs.replace(this_process(run_id, at_s=3.0), start_ticks=1)
    ledger.append(dead)
    assert grace_for(ledger.runs()[run_id], places, now_s=DEADLINE_AT_S) == 0.0
    ledger.append(msgspec.structs.replace(dead, at_s=4.0, boot_id="another", machine="another"))
    assert grace_for(ledger.runs()[run_id], places, now_s=DEADLINE_AT_S) == DEADLINE_GRACE_S


def test_a_run_that_nobody_controls_gets_its_sentinel_back(plan: Plan, places: Places, ledger: Ledger) -> None:
    """It did not outlive this machine's last reboot: the next command that tells of the run sets it again, and one alone."""
    there = msgspec.structs.replace(plan, offer=msgspec.structs.replace(plan.offer, provider="hetzner"))
    run_id = open_run(there, find_base(plan.request.model), places=places, ledger=ledger, clock=time.time)
    asked = attempted(run_id, at_s=1.0, deadline_at_s=time.time() + 600.0)
    ledger.append(msgspec.structs.replace(asked, offer=there.offer))
    try:
        for _ in range(2):
            set_again(forsaken_runs(places, now_s=time.time()), places, {**os.environ})
            await_true(lambda: is_locked(places.run(run_id).sentinel))
        assert len(sentinels(run_id)) == 1
    finally:
        for each in sentinels(run_id):
            each.kill()


def test_a_second_one_leaves_to_the_first(run_id: str, places: Places, ledger: Ledger) -> None:
    ledger.append(attempted(run_id, at_s=1.0, deadline_at_s=2.0))
    with hold_alone(places.run(run_id).sentinel, CLOCKS):
        assert subprocess.run([*SENTINEL, run_id], check=False, timeout=60).returncode == 0
    assert not ledger.runs()[run_id].over


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
    run_id = open_run(first, base, places=places, ledger=ledger, clock=time.time, agreed=Agreed(alternatives=tuple(others)))
    never_reached = {**os.environ, VARIABLE: "fetch:after"}
    looks = Looks(ProvisionError("No room."))
    receipt = drive(run_id, Edges(places, Quiet(), environment=never_reached, make=lambda _claim: looks))
    assert receipt.exit_code == Exit.FAILED
    assert len(seen) == watched
    assert crash_points == [None] * watched
    await_true(lambda: not sentinels(run_id))


def test_plan_and_run_say_which_clouds_need_it_and_what_remains() -> None:
    """One sentence among what a plan takes for granted."""
    cautions = {name: provider.caution for name, provider in known_providers().items()}
    assert {name for name, caution in cautions.items() if caution} == {"hetzner", "digitalocean", "runpod"}
    assert "while this one is off or without a line, the box switches itself off, and hetzner" in str(cautions["hetzner"])
    assert "while this one is off or without a line, the box asks runpod for its own end" in str(cautions["runpod"])


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_cloud_that_was_never_met_is_called_so_before_the_first_dollar(cloud: str) -> None:
    assert f"was never run against the real {cloud}" in str(never_met(cloud))


def test_nothing_is_said_of_one_s_own_machines() -> None:
    assert never_met(LOCAL) is None


def test_who_may_reach_a_box_is_said_before_it_is_rented() -> None:
    """Where nobody can be kept out that is said, too; on one's own machines nothing opens."""
    assert "this machine alone" in str(reach_words("aws", ()))
    assert "203.0.113.7/32" in str(reach_words("gcp", ("203.0.113.7/32",)))
    assert "from everywhere" in str(reach_words("runpod", ()))
    assert reach_words(LOCAL, ()) is None
