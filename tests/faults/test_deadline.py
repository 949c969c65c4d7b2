"""A box that its deadline ends: noticed at once, named, and billed until then and no longer."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
import pytest

from planner.plan import Plan
from provision.charge.ends.ending import end
from provision.errors import Exit
from provision.seam import Answer
from provision.walk.edges import Edges
from tests.doubles.displays import Quiet
from tests.doubles.proxy import Proxy
from tests.faults.rehearsal import Rehearsal, wait_until
from tests.faults.standins import ScriptedBox

pytestmark = pytest.mark.box

DEADLINE_S = 12.0
# A trainer that is in one long step when the deadline comes, and can't leave before it.
DEAF = """printf '{"seq":0,"kind":"phase_started","phase":"probe","at_s":%s,"monotonic_s":1.0}\\n' "$(date +%s)" > events.jsonl
exec sleep 1000"""


@pytest.fixture
def line() -> Iterator[Proxy]:
    with Proxy(target_port=0) as line:
        yield line


def at_most_an_hour(plan: Plan) -> Plan:
    budget = msgspec.structs.replace(plan.request.budget, max_hours=1.0)
    return msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, budget=budget))


@pytest.mark.fault("F19", tier="box")
def test_a_box_that_its_deadline_ends_is_told_and_billed_as_such(rehearsal: Rehearsal, line: Proxy) -> None:
    """Not waited for: nobody answers after the deadline. What stands in the receipt ends there, too."""
    run_id = rehearsal.open(deadline_s=DEADLINE_S, change=at_most_an_hour)
    receipt = rehearsal.drive(run_id, make=lambda _launch: ScriptedBox(rehearsal, line, DEAF))
    deadline_at_s = rehearsal.state(run_id).deadline_at_s
    assert (receipt.ending.reason, receipt.ending.ended_by, receipt.exit_code) == (None, "deadline", Exit.FAILED)
    assert "deadline came" in receipt.ending.message
    assert "--max-hours" in receipt.ending.message
    assert "Most of its time went to probe" in receipt.ending.message
    assert "Nothing that it learned is saved." in receipt.ending.message
    [rental] = rehearsal.state(run_id).rentals
    assert rental.ended_at_s == pytest.approx(deadline_at_s, abs=5.0)
    assert receipt.span.billed_s <= DEADLINE_S + 5.0
    [probe] = [figure.metered for figure in receipt.phases if figure.name == "probe"]
    assert probe is not None
    assert probe <= DEADLINE_S + 5.0
    assert receipt.span.ended_at_s < deadline_at_s + 60.0


def test_what_the_deadline_took_stands_in_the_teardown(rehearsal: Rehearsal) -> None:
    """`down` comes hours too late and finds nothing: what was created is listed all the same, gone since the deadline."""
    run_id = rehearsal.open(deadline_s=DEADLINE_S)
    rehearsal.kill_controller_at(run_id, "boot")
    wait_until(lambda: rehearsal.is_gone(run_id) and time.time() > rehearsal.state(run_id).deadline_at_s)
    teardown = end(run_id, Edges(rehearsal.places, Quiet()))
    assert {each.resource.kind for each in teardown.resources} >= {"process", "folder"}
    assert all(each.gone is Answer.YES for each in teardown.resources)
    state = rehearsal.state(run_id)
    assert [rental.ended_at_s for rental in state.rentals] == [state.deadline_at_s]
