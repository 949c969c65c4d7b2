"""A volume that its user keeps: planned with its price, no leak when its box ends, found again, shown while it bills, ended."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from catalogs.catalog import Rules, read_catalog, read_rules
from planner.asking.options.command_line import spelled
from planner.asking.options.overlay import request_of
from planner.asking.request import RequestError
from planner.cli import answer
from planner.estimators.cost import disk_gib, volume_gib
from planner.plan import Plan, SearchResult
from planner.report import render_plan, render_result
from planner.search.market.offers import on_sale
from provision.account.bill import bill, kept_usd_per_month
from provision.account.ledger import Ledger
from provision.account.lines import Ended, Tried
from provision.account.runs import RunState, kept_at
from provision.charge.controller import lock_of
from provision.charge.ownerless.orphans import Orphans, find_orphans, kept_sentences
from provision.charge.ownerless.volumes import end_volume, kept_volumes
from provision.cli import call
from provision.clouds.inventory import Notes, verdict_of
from provision.clouds.patience import GRACE_S
from provision.clouds.programs import CLOUDS, aws, load_cloud
from provision.commands.ls import describe, stands
from provision.errors import Exit, Held, ProvisionError, Reason, Refused, Scope
from provision.home.clocks import CLOCKS, Clocks
from provision.home.places import Places, RunFolder
from provision.prepare.asking import search_edges
from provision.prepare.inputs import find_base
from provision.prepare.opening import launch_of, open_run
from provision.report.tables import bill_table, teardown_table
from provision.seam import Answer, Owned, Resource, Teardown
from provision.walk.edges import Edges
from tests.doubles.displays import Quiet
from tests.provision.account.receipts import receipt_of
from tests.provision.plans import attempted

VOLUME = Resource(kind="volume", id="vol-1", region="us-east-1", run_id="r1", installation="here", size_gib=100, name="models")


def kept_by(run_id: str) -> Teardown:
    return Teardown(run_id=run_id, verdict="destroyed", resources=(), message="", kept=(of(run_id),))


def of(run_id: str) -> Resource:
    return msgspec.structs.replace(VOLUME, run_id=run_id)


def at_aws(plan: Plan) -> Plan:
    """The plan in a region of AWS's, at EBS's price by the month."""
    offer = msgspec.structs.replace(plan.offer, provider="aws", region=VOLUME.region)
    billing = msgspec.structs.replace(plan.billing, provider="aws", volume_usd_per_gib_month=Decimal("0.08"))
    return msgspec.structs.replace(plan, offer=offer, billing=billing)


def rendered(result: SearchResult) -> str:
    return render_result(result, command=None, spelled=spelled, explain=False, width=200, colour=False)


@pytest.fixture
def kept(run_id: str, plan: Plan, ledger: Ledger) -> RunState:
    """A run whose box is gone and whose disk is kept."""
    ledger.append(attempted(run_id, at_aws(plan), at_s=1.0))
    ledger.append(Ended(run_id=run_id, at_s=2.0, teardown=kept_by(run_id)))
    return ledger.runs()[run_id]


def test_only_a_cloud_that_can_keep_one_is_planned_and_the_plan_says_what_it_costs_by_the_month() -> None:
    """Its box is told to, and no other."""
    options: dict[str, Any] = {
        "model": "smollm2-135m",
        "examples": 100,
        "keep_volume": "models",
        "provider": ("aws",),
        "top": 50,
    }
    edges = search_edges()
    result = answer(request_of(options), edges, on_sale(read_catalog(), edges))
    assert result.recommended is not None
    launch = launch_of(result.recommended, RunFolder(Path("/nowhere")), run_id="r", public_key="", deadline_at_s=0.0)
    assert launch.volume_name == "models"
    said = f"the volume models is kept: {launch.volume_gib} GiB at ${launch.volume_gib * 0.08:.2f} a month"
    assert any(sentence.startswith(said) for sentence in result.recommended.assumptions)
    for shown in (render_plan(result.recommended, width=200, colour=False), rendered(result)):
        assert f"Note: {said}, beside the job's dollars, until `rentune down --volumes models`." in shown


@pytest.mark.parametrize("cloud", CLOUDS)
def test_each_cloud_that_can_keep_one_says_so_before_its_sdk_is_loaded_and_has_a_price(cloud: str) -> None:
    assert CLOUDS[cloud].keeps_volumes is (load_cloud(cloud).VOLUMES is not None)
    assert not CLOUDS[cloud].keeps_volumes or read_catalog().billing[cloud].volume_usd_per_gib_month is not None


def test_while_its_box_runs_it_is_part_of_the_job_s_dollars() -> None:
    """Beside the box's own disk."""
    options: dict[str, Any] = {"model": "smollm2-135m", "examples": 100, "provider": ("aws",)}
    edges = search_edges()
    without, beside = (
        answer(request_of(options | more), edges, on_sale(read_catalog(), edges)).recommended
        for more in ({}, {"keep_volume": "models"})
    )
    assert without is not None
    assert beside is not None
    ratio = beside.cost.disk_usd.p50 / without.cost.disk_usd.p50
    share = volume_gib(beside.host) / disk_gib(beside.host, beside.billing)
    assert ratio == pytest.approx(1 + share, rel=1e-3)


def test_one_that_is_there_is_used_where_it_lies_and_offers_elsewhere_say_why_not(kept: RunState) -> None:
    """As the ledger of this home knows it; under another name one is made anywhere."""
    options: dict[str, Any] = {"model": "smollm2-135m", "examples": 100, "keep_volume": "models"}
    edges = search_edges()
    result = answer(request_of(options), edges, on_sale(read_catalog(), edges))
    assert {(plan.offer.provider, plan.offer.region) for plan in result.plans} == {("aws", "us-east-1")}
    assert "not where the volume models is: aws/us-east-1" in {each.reason for each in result.rejections}
    other = answer(request_of(options | {"keep_volume": "others"}), edges, on_sale(read_catalog(), edges))
    assert len({plan.offer.provider for plan in other.plans}) > 1


@pytest.mark.parametrize("name", ["", "a", "Models", "a_b", "-models", "models-", "m" * 33])
def test_a_name_is_one_that_every_cloud_can_hold(name: str) -> None:
    with pytest.raises(RequestError, match="is no name for a volume"):
        request_of({"model": "smollm2-135m", "examples": 100, "keep_volume": name})


def test_it_is_no_leak_and_the_verdict_names_it() -> None:
    """Beside what is left against anybody's will, which is one."""
    seen = Owned(resources=(), complete=Answer.YES, kept=(VOLUME,))
    assert seen.nothing
    teardown = verdict_of("aws", "r1", seen, Notes(), at_s=1.0)
    assert (teardown.clean, teardown.kept) == (True, (VOLUME,))
    assert teardown.message == "aws lists nothing of this run any more but volume vol-1, which is kept as asked."
    left = msgspec.structs.replace(seen, resources=(msgspec.structs.replace(VOLUME, id="vol-2"),))
    assert verdict_of("aws", "r1", left, Notes(), at_s=1.0).verdict == "orphaned"


def test_report_and_list_show_what_it_costs_by_the_month(kept: RunState, places: Places) -> None:
    """At the price that was frozen when its box was asked for; beside the run's dollars."""
    assert kept_usd_per_month(kept) == Decimal("8.0000")
    row = describe(kept, places, now_s=3.0)
    assert (row["keeps"], row["kept_usd_per_month"]) == (["vol-1"], "8.0000")
    assert "its volume is kept: $8.00 a month" in stands(row)


def test_a_receipt_names_it_in_bill_and_teardown(kept: RunState, plan: Plan) -> None:
    receipt = receipt_of(at_aws(plan), kept, at_s=3.0)
    assert f"Kept, and billed on at $8.00 a month: rentune down --volumes {kept.run_id} ends it." in str(
        bill_table(receipt).note
    )
    table = teardown_table(receipt)
    assert table is not None
    assert ("volume", "vol-1", "kept as asked; 100 GiB: $0.0110 an hour, $8.00 a month") in table.rows


def found_at(ledger: Ledger, *volumes: Resource) -> Orphans:
    owned = {"aws": Owned(resources=(), complete=Answer.YES, kept=volumes)}
    return find_orphans(ledger.runs(), owned, installation="here", now_s=1000.0, rules=Rules(billing=read_rules().billing))


def test_a_search_for_orphans_shows_it_and_ends_none(ledger: Ledger) -> None:
    """From a computer without a ledger, too."""
    found = found_at(ledger, VOLUME)
    assert (found.nothing, found.strays, found.others) == (True, (), ())
    [sentence] = kept_sentences(found)
    assert sentence.startswith(
        "aws: volume vol-1 (models) of run r1 is kept as asked, and bills: 100 GiB: $0.0110 an hour, $8.00"
    )
    assert "a month, in us-east-1; " in sentence
    assert sentence.endswith("`rentune down --volumes r1` ends it.")


def test_ones_own_are_ended_without_a_name_and_somebody_else_s_by_the_run_s_id(kept: RunState, ledger: Ledger) -> None:
    theirs = msgspec.structs.replace(VOLUME, id="vol-2", run_id="theirs", installation="there")
    lost = msgspec.structs.replace(VOLUME, id="vol-3", run_id="lost")
    untold = msgspec.structs.replace(of(kept.run_id), installation=None)
    found = found_at(ledger, theirs, lost, untold)

    def meant(run_id: str | None) -> list[str]:
        return [each.id for _, each in kept_volumes(found, run_id, ledger=ledger, installation="here")]

    assert (meant(None), meant("theirs"), meant("nobody")) == (["vol-3", "vol-1"], ["vol-2"], [])
    assert meant("models") == ["vol-3", "vol-1"]  # by its own name, never somebody else's


def test_the_disk_of_a_run_that_goes_on_is_not_ended(run_id: str, ledger: Ledger) -> None:
    with pytest.raises(Refused, match="has not ended") as caught:
        kept_volumes(found_at(ledger), run_id, ledger=ledger, installation=None)
    assert caught.value.hint == f"rentune down {run_id}"


@pytest.fixture
def deleted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What EC2, which is played here, was asked to delete."""
    ids: list[str] = []
    monkeypatch.setattr(aws, "destroy_stray", lambda volume, _environment: ids.append(volume.id))
    monkeypatch.setattr(aws, "owned", lambda *_asked: Owned(resources=(), complete=Answer.YES))
    return ids


def tried_in_vain(run_id: str, ledger: Ledger) -> None:
    """Its attempt came to nothing, and another is to follow."""
    usd, reason, scope = Decimal(0), Reason.CAPACITY, Scope.ZONE
    ledger.append(Tried(run_id=run_id, at_s=3.0, offer="aws", reason=reason, scope=scope, message="", took_s=1.0, usd=usd))


def end_all_kept(kept: RunState, monkeypatch: pytest.MonkeyPatch, *named: str) -> int:
    owned = Owned(resources=(), complete=Answer.YES, kept=(of(kept.run_id),))
    found = find_orphans(
        {kept.run_id: kept}, {"aws": owned}, installation="here", now_s=1000.0, rules=Rules(billing=read_rules().billing)
    )
    monkeypatch.setattr("provision.commands.ending.look_for_orphans", lambda *_, **_edges: found)
    monkeypatch.setattr("provision.clouds.kept.GRACE_S", 0.0)
    return call(["down", "--volumes", *named])


def test_the_disk_of_a_run_between_two_attempts_is_left_and_told(
    kept: RunState, ledger: Ledger, deleted: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No machine has it, and the controller that lives is about to ask for one that will."""
    tried_in_vain(kept.run_id, ledger)
    assert end_all_kept(kept, monkeypatch) == Exit.OK
    said = f"Run {kept.run_id} goes on with volume vol-1 (models). It is left alone."
    assert said in " ".join(capsys.readouterr().out.split())
    assert not deleted


def test_the_disk_that_another_run_asks_for_by_name_is_left(
    kept: RunState, ledger: Ledger, deleted: list[str], places: Places, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That run has opened, and no machine has it yet; asked for by name it is refused, with the run that has to end first."""
    keep = msgspec.structs.replace(plan.request.keep, volume_name="models")
    naming = msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, keep=keep))
    user = open_run(naming, find_base(plan.request.model), places=places, ledger=ledger, clock=time.time)
    with pytest.raises(Held, match=f"Run {user} goes on with volume vol-1") as caught:
        end_volume("aws", of(kept.run_id), Edges(places, Quiet(), environment={}))
    assert caught.value.hint == f"rentune down {user}"
    assert end_all_kept(kept, monkeypatch, "models") == Exit.REFUSED
    assert not deleted


def test_a_disk_that_a_machine_has_is_left(kept: RunState, deleted: list[str], places: Places) -> None:
    """Of a run that is in no ledger here, too."""
    with pytest.raises(Held, match="A machine has volume vol-1"):
        end_volume("aws", msgspec.structs.replace(of(kept.run_id), in_use=True), Edges(places, Quiet(), environment={}))
    assert not deleted


def test_a_disk_is_ended_under_the_lock_of_its_run(kept: RunState, deleted: list[str], places: Places) -> None:
    """A process that has just taken the run up, and has written nothing yet, keeps its disk."""
    with lock_of(places.run(kept.run_id), CLOCKS), pytest.raises(Held, match="just taken it up"):
        end_volume("aws", of(kept.run_id), Edges(places, Quiet(), environment={}))
    assert not deleted


def test_what_was_ended_is_in_the_list_no_more(
    kept: RunState, ledger: Ledger, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EC2 is played here; tests/provision/engine/test_aws_engine.py asks moto."""
    there, refused = {"vol-1"}, [True]

    def destroy_stray(volume: Resource, _environment: object) -> None:
        if refused:
            raise ProvisionError("EC2 declines.")
        there.discard(volume.id)

    def owned(*_asked: object) -> Owned:
        return Owned(resources=(), complete=Answer.YES, kept=(of(kept.run_id),) if there else ())

    monkeypatch.setattr(aws, "destroy_stray", destroy_stray)
    monkeypatch.setattr(aws, "owned", owned)
    still = end_volume("aws", of(kept.run_id), Edges(places, Quiet(), environment={}, clocks=Clocks(sleep=lambda _s: None)))
    assert (still.verdict, still.command) == ("orphaned", f"rentune down --volumes {kept.run_id}")
    assert still.message == "aws still lists its volume vol-1: EC2 declines."
    refused.clear()
    assert (
        end_volume("aws", of(kept.run_id), Edges(places, Quiet(), environment={}, clocks=Clocks(sleep=lambda _s: None))).verdict
        == "destroyed"
    )
    now = ledger.runs()[kept.run_id]
    assert (now.over, now.kept, now.rentals) == (True, (), kept.rentals)


@pytest.mark.parametrize(
    ("lists", "refused", "verdict"),
    [((True, True), False, "destroyed"), ((True, False), False, "orphaned"), ((True, True), True, "unknown")],
    ids=["gone twice", "there again", "refused, and a list that lags"],
)
def test_gone_is_gone_twice_and_granted(
    kept: RunState, places: Places, monkeypatch: pytest.MonkeyPatch, lists: tuple[bool, bool], refused: bool, verdict: str
) -> None:
    """One empty list right after a delete says nothing: a disk that is noted as gone bills on, and is told to nobody."""
    looks = iter(lists)

    def destroy_stray(*_asked: object) -> None:
        if refused:
            raise ProvisionError("EC2 declines: RequestLimitExceeded.")

    def owned(*_asked: object) -> Owned:
        return Owned(resources=(), complete=Answer.YES, kept=() if next(looks) else (of(kept.run_id),))

    monkeypatch.setattr(aws, "destroy_stray", destroy_stray)
    monkeypatch.setattr(aws, "owned", owned)
    waited: list[float] = []
    end = end_volume("aws", of(kept.run_id), Edges(places, Quiet(), environment={}, clocks=Clocks(sleep=waited.append)))
    assert end.verdict == verdict
    assert all(wait_s >= GRACE_S for wait_s in waited)


def test_one_that_is_not_ended_is_told_with_what_it_costs_on(
    kept: RunState, places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By `down --volumes`, beside the command that tries again."""
    volume, owned = of(kept.run_id), Owned(resources=(), complete=Answer.YES, kept=(of(kept.run_id),))
    found = find_orphans(
        {kept.run_id: kept}, {"aws": owned}, installation="here", now_s=1000.0, rules=Rules(billing=read_rules().billing)
    )
    monkeypatch.setattr(aws, "destroy_stray", lambda *_asked: None)
    monkeypatch.setattr(aws, "owned", lambda *_asked: owned)
    monkeypatch.setattr("provision.commands.ending.look_for_orphans", lambda *_, **_edges: found)
    assert call(["down", "--volumes"]) == Exit.STILL_BILLS
    said = f"volume {volume.id} is there; 100 GiB: $0.0110 an hour, $8.00 a month."
    assert said in " ".join(capsys.readouterr().out.split())


def test_the_disk_of_an_attempt_that_came_to_nothing_is_counted_too(kept: RunState, plan: Plan, ledger: Ledger) -> None:
    """Each at the price where its box was; one of an unknown price makes the sum unknown."""
    elsewhere = at_aws(plan)
    offer = msgspec.structs.replace(elsewhere.offer, region="us-west-2")
    dearer = msgspec.structs.replace(elsewhere.billing, volume_usd_per_gib_month=Decimal("0.10"))
    ledger.append(attempted(kept.run_id, msgspec.structs.replace(elsewhere, offer=offer, billing=dearer), at_s=3.0))
    second = msgspec.structs.replace(of(kept.run_id), id="vol-2", region="us-west-2")
    ledger.append(Ended(run_id=kept.run_id, at_s=4.0, teardown=msgspec.structs.replace(kept_by(kept.run_id), kept=(second,))))
    state = ledger.runs()[kept.run_id]
    assert ([volume.id for volume in state.kept], kept_usd_per_month(state)) == (["vol-1", "vol-2"], Decimal("18.0000"))
    unknown = msgspec.structs.replace(second, id="vol-3", region="mars")
    assert kept_usd_per_month(msgspec.structs.replace(state, volumes=state.volumes | {"vol-3": unknown})) is None


def test_where_nothing_is_kept_the_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["down", "--volumes"]) == Exit.OK
    assert "No volume is kept anywhere that could be seen." in capsys.readouterr().out
    assert call(["down", "--volumes", "--orphans"]) == Exit.REFUSED


def test_what_an_older_version_kept_has_the_price_of_its_box_s_disk(kept: RunState) -> None:
    """Its lines know no other."""
    rental = kept.rentals[0]
    older = msgspec.structs.replace(rental.billing, volume_usd_per_gib_month=None, disk_usd_per_gib_month=Decimal("0.05"))
    state = msgspec.structs.replace(kept, rentals=(msgspec.structs.replace(rental, billing=older),))
    assert kept_usd_per_month(state) == Decimal("5.0000")


def test_one_of_a_cloud_with_one_price_everywhere_is_priced_and_found_by_its_own_region(kept: RunState) -> None:
    rental = kept.rentals[0]
    anywhere = msgspec.structs.replace(rental.offer, region="*")
    state = msgspec.structs.replace(kept, rentals=(msgspec.structs.replace(rental, offer=anywhere),))
    assert kept_usd_per_month(state) == Decimal("8.0000")
    assert kept_at((state,), "models") == (("aws", "us-east-1"),)
    assert kept_at((state,), "others") == ()


def test_while_a_box_runs_its_volume_is_on_the_bill_and_afterwards_only_said(kept: RunState) -> None:
    """By the hour of the box, at the volume's price; 100 GiB at $0.08 for a month of 730 hours."""
    rental = msgspec.structs.replace(kept.rentals[0], disk_gib=0, volume_gib=100, started_at_s=0.0, up_at_s=0.0)
    free_disk = msgspec.structs.replace(rental.billing, disk_usd_per_gib_month=None, increment_s=1, minimum_s=0)
    day = msgspec.structs.replace(rental, billing=free_disk, ended_at_s=86_400.0)
    assert bill((day,), now_s=10 * 86_400.0)["disk"] == Decimal("0.2630")
