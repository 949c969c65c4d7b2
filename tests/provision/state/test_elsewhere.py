"""A run that was opened here and is in other hands, as this home's own commands show it."""

from __future__ import annotations

import time
from decimal import Decimal

import msgspec
import pytest

from planner.plan import Plan
from provision.account.bill import usd_so_far
from provision.account.ledger import Ledger
from provision.account.lines import Ended, Late
from provision.account.receipt.value import Receipt
from provision.charge.ends.ending import end
from provision.charge.ownerless import looking
from provision.charge.ownerless.elsewhere import ask_stores
from provision.cli import call
from provision.errors import ControlLost, Exit
from provision.home.clocks import CLOCKS
from provision.seam import Teardown
from provision.state.shared import bring, refresh
from provision.walk.books import billed
from provision.walk.edges import Edges
from tests.doubles.displays import Quiet
from tests.provision.account.receipts import outcome_of, receipt_of, run_state
from tests.provision.plans import attempted
from tests.provision.state.conftest import Team


@pytest.fixture
def receipt(team: Team, plan: Plan) -> Receipt:
    """What the other machine closes the books with."""
    return msgspec.structs.replace(receipt_of(plan, run_state(plan), outcome_of()), run_id=team.run_id)


@pytest.fixture(autouse=True)
def at_home(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are typed where the run was opened. The store's credentials are AWS's, too; its account is not what is asked."""
    monkeypatch.setenv("RENTUNE_HOME", str(team.here.home))
    monkeypatch.setattr(looking, "clouds_in_reach", lambda _environment: ())


def test_a_run_that_another_machine_has_brought_to_its_end_is_no_orphan_at_home(
    team: Team, receipt: Receipt, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its sum grew here without end, and the advice was to end it. The store knows better, and then this home does."""
    bring(team.run_id, team.url, team.there)
    ledger = team.ledger(team.there)
    with ledger.charge():
        team.there.run(team.run_id).receipt.write_bytes(msgspec.json.encode(receipt))
        gone = Teardown.destroyed(team.run_id, "Nothing was rented.")
        ledger.append(Ended(run_id=team.run_id, at_s=time.time(), teardown=gone))
        ledger.append(billed(receipt))
    assert call(["ls", "--orphans"]) == Exit.OK
    assert "End them" not in capsys.readouterr().out
    assert call(["ls", "--json"]) == Exit.OK
    [row] = msgspec.json.decode(capsys.readouterr().out)["data"]
    assert (row["status"], row["usd"]) == ("trained", str(receipt.metered_usd))
    assert call(["report", team.run_id, "--json"]) == Exit.OK
    assert msgspec.json.decode(capsys.readouterr().out)["data"]["run_id"] == team.run_id


def test_while_another_machine_has_a_run_it_is_shown_as_running_there(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    """By plain `ls`; and `ls --orphans` finds nothing that nobody controls."""
    bring(team.run_id, team.url, team.there)
    with team.ledger(team.there).charge():
        assert call(["ls", "--json"]) == Exit.OK
        [row] = msgspec.json.decode(capsys.readouterr().out)["data"]
        assert (row["status"], row["machine"]) == ("running on another-home", "another-home")
        assert call(["ls", "--orphans"]) == Exit.OK
        assert f"Run {team.run_id} is controlled from another-home and left alone" in capsys.readouterr().out


def test_what_another_machine_had_that_was_not_heard_of_since_is_controlled_by_nobody(
    team: Team, capsys: pytest.CaptureFixture[str]
) -> None:
    """It died with the run in its hands: to leave that alone would be to leave it for ever."""
    bring(team.run_id, team.url, team.there)
    with team.ledger(team.there, term_s=0.0).charge():
        time.sleep(2.1)  # the store tells whole seconds
        assert call(["ls", "--orphans"]) == Exit.STILL_BILLS
        told = capsys.readouterr().out
        assert "controlled from" not in told
        assert team.run_id in told


def test_what_only_the_store_knows_is_unknown_while_it_can_not_be_asked(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither an orphan that somebody is told to end, nor a sum that grows."""
    team.storage.away = True
    assert call(["ls", "--json"]) == Exit.OK
    [row] = msgspec.json.decode(capsys.readouterr().out)["data"]
    assert (row["status"], row["usd"]) == (f"unknown: stored at {team.url}, ask with --state", None)
    assert call(["ls", "--orphans"]) == Exit.OK
    told = capsys.readouterr().out
    assert f"Ask again: rentune ls --state {team.url}" in told
    assert "No orphans" in told
    assert call(["report", team.run_id]) == Exit.REFUSED
    assert "can't be asked" in capsys.readouterr().err
    assert call(["down", "--orphans"]) == Exit.STILL_BILLS  # it was to end what nobody controls, and can't tell


def test_a_store_that_keeps_silent_is_not_waited_for(team: Team) -> None:
    """Who types `ls` gets an answer: this one is unknown."""
    [unknown] = ask_stores(team.here, CLOCKS, patience_s=0.0).values()
    assert (unknown.machine, unknown.why) == (None, "no answer within 5 s")


def test_a_run_that_is_known_to_be_over_asks_no_store(team: Team) -> None:
    """Plain `ls` stays as quick as it is."""
    end(team.run_id, Edges(team.here, Quiet()))
    team.storage.away = True
    assert ask_stores(team.here, CLOCKS) == {}


@pytest.mark.fault("F15", tier="code")
def test_what_a_box_cost_that_came_too_late_is_written_though_another_has_the_run(team: Team, plan: Plan) -> None:
    """Here at once, which no other line is; in the book, and so in the other home, once this one has the run again."""
    overtaken = team.ledger(team.here, term_s=0.0)
    asked = attempted(team.run_id, plan, at_s=100.0)
    late = Late(
        run_id=team.run_id, at_s=900.0, offer=asked.offer.key, asked_at_s=100.0, from_s=150.0, until_s=900.0, ids=("i-1",),
        usd=Decimal(1),
    )  # fmt: skip
    with overtaken.charge():
        overtaken.append(asked)
        time.sleep(2.1)  # the store tells whole seconds
        bring(team.run_id, team.url, team.there)
        with (next_one := team.ledger(team.there)).charge():
            next_one.append(Ended(run_id=team.run_id, at_s=300.0, teardown=Teardown.destroyed(team.run_id, "")))
            with pytest.raises(ControlLost):
                overtaken.append(late)
            overtaken.append_here(late)
    assert [rental.late_until_s for rental in Ledger(team.here.ledger).runs()[team.run_id].rentals] == [900.0]
    with team.ledger(team.here).charge():
        pass
    refresh(team.run_id, team.there)
    here, there = (Ledger(places.ledger).runs()[team.run_id] for places in (team.here, team.there))
    assert here == there
    assert usd_so_far(there, now_s=9e9) == Decimal("3.60") * 750 / 3600
