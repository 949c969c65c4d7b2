"""A machine that bills and whose ledger is lost rings whomever this home's own policy names."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from catalogs.catalog import Rules, read_rules
from provision.account.ledger import Ledger
from provision.charge.ownerless.orphans import Orphans, find_orphans
from provision.cli import call
from provision.errors import Exit
from provision.home.places import Places
from provision.seam import Answer, Owned, Resource
from tests.doubles.provisioners import Paper
from tests.doubles.services.webhook import Heard, webhook
from tests.provision.looks import let_every_look_find

NOW_S = 1_795_752_000.0
LOST = Resource(
    kind="instance",
    id="i-lost",
    region="us-east-1",
    run_id="r9",
    installation="here",
    deadline_at_s=NOW_S + 60.0,
    usd_per_hour=Decimal(2),
    since_s=NOW_S - 3600.0,
    runs=Answer.YES,
)
KEY = Resource(kind="key_pair", id="k-lost", region="us-east-1", run_id="r9", installation="here", bills=False)
NAMELESS = msgspec.structs.replace(LOST, id="i-nameless", run_id="no run/s id")


def found(places: Places, *resources: Resource) -> Orphans:
    owned = {"aws": Owned(resources=resources, complete=Answer.YES)}
    runs = Ledger(places.ledger).runs()
    return find_orphans(runs, owned, installation="here", now_s=NOW_S, rules=Rules(billing=read_rules().billing))


def told_of(places: Places, monkeypatch: pytest.MonkeyPatch, *resources: Resource) -> Paper:
    """What every look finds, at a provider whose machines are names on a list."""
    paper = Paper()
    paper.boxes = {str(each.run_id): each for each in resources if each.kind == "instance"}
    let_every_look_find(monkeypatch, lambda: found(places, *resources))
    monkeypatch.setattr("provision.walk.edges.provisioner_of_run", lambda *_, **__: paper)
    return paper


def name_in_policy(places: Places, *targets: str) -> None:
    places.user_policy.parent.mkdir(parents=True, exist_ok=True)
    places.user_policy.write_text(f"alerts = {list(targets)}\n")


def test_a_look_for_orphans_rings_for_each_run_that_bills(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what its tags tell, and the command that ends it; a key that bills nothing is no machine."""
    told_of(places, monkeypatch, LOST, KEY, NAMELESS)
    with webhook(Heard()) as heard:
        name_in_policy(places, heard.url)
        assert call(["ls", "--orphans"]) == Exit.STILL_BILLS
    by_run = {body["run_id"]: body for body in heard.bodies}
    assert (len(heard.bodies), set(by_run), set(heard.kinds())) == (2, {"r9", "no run/s id"}, {"still_bills"})
    lost = by_run["r9"]
    assert lost["text"] == "instance i-lost of run r9 may still bill at aws, and no ledger here knows it."
    assert (lost["command"], lost["deadline_at_s"]) == ("rentune down --orphans r9", LOST.deadline_at_s)
    assert Decimal(lost["spent_usd"]) == 2
    assert (lost["model"], lost["instance_type"], lost["exit_code"]) == (None, None, Exit.STILL_BILLS)
    assert by_run["no run/s id"]["command"] is None, "no command of ours ends it"


def test_what_down_could_not_end_rings_and_what_it_ended_does_not(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    paper = told_of(places, monkeypatch, LOST)
    with webhook(Heard()) as heard:
        name_in_policy(places, heard.url)
        paper.stubborn = True
        assert call(["down", "--orphans"]) == Exit.STILL_BILLS
        assert heard.kinds() == ["still_bills"]
        paper.stubborn = False
        assert call(["down", "--orphans"]) == Exit.OK
    assert heard.kinds() == ["still_bills"]


def test_a_run_of_this_ledger_rings_as_that_run_says(run_id: str, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has targets of its own; the policy's are among them where they were when it was opened."""
    told_of(places, monkeypatch, msgspec.structs.replace(LOST, run_id=run_id))
    with webhook(Heard()) as heard:
        name_in_policy(places, heard.url)
        call(["ls", "--orphans"])
    assert heard.bodies == []


def test_who_names_nobody_is_told_on_the_terminal_alone(
    places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told_of(places, monkeypatch, LOST)
    assert call(["ls", "--orphans"]) == Exit.STILL_BILLS
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("policy", ['alerts = ["no-such-program --now"]\n', "alerts = [\n"], ids=["no target", "no TOML"])
def test_whatever_is_wrong_with_who_is_to_hear_keeps_no_look_from_its_answer(
    places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], policy: str
) -> None:
    told_of(places, monkeypatch, LOST)
    places.user_policy.parent.mkdir(parents=True, exist_ok=True)
    places.user_policy.write_text(policy)
    assert call(["ls", "--orphans"]) == Exit.STILL_BILLS
    shown = capsys.readouterr()
    assert "i-lost" in shown.out
    assert shown.err
