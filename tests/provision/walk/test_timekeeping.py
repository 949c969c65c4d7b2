"""The clock that a run goes by: nobody sets it while the run is driven, and who takes the run up goes by the one before."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from catalogs.hardware import Offer
from planner.plan import Plan
from provision.account.ledger import Ledger
from provision.account.lines import Created
from provision.charge.driving import drive
from provision.errors import Declined, Reason, Scope
from provision.home.clocks import CLOCKS, Clocks, passing_s, steadied
from provision.home.places import Places
from provision.prepare.inputs import find_base
from provision.prepare.opening import open_run
from provision.seam import Box, Claim, Launch, Owned, Resource
from provision.walk.driven import Run, read_run
from provision.walk.edges import Edges
from provision.walk.timekeeping import set_since_order_s, with_steady_clock
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Paper
from tests.provision.plans import attempted

DAY_S = 86_400.0


class Hands:
    """Clocks that a test moves."""

    def __init__(self) -> None:
        self.wall_s, self.steady_s = 1_000_000.0, 50.0

    def pass_time(self, duration_s: float) -> None:
        self.wall_s += duration_s
        self.steady_s += duration_s

    @property
    def clocks(self) -> Clocks:
        return Clocks(wall=lambda: self.wall_s, steady=lambda: self.steady_s, sleep=self.pass_time)


@pytest.mark.parametrize("set_by_s", [DAY_S, -DAY_S])
def test_a_clock_that_is_held_goes_on_whatever_the_wall_s_is_set_to(set_by_s: float) -> None:
    hands = Hands()
    clocks = steadied(hands.clocks)
    assert clocks.wall() == 1_000_000.0
    hands.pass_time(10.0)
    hands.wall_s += set_by_s
    assert clocks.wall() == 1_000_010.0
    hands.pass_time(10.0)
    assert clocks.wall() == 1_000_020.0


def test_seconds_that_a_machine_sleeps_have_passed() -> None:
    """Of a Linux machine: the deadline comes while a lid is closed."""
    assert passing_s() == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=1.0)
    assert CLOCKS.steady is passing_s


class Elsewhere(Paper):
    """Whose clock differs from ours by what it is told, and shows that in each answer."""

    def __init__(self, ahead_s: float | None) -> None:
        super().__init__()
        self.ahead_s = ahead_s

    def owned(self, claim: Claim | None = None) -> Owned:
        return msgspec.structs.replace(super().owned(claim), ahead_s=self.ahead_s)


def standing(run_id: str, places: Places, ledger: Ledger, hands: Hands, *, then_s: float, now_s: float | None) -> Run:
    """A run whose box was ordered when our clock was so far ahead of its provider's, and is that far ahead now."""
    deadline_at_s = hands.wall_s + 3600.0
    ledger.append(attempted(run_id, at_s=hands.wall_s, deadline_at_s=deadline_at_s))
    machine = Resource(kind="instance", id="i-1", run_id=run_id, deadline_at_s=float(int(deadline_at_s - then_s)))
    key = Resource(kind="key_pair", id="k", run_id=run_id, bills=False)
    fixed: dict[str, Any] = {"host": "192.0.2.1", "port": 22, "user": "u", "host_key": "ssh-ed25519 AAAA", "folder": "/f"}
    box = Box(run_id=run_id, provider="local", resources=(machine, key), **fixed)
    ledger.append(Created(run_id=run_id, at_s=hands.wall_s, box=box))
    provider = Elsewhere(now_s)
    return read_run(run_id, Edges(places, Quiet(), make=lambda _claim: provider, clocks=hands.clocks), ledger=ledger)


@pytest.mark.parametrize(
    ("then_s", "now_s", "set_s"),
    [
        (0.0, 0.0, 0.0),
        (200.0, 200.0, 0.0),  # it was off, and is
        (200.0, 0.0, -200.0),  # somebody has set it right
        (0.0, 7200.0, 7200.0),  # or wrong
        (0.0, None, 0.0),  # nobody tells
        (0.0, 3.0, 0.0),  # no more than headers can tell
    ],
)
def test_who_takes_a_run_up_goes_by_the_clock_that_its_deadline_was_told_by(
    run_id: str, places: Places, ledger: Ledger, then_s: float, now_s: float | None, set_s: float
) -> None:
    """The box ends when its provider's clock says so: as much is left to this controller as is left to the box."""
    hands = Hands()
    run = standing(run_id, places, ledger, hands, then_s=then_s, now_s=now_s)
    assert set_since_order_s(run) == pytest.approx(set_s, abs=1.0)
    assert with_steady_clock(run).left_s == pytest.approx(3600.0 + set_s, abs=1.0)


def test_what_has_no_tag_was_ordered_by_a_clock_that_agreed(run_id: str, places: Places, ledger: Ledger) -> None:
    """Nothing is ordered by one that is off by more than the grace; here nobody has seen the box yet."""
    hands, provider = Hands(), Elsewhere(7200.0)
    ledger.append(attempted(run_id, at_s=hands.wall_s, deadline_at_s=hands.wall_s + 3600.0))
    run = read_run(run_id, Edges(places, Quiet(), make=lambda _claim: provider, clocks=hands.clocks), ledger=ledger)
    assert with_steady_clock(run).left_s == 3600.0 + 7200.0


@pytest.mark.parametrize("set_by_s", [DAY_S, -DAY_S])
def test_a_clock_that_is_set_during_a_run_does_not_move_its_deadline(
    run_id: str, places: Places, ledger: Ledger, set_by_s: float
) -> None:
    hands = Hands()
    run = with_steady_clock(standing(run_id, places, ledger, hands, then_s=0.0, now_s=0.0))
    hands.pass_time(600.0)
    hands.wall_s += set_by_s
    assert run.left_s == 3000.0


def test_every_controller_holds_its_clock(plan: Plan, places: Places) -> None:
    """A day is skipped while a box is asked for: by the ledger's lines no second of it has gone by."""
    hands = Hands()
    ledger = Ledger(places.ledger)
    run_id = open_run(plan, find_base(plan.request.model), places=places, ledger=ledger, clock=hands.clocks.wall)

    class Sets(Paper):
        def up(self, offer: Offer, launch: Launch) -> Box:
            hands.wall_s += DAY_S
            raise Declined("No room.", reason=Reason.CAPACITY, scope=Scope.OFFER)

    drive(run_id, Edges(places, Quiet(), make=lambda _claim: Sets(), clocks=hands.clocks))
    assert {line.at_s for line in ledger.lines()} == {1_000_000.0}
    assert ledger.runs()[run_id].over
