"""What a machine costs on, running or switched off, by what its provider bills then; and what it has cost so far."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from catalogs.hardware import WHILE_OFF, WhileOff
from planner.plan import Plan
from provision.account.bill import costs_on
from provision.account.upkeep import OFF, Bound, Spent, is_billed, spent, spent_words, upkeep, upkeep_words
from provision.commands.ls import describe, stands
from provision.home.places import Places
from provision.report.tables import left_sentences, teardown_table
from provision.seam import Answer, Resource, ResourceEnd, Teardown
from tests.provision.account.receipts import OPENED_AT_S, receipt_of, run_state
from tests.provision.plans import FREE, rental

HOUR_S = 3600.0
BOX = Resource(kind="instance", id="i-1", run_id="r", usd_per_hour=Decimal("3.65"), since_s=0.0, runs=Answer.NO, off_gib=100)
RULES = {
    rule: msgspec.structs.replace(
        FREE, stopped_compute_bills=pair[0], stopped_disk_bills=pair[1], disk_usd_per_gib_month=Decimal("0.0730")
    )
    for pair, rule in {**WHILE_OFF, (None, None): WhileOff.UNKNOWN}.items()
}


def box(**fields: Any) -> Resource:
    return msgspec.structs.replace(BOX, **fields)


# What is billed while it is off -> what is said, and what it has cost when it ran for an hour and was off for three.
SAYS = {
    WhileOff.NOTHING: ("it is off, and nothing is billed: $0 an hour, $0.00 a month", "$3.6500 so far"),
    WhileOff.DISK: ("it is off, and its disk of 100 GiB is billed: $0.0100 an hour, $7.30 a month", "$3.6800 so far"),
    WhileOff.AT_LEAST_DISK: (
        "it is off, and its disk of 100 GiB is billed: at least $0.0100 an hour, $7.30 a month",
        "at least $3.6800 so far",
    ),
    WhileOff.EVERYTHING: (
        "it is off, and everything is billed as before: $3.6500 an hour, $2,664.50 a month",
        "$14.6000 so far",
    ),
    WhileOff.UNKNOWN: (
        "it is off, and what its provider bills then is not known: at a price that is not known",
        "at least $3.6500 so far",
    ),
}


@pytest.mark.parametrize("rule", WhileOff)
def test_a_machine_that_is_off_costs_what_its_provider_bills_then(rule: WhileOff) -> None:
    """By the hour and the month; and so far at the price of one that runs only while it ran."""
    assert RULES[rule].while_off is rule
    off = box(off_since_s=HOUR_S)
    so_far = spent(off, RULES[rule], now_s=4 * HOUR_S)
    assert so_far is not None
    assert (upkeep_words(upkeep(off, RULES[rule])), spent_words(so_far)) == SAYS[rule]


@pytest.mark.parametrize("rule", WhileOff)
def test_since_when_it_is_off_nobody_tells_so_what_it_has_cost_is_a_bound(rule: WhileOff) -> None:
    """Unless that makes no difference."""
    bound: Bound = "exactly" if rule is WhileOff.EVERYTHING else "at most"
    assert spent(BOX, RULES[rule], now_s=4 * HOUR_S) == Spent(usd=Decimal("14.60"), bound=bound)


def test_one_that_runs_costs_its_price_and_one_of_which_nothing_is_told_at_most_that() -> None:
    """No rule of what is off changes either."""
    running, untold = box(runs=Answer.YES), box(runs=Answer.UNKNOWN)
    for rule in (*RULES.values(), None):
        assert upkeep_words(upkeep(running, rule)) == "it runs: $3.6500 an hour, $2,664.50 a month"
        assert spent(running, rule, now_s=HOUR_S) == Spent(usd=Decimal("3.65"), bound="exactly")
        said = "whether it runs is not known: at most $3.6500 an hour, $2,664.50 a month"
        assert upkeep_words(upkeep(untold, rule)) == said
        assert spent(untold, rule, now_s=HOUR_S) == Spent(usd=Decimal("3.65"), bound="at most")


def test_what_cannot_be_known_is_called_so() -> None:
    """No price on its tag, nobody who knows when it was made, no size of its disk, a provider without a row."""
    assert spent(box(usd_per_hour=None), None, now_s=1.0) is None
    assert spent(box(since_s=None), None, now_s=1.0) is None
    for costs in (upkeep(box(off_gib=None), RULES[WhileOff.DISK]), upkeep(BOX, None)):
        assert costs.usd_per_hour is None
        assert upkeep_words(costs).endswith("at a price that is not known")


def test_a_machine_that_keeps_no_disk_costs_nothing_where_only_that_is_billed() -> None:
    """Whatever the price of disks is."""
    words = upkeep_words(upkeep(box(off_gib=0), RULES[WhileOff.DISK]))
    assert words == "it is off, and keeps no disk that is billed: $0 an hour, $0.00 a month"


def test_a_disk_of_a_machine_is_on_the_machines_bill_and_one_that_is_left_or_kept_on_its_own() -> None:
    disk = Resource(kind="volume", id="v", size_gib=100, in_use=True)
    left, kept = msgspec.structs.replace(disk, in_use=False), msgspec.structs.replace(disk, name="models")
    assert [is_billed(each) for each in (BOX, disk, left, kept)] == [True, False, True, True]
    assert not is_billed(Resource(kind="key_pair", id="k"))
    rule = msgspec.structs.replace(RULES[WhileOff.DISK], volume_usd_per_gib_month=Decimal("0.10"))
    assert [upkeep(each, rule).usd_per_month for each in (left, kept)] == [Decimal("7.30"), Decimal("10.00")]


def test_every_rule_has_its_sum() -> None:
    assert set(OFF) == set(WhileOff)


# ── a run whose box is still there ─────────────────────────────────────────────────────────────────────────────────


def still_there(*ends: ResourceEnd) -> Teardown:
    return Teardown.orphaned("r", "aws still lists instance i-1.", resources=ends)


def test_report_and_teardown_say_what_is_billed_on_of_what_is_there(plan: Plan) -> None:
    """At the rule and the price that were frozen when it was asked for; of what is gone, and of keys, nothing."""
    gone = ResourceEnd(resource=box(id="i-0"), gone=Answer.YES, at_s=1.0)
    off = ResourceEnd(resource=box(usd_per_hour=None), gone=Answer.NO, at_s=1.0)
    key = ResourceEnd(resource=Resource(kind="key_pair", id="k"), gone=Answer.NO, at_s=1.0)
    unseen = ResourceEnd(resource=box(id="i-2", runs=Answer.UNKNOWN), gone=Answer.UNKNOWN, at_s=1.0)
    rented = rental(msgspec.structs.replace(plan, billing=RULES[WhileOff.DISK]), started_at_s=0.0)
    teardown = still_there(gone, off, key, unseen)
    state = run_state(plan, rentals=(rented,), teardown=teardown)
    costs = costs_on(state)
    assert left_sentences(teardown, costs) == (
        "instance i-1 is there; it is off, and its disk of 100 GiB is billed: $0.0100 an hour, $7.30 a month.",
        "instance i-2 may be there; whether it runs is not known: at most $3.6500 an hour, $2,664.50 a month.",
    )
    table = teardown_table(receipt_of(plan, state))
    assert table is not None
    assert dict(zip((row[1] for row in table.rows), (row[2] for row in table.rows), strict=True)) == {
        "i-0": "yes",
        "i-1": "no; it is off, and its disk of 100 GiB is billed: $0.0100 an hour, $7.30 a month",
        "k": "no",
        "i-2": "unknown; whether it runs is not known: at most $3.6500 an hour, $2,664.50 a month",
    }


def test_the_list_of_runs_says_it_of_a_box_that_its_teardown_left(plan: Plan, places: Places) -> None:
    """As it was seen last: `ls` asks no cloud."""
    rented = rental(msgspec.structs.replace(plan, billing=RULES[WhileOff.DISK]), started_at_s=0.0)
    left = still_there(ResourceEnd(resource=BOX, gone=Answer.NO, at_s=1.0))
    row = describe(run_state(plan, rentals=(rented,), teardown=left), places, now_s=OPENED_AT_S + 1)
    assert stands(row).endswith("; i-1: it is off, and its disk of 100 GiB is billed: $0.0100 an hour, $7.30 a month")
    gone = still_there(ResourceEnd(resource=BOX, gone=Answer.YES, at_s=1.0))
    assert describe(run_state(plan, rentals=(rented,), teardown=gone), places, now_s=OPENED_AT_S + 1)["costs_on"] == {}


def test_one_whose_tags_were_not_seen_costs_what_was_agreed_to(plan: Plan) -> None:
    """Its state alone names it."""
    everything = rental(msgspec.structs.replace(plan, billing=RULES[WhileOff.EVERYTHING]), started_at_s=0.0)
    off = ResourceEnd(resource=box(usd_per_hour=None), gone=Answer.NO, at_s=1.0)
    state = run_state(plan, rentals=(everything,), teardown=still_there(off))
    assert costs_on(state)["i-1"].usd_per_hour == plan.offer.usd_per_hour
