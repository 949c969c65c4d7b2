"""`--region`: a cloud that is asked region by region is asked there alone, and what is told says so."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
import pytest

from provision.account.ledger import Ledger
from provision.charge.ownerless.looking import Sky, look_for_orphans
from provision.charge.ownerless.orphans import find_orphans, none_words
from provision.charge.ownerless.regions import parted, region_sentences
from provision.cli import call
from provision.commands import ls
from provision.commands.ending import Ended, end_orphans
from provision.commands.ls import show_orphans
from provision.errors import BadInput, Exit, ProvisionError
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


class Clouds(NamedTuple):
    """AWS, which is asked region by region, and DigitalOcean, whose one list shows all; nothing else is in reach."""

    aws: Account
    digitalocean: Account
    places: Places

    def sky(self, *, reached: Iterable[str] = ("aws", "digitalocean"), regions_of_aws: Any = AWS_REGIONS) -> Sky:
        """They as a look reaches them. `regions_of_aws`: those of the account, or how it fails to tell them."""

        def make(provider: str, *, places: Places, regions: tuple[str, ...] = ()) -> Paper:
            account = getattr(self, provider, None)
            return account.made(regions) if isinstance(account, Account) else Paper()

        def regions_of(_cloud: str) -> tuple[str, ...]:
            if isinstance(regions_of_aws, Exception):
                raise regions_of_aws
            return tuple(regions_of_aws)

        return Sky(tuple(reached), make, regions_of, of_run=lambda claim: getattr(self, claim.provider).made(()))

    def shown(self, *regions: str, as_json: bool = False, **edges: Any) -> int:
        """The exit code of `ls --orphans`."""
        return show_orphans(self.places, regions, as_json=as_json, sky=self.sky(**edges))

    def ended(self, *regions: str) -> Ended:
        """What `down --orphans` does there."""
        return end_orphans(self.places, None, discard=False, regions=regions, sky=self.sky())


@pytest.fixture
def clouds(places: Places) -> Clouds:
    return Clouds(Account(installation_id(places)), Account(installation_id(places)), places)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    told = capsys.readouterr()
    return " ".join((told.out + told.err).split())


@pytest.mark.parametrize(
    ("named", "asked"),
    [
        ((), ()),
        (("us-east-1",), ("us-east-1",)),
        (("US-*",), ("us-east-1", "us-west-2")),
        (("eu-west-1", "us-west-2"), ("eu-west-1", "us-west-2")),
    ],
)
def test_aws_is_asked_there_alone_and_every_other_cloud_for_all(
    named: tuple[str, ...], asked: tuple[str, ...], clouds: Clouds
) -> None:
    assert clouds.shown(*named) == Exit.OK
    assert (clouds.aws.asked, clouds.digitalocean.asked) == ([asked], [()])


def test_the_all_clear_is_of_what_was_looked_at(clouds: Clouds, capsys: pytest.CaptureFixture[str]) -> None:
    clouds.aws.put("r1", "eu-west-1")
    assert clouds.shown("us-*") == Exit.OK
    told = said(capsys)
    assert "No orphans where it was asked." in told
    assert "At aws only us-east-1, us-west-2 was looked at; `rentune ls --orphans` looks at every region." in told
    assert "Asked for all regions, which one list shows: digitalocean." in told
    assert clouds.shown("us-*", as_json=True) == Exit.OK
    assert json.loads(capsys.readouterr().out)["data"]["only_in"] == {"aws": ["us-east-1", "us-west-2"]}


def test_what_a_whole_list_shows_elsewhere_is_shown_and_not_ended(clouds: Clouds, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing that bills is hidden; `down` ends what lies where it was told to, and names the rest."""
    clouds.aws.put("20260101-000000-aaaa", "us-east-1")
    clouds.digitalocean.put("20260101-000000-bbbb", "fra1")
    assert clouds.shown("us-east-1") == Exit.STILL_BILLS
    told = said(capsys)
    assert "20260101-000000-aaaa" in told
    assert "20260101-000000-bbbb" in told
    ended = clouds.ended("us-east-1")
    assert (clouds.aws.ended, clouds.digitalocean.ended) == (["20260101-000000-aaaa"], [])
    (left,) = ended.others
    assert left.endswith("in fra1 lies outside of --region and is left alone; `rentune down --orphans` ends it.")
    clouds.ended()
    assert clouds.digitalocean.ended == ["20260101-000000-bbbb"]


def test_a_cloud_without_that_region_is_not_asked_and_named(clouds: Clouds, capsys: pytest.CaptureFixture[str]) -> None:
    assert clouds.shown("us-central1") == Exit.OK  # Google's, by the price list
    assert clouds.aws.asked == []
    assert "Not asked, as it has no region us-central1: aws." in said(capsys)


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])  # in the price list, and not
def test_a_cloud_that_does_not_tell_its_regions_was_not_seen(
    region: str, clouds: Clouds, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether it has that region nobody knows then, so it is no slip of the pen."""
    assert clouds.shown(region, regions_of_aws=ProvisionError("no answer")) == Exit.STILL_BILLS
    assert "no answer" in said(capsys)


def test_a_region_that_only_a_cloud_out_of_reach_may_have_is_unseen(clouds: Clouds, capsys: pytest.CaptureFixture[str]) -> None:
    """Without credentials for AWS nobody can say that eu-west-1 is none of its regions. One of the price list is known."""
    assert clouds.shown("eu-west-1", reached=["digitalocean"]) == Exit.STILL_BILLS
    told = said(capsys)
    assert "whether it has a region eu-west-1 can't be asked" in told
    assert "rentune doctor" in told
    assert clouds.shown("us-east-1", reached=["digitalocean"]) == Exit.OK
    assert "Not asked, as credentials or packages are missing here (`rentune doctor`): aws" in said(capsys)


def test_a_region_in_which_something_of_ours_lies_is_known(clouds: Clouds) -> None:
    """Whether or not a price list has it: one list showed it."""
    clouds.digitalocean.put("20260101-000000-bbbb", "osl1")
    assert clouds.shown("osl1") == Exit.STILL_BILLS
    with pytest.raises(BadInput, match="has a region 'osl2'"):
        clouds.shown("osl2")


def test_a_slip_of_the_pen_is_refused_once_all_have_told_their_regions(clouds: Clouds) -> None:
    """It would look nowhere, and find nothing."""
    with pytest.raises(BadInput, match="No cloud that this version rents from has a region 'us-esat-1'"):
        clouds.shown("us-esat-1")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("ls", "--orphans", "--region", "us-east-1", "--all-regions"), "--all-regions and --region are two things to ask"),
        (("down", "--orphans", "--region", "us-east-1", "--all-regions"), "--all-regions and --region are two things to ask"),
        (("ls", "--region", "us-east-1"), "--region is about orphans"),
        (("down", "--orphans", "--region", ""), "--region names no region"),
        (("ls", "--orphans", "--region", " "), "--region names no region"),
        (("down", "r1", "--all-regions"), "--all-regions is about orphans"),
    ],
)
def test_what_makes_no_sense_is_refused(words: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(list(words)) == Exit.REFUSED
    assert why in said(capsys)


def test_the_options_reach_the_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every region is the default, and can be said."""
    looked: list[tuple[str, ...]] = []

    def look(_places: Places, regions: tuple[str, ...], **_: Any) -> int:
        looked.append(regions)
        return Exit.OK

    monkeypatch.setattr(ls, "show_orphans", look)
    for options in ((), ("--all-regions",), ("--region", "eu-west-1", "--region", "us-*")):
        assert call(["ls", "--orphans", *options]) == Exit.OK
    assert looked == [(), (), ("eu-west-1", "us-*")]


def test_a_run_of_the_ledger_elsewhere_is_left_alone(run_id: str, places: Places, ledger: Ledger, clouds: Clouds) -> None:
    """It is shown, for nobody controls it; it is ended where its region is named, or without any."""
    assert [state.run_id for state in look_for_orphans(places, CLOCKS, "us-east-1", sky=clouds.sky()).runs] == [run_id]
    ended = clouds.ended("us-east-1")
    assert ended.others == (
        f"Run {run_id} (local) lies outside of --region and is left alone; to end it: rentune down {run_id}.",
    )
    assert not ledger.runs()[run_id].over


def test_a_run_with_anything_there_is_ended_whole() -> None:
    """A key without a region goes with the box that it was made for."""
    box = Resource(kind="instance", id="i-1", region="us-east-1", run_id="r1", installation="here")
    key = Resource(kind="key_pair", id="k-1", region="", run_id="r1", installation="here", bills=False)
    other = Resource(kind="key_pair", id="k-2", region="", run_id="r2", installation="here", bills=False)
    owned = {"aws": Paper().owned()}
    found = find_orphans({}, owned, installation="here", now_s=1.0, regions=("us-*",), only_in={"aws": ("us-east-1",)})
    found = msgspec.structs.replace(found, strays=tuple(("aws", each) for each in (box, key, other)))
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
