"""Two runs on one machine of the user's: the second says so before it begins, with what both take of the memory."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from planner.plan import Plan
from planner.saved import write_plan
from planner.units import GIB
from provision.account.lines import Opened
from provision.account.runs import RunState
from provision.home.places import Places
from provision.prepare.beside import beside_words, environment_words, plan_in
from tests.provision.plans import tiny_files, tiny_plan

NOW_S = 1_000.0


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """4 of 10 GiB of this machine's RAM."""
    some = tiny_plan(*tiny_files(tmp_path), usd_per_hour=Decimal(0))
    host = msgspec.structs.replace(some.host, ram_peak_bytes=4 * GIB)
    return msgspec.structs.replace(some, host=host, margin_bytes=6 * GIB)


def opened(plan: Plan, run_id: str = "first", **changes: object) -> RunState:
    """A run of that plan that nobody has ended."""
    line = Opened(
        run_id=run_id,
        at_s=NOW_S - 60,
        owner="me",
        provider=plan.offer.provider,
        region=plan.offer.region,
        instance_type=plan.offer.instance_type,
        model=plan.request.model,
        usd_per_hour=plan.offer.usd_per_hour,
        billing=plan.billing,
        max_usd=None,
        deadline_at_s=NOW_S + 60,
        tags={},
        versions={},
        folder="/nowhere",
    )
    line = msgspec.structs.replace(line, **changes)
    return RunState(run_id=run_id, opened=line, deadline_at_s=line.deadline_at_s)


def test_who_is_there_is_told_with_what_all_take(plan: Plan) -> None:
    assert beside_words(plan, [opened(plan)], now_s=NOW_S, plan_of=lambda _run: plan) == (
        "run first is on this machine, too: together they need 8.0 of 10.0 GiB of RAM, and each takes longer"
    )
    three = beside_words(plan, [opened(plan), opened(plan, "second")], now_s=NOW_S, plan_of=lambda _run: plan)
    assert three == (
        "runs first, second are on this machine, too: together they need 12.0 of 10.0 GiB of RAM, "
        "more than there is, so one may end out of memory"
    )


def test_a_plan_that_was_lost_is_no_reason_to_say_nothing(plan: Plan) -> None:
    told = beside_words(plan, [opened(plan)], now_s=NOW_S, plan_of=lambda _run: None)
    assert told is not None
    assert "together they need at least 4.0 of 10.0 GiB" in told


def test_nothing_is_told_of_runs_elsewhere_or_over_or_past_their_deadline(plan: Plan) -> None:
    """Past it the machine's own reaper has ended them; a rented machine has no other run."""
    others = (
        opened(plan, provider="aws"),
        opened(plan, instance_type="me@192.0.2.1:22"),
        opened(plan, deadline_at_s=NOW_S - 1),
    )
    assert beside_words(plan, others, now_s=NOW_S, plan_of=lambda _run: plan) is None
    rented = msgspec.structs.replace(plan, offer=msgspec.structs.replace(plan.offer, provider="aws"))
    assert beside_words(rented, [opened(rented)], now_s=NOW_S, plan_of=lambda _run: plan) is None


def test_the_plan_of_a_run_is_read_from_its_folder(plan: Plan, places: Places) -> None:
    """One that is missing or damaged is none."""
    file = places.run("first").plan
    file.parent.mkdir(parents=True)
    assert plan_in(places)("first") is None
    file.write_text(write_plan(plan))
    assert plan_in(places)("first") == plan
    file.write_bytes(b"\xff")
    assert plan_in(places)("first") is None


def test_a_host_is_said_to_fetch_the_packages_and_this_machine_has_them(plan: Plan) -> None:
    """Gigabytes over somebody's line are no surprise."""
    host = msgspec.structs.replace(plan.host, disk_components={"environment": 5 * GIB})
    there = msgspec.structs.replace(plan, host=host, offer=msgspec.structs.replace(plan.offer, provider="host"))
    assert environment_words(there) == (
        "The host fetches the trainer's packages first, 5.0 GiB on its disk, unless an earlier run left them there."
    )
    assert environment_words(msgspec.structs.replace(plan, host=host)) is None
