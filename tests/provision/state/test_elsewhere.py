"""A run that was opened here and is in other hands, as this home's own commands show it."""

from __future__ import annotations

import time

import msgspec
import pytest

from planner.plan import Plan
from provision.account.lines import Ended
from provision.account.receipt import Receipt
from provision.charge import looking
from provision.charge.control import end
from provision.charge.elsewhere import ask_stores
from provision.cli import call
from provision.errors import Exit
from provision.provisioner import Teardown
from provision.state.shared import bring
from provision.walk.books import billed
from tests.doubles.displays import Quiet
from tests.provision.account.receipts import outcome_of, receipt_of, run_state
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
    [unknown] = ask_stores(team.here, patience_s=0.0).values()
    assert (unknown.machine, unknown.why) == (None, "no answer within 5 s")


def test_a_run_that_is_known_to_be_over_asks_no_store(team: Team) -> None:
    """Plain `ls` stays as quick as it is."""
    end(team.run_id, places=team.here, display=Quiet())
    team.storage.away = True
    assert ask_stores(team.here) == {}
