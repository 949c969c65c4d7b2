"""`--region`: a cloud that is asked region by region is asked there alone, and what is told says so."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from provision.account.ledger import Ledger
from provision.charge.ownerless.looking import look_for_orphans
from provision.charge.ownerless.orphans import find_orphans, none_words
from provision.charge.ownerless.regions import parted, region_sentences
from provision.cli import call
from provision.errors import Exit, ProvisionError
from provision.home.clocks import CLOCKS
from provision.home.installation import installation_id
from provision.home.places import Places
from provision.providers import make_provisioner
from provision.seam import Claim, InCharge, Owned, Resource, Teardown, unshared
from tests.doubles.provisioners import Paper

AWS_REGIONS = ("eu-west-1", "us-east-1", "us-west-2")


class Account(Paper):
    """A provider with boxes in several regions; it lists those of the regions that it was made for."""

    def __init__(self, installation: str) -> None:
        super().__init__()
        self.installation = installation
        self.asked: list[tuple[str, ...]] = []
        self.ended: list[str] = []

    def put(self, run_id: str, region: str) -> None:
        self.boxes[run_id] = Resource(
            kind="instance", id=f"i-{run_id}", region=region, run_id=run_id, installation=self.installation
        )

    def made(self, regions: tuple[str, ...]) -> Account:
        self.asked.append(regions)
        self.regions = regions
        return self

    def owned(self, claim: Claim | None = None) -> Owned:
        listed = super().owned(claim)
        within = tuple(each for each in listed.resources if not self.regions or each.region in self.regions)
        return Owned(resources=within, complete=listed.complete)

    def destroy(self, claim: Claim, in_charge: InCharge = unshared) -> Teardown:
        self.ended.append(claim.run_id)
        return super().destroy(claim, in_charge)


@pytest.fixture
def clouds(places: Places, monkeypatch: pytest.MonkeyPatch) -> dict[str, Account]:
    """AWS, which is asked region by region, and DigitalOcean, whose one list shows all; nothing else is in reach."""
    there = {name: Account(installation_id(places)) for name in ("aws", "digitalocean")}

    def make(provider: str, *, places: Places, regions: tuple[str, ...] = (), **_: Any) -> Paper:
        return there[provider].made(regions) if provider in there else Paper()

    def of_run(claim: Claim, **_: Any) -> Paper:
        return there[claim.provider].made(())

    monkeypatch.setattr("provision.charge.ownerless.looking.clouds_in_reach", lambda _: tuple(there))
    monkeypatch.setattr("provision.charge.ownerless.looking.make_provisioner", make)
    monkeypatch.setattr("provision.walk.edges.provisioner_of_run", of_run)
    account = SimpleNamespace(regions=lambda _environment: AWS_REGIONS)
    monkeypatch.setattr("provision.charge.ownerless.regions.load_cloud", lambda _: account)
    return there


def said(capsys: pytest.CaptureFixture[str]) -> str:
    told = capsys.readouterr()
    return " ".join((told.out + told.err).split())


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ((), ()),
        (("--all-regions",), ()),
        (("--region", "us-east-1"), ("us-east-1",)),
        (("--region", "US-*"), ("us-east-1", "us-west-2")),
        (("--region", "eu-west-1", "--region", "us-west-2"), ("eu-west-1", "us-west-2")),
    ],
)
def test_aws_is_asked_there_alone_and_every_other_cloud_for_all(
    options: tuple[str, ...], asked: tuple[str, ...], clouds: dict[str, Account]
) -> None:
    """Every region is the default, and can be said."""
    assert call(["ls", "--orphans", *options]) == Exit.OK
    assert (clouds["aws"].asked, clouds["digitalocean"].asked) == ([asked], [()])


def test_the_all_clear_is_of_what_was_looked_at(clouds: dict[str, Account], capsys: pytest.CaptureFixture[str]) -> None:
    clouds["aws"].put("r1", "eu-west-1")
    assert call(["ls", "--orphans", "--region", "us-*"]) == Exit.OK
    told = said(capsys)
    assert "No orphans where it was asked." in told
    assert "At aws only us-east-1, us-west-2 was looked at; `rentune ls --orphans` looks at every region." in told
    assert "Asked for all regions, which one list shows: digitalocean." in told
    assert call(["ls", "--orphans", "--region", "us-*", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["data"]["only_in"] == {"aws": ["us-east-1", "us-west-2"]}


def test_what_a_whole_list_shows_elsewhere_is_shown_and_not_ended(
    clouds: dict[str, Account], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing that bills is hidden; `down` ends what lies where it was told to, and names the rest."""
    clouds["aws"].put("20260101-000000-aaaa", "us-east-1")
    clouds["digitalocean"].put("20260101-000000-bbbb", "fra1")
    assert call(["ls", "--orphans", "--region", "us-east-1"]) == Exit.STILL_BILLS
    told = said(capsys)
    assert "20260101-000000-aaaa" in told
    assert "20260101-000000-bbbb" in told
    assert call(["down", "--orphans", "--region", "us-east-1"]) == Exit.OK
    assert (clouds["aws"].ended, clouds["digitalocean"].ended) == (["20260101-000000-aaaa"], [])
    assert "in fra1 lies outside of --region and is left alone; `rentune down --orphans` ends it." in said(capsys)
    assert call(["down", "--orphans", "--all-regions"]) == Exit.OK
    assert clouds["digitalocean"].ended == ["20260101-000000-bbbb"]


def test_a_cloud_without_that_region_is_not_asked_and_named(
    clouds: dict[str, Account], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["ls", "--orphans", "--region", "us-central1"]) == Exit.OK  # Google's, by the price list
    assert clouds["aws"].asked == []
    assert "Not asked, as it has no region us-central1: aws." in said(capsys)


def test_a_cloud_that_does_not_tell_its_regions_was_not_seen(
    clouds: dict[str, Account], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def silent(_environment: object) -> tuple[str, ...]:
        raise ProvisionError("no answer")

    monkeypatch.setattr("provision.charge.ownerless.regions.load_cloud", lambda _: SimpleNamespace(regions=silent))
    assert call(["ls", "--orphans", "--region", "us-east-1"]) == Exit.STILL_BILLS
    assert "no answer" in said(capsys)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("ls", "--orphans", "--region", "us-esat-1"), "No cloud that this version rents from has a region 'us-esat-1'"),
        (("ls", "--orphans", "--region", "us-east-1", "--all-regions"), "--all-regions and --region are two things to ask"),
        (("down", "--orphans", "--region", "us-east-1", "--all-regions"), "--all-regions and --region are two things to ask"),
        (("ls", "--region", "us-east-1"), "--region is about orphans"),
        (("down", "r1", "--all-regions"), "--all-regions is about orphans"),
    ],
)
def test_what_makes_no_sense_is_refused(
    words: tuple[str, ...], why: str, clouds: dict[str, Account], capsys: pytest.CaptureFixture[str]
) -> None:
    """A slip of the pen would look nowhere, and find nothing."""
    assert call(list(words)) == Exit.REFUSED
    assert why in said(capsys)


def test_a_run_of_the_ledger_elsewhere_is_left_alone(
    run_id: str, places: Places, ledger: Ledger, clouds: dict[str, Account], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is shown, for nobody controls it; it is ended where its region is named, or without any."""
    assert [state.run_id for state in look_for_orphans(places, CLOCKS, "us-east-1").runs] == [run_id]
    assert call(["down", "--orphans", "--region", "us-east-1"]) == Exit.OK
    assert f"Run {run_id} (local) lies outside of --region and is left alone; to end it: rentune down {run_id}." in said(capsys)
    assert not ledger.runs()[run_id].over


def test_a_run_with_anything_there_is_ended_whole() -> None:
    """A key without a region goes with the box that it was made for."""
    box = Resource(kind="instance", id="i-1", region="us-east-1", run_id="r1", installation="here")
    key = Resource(kind="key_pair", id="k-1", region="", run_id="r1", installation="here", bills=False)
    other = Resource(kind="key_pair", id="k-2", region="", run_id="r2", installation="here", bills=False)
    owned = {"aws": Paper().owned()}
    found = find_orphans({}, owned, installation="here", now_s=1.0)
    found = found.__class__(
        **{name: getattr(found, name) for name in found.__struct_fields__}
        | {
            "strays": tuple(("aws", each) for each in (box, key, other)),
            "regions": ("us-*",),
            "only_in": {"aws": ("us-east-1",)},
        }
    )
    within, outside = parted(found)
    assert [each.id for _, each in within.strays] == ["i-1", "k-1"]
    assert len(outside) == 1
    assert "k-2" in outside[0]
    assert none_words(within) == "No orphans where it was asked."
    assert len(region_sentences(within)) == 1


def test_without_regions_nothing_is_said_of_them() -> None:
    found = find_orphans({}, {"aws": Paper().owned()}, installation="here", now_s=1.0)
    assert region_sentences(found) == ()
    assert parted(found) == (found, ())


def test_the_regions_reach_the_provisioner(places: Places) -> None:
    """Where it asks for everything of ours; a run of its own is looked for where it was rented."""
    made: Any = make_provisioner("aws", places=places, environment={}, regions=("us-east-1",))
    assert made.regions == ("us-east-1",)
