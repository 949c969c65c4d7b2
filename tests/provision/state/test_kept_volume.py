"""A volume that is kept by a run whose state lies in a store: its end is written where every machine reads it."""

from __future__ import annotations

import time

import msgspec
import pytest

from planner.plan import Plan
from provision.account.ledger import Ledger
from provision.account.lines import Ended
from provision.charge.ownerless.volumes import end_volume
from provision.clouds.programs import aws
from provision.home.clocks import Clocks
from provision.seam import Answer, Owned, Resource, Teardown
from provision.state.shared import bring
from provision.walk.edges import Edges
from tests.doubles.displays import Quiet
from tests.provision.plans import attempted
from tests.provision.state.conftest import Team

VOLUME = Resource(kind="volume", id="vol-1", region="us-east-1", size_gib=100, name="models")


@pytest.fixture
def kept(team: Team, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Resource:
    """Of a run that has ended, as its book in the store says. EC2 is played: whatever is asked for is gone."""
    monkeypatch.setattr(aws, "destroy_stray", lambda *_: None)
    monkeypatch.setattr(aws, "owned", lambda *_: Owned(resources=(), complete=Answer.YES))
    volume = msgspec.structs.replace(VOLUME, run_id=team.run_id)
    gone = msgspec.structs.replace(Teardown.destroyed(team.run_id, "Gone."), kept=(volume,))
    ledger = team.ledger(team.here)
    with ledger.charge():
        ledger.append(attempted(team.run_id, plan, at_s=time.time()))
        ledger.append(Ended(run_id=team.run_id, at_s=time.time(), teardown=gone))
    return volume


def test_another_machine_reads_that_it_is_gone(team: Team, kept: Resource) -> None:
    bring(team.run_id, team.url, team.there)
    assert [each.id for each in Ledger(team.there.ledger).runs()[team.run_id].kept] == ["vol-1"]
    edges = Edges(team.there, Quiet(), environment={}, clocks=Clocks(sleep=lambda _s: None))
    assert end_volume("aws", kept, edges).verdict == "destroyed"
    with (home := team.ledger(team.here)).charge():  # it takes in what others have written
        assert home.runs()[team.run_id].kept == ()


def test_where_the_store_can_not_be_told_this_home_knows_it_all_the_same(team: Team, kept: Resource) -> None:
    """The disk is gone either way, and somebody must say so."""
    display = Quiet()
    team.storage.away = True
    edges = Edges(team.here, display, environment={}, clocks=Clocks(sleep=lambda _s: None))
    assert end_volume("aws", kept, edges).verdict == "destroyed"
    assert Ledger(team.here.ledger).runs()[team.run_id].kept == ()
    assert display.notes
