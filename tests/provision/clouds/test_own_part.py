"""The part of a run that one home has ordered, ended by its tag and ids while the rest is another machine's."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from provision.errors import ControlLost
from provision.seam import MACHINE, VOLUME, Claim, Own, Resource
from tests.provision.clouds.test_cloud import Sky, provisioner

OURS = Resource(kind=MACHINE, id="i-1", region="here", run_id="r1", installation="a")
THEIRS = Resource(kind=MACHINE, id="i-2", region="here", run_id="r1", installation="b")
SAME_NAME = Resource(kind="firewall", id="r1", region="here", run_id="r1", installation="b", bills=False)
BARE = Resource(kind="address", id="ip-1", region="here", run_id="r1")
TAKEN_UP = Resource(kind="key_pair", id="key-1", region="here", run_id="r1", installation="a", bills=False)
OWN = Own(installation="a", ids=frozenset({"i-1", "ip-1", "r1"}), theirs=frozenset({"i-2", "key-1"}))
MADE = Resource(kind=VOLUME, id="vol-1", region="here", run_id="r1", installation="a", name="models")
ITS = Resource(kind=VOLUME, id="vol-2", region="here", run_id="r1", installation="b", name="models")


@pytest.fixture
def claim(tmp_path: Path) -> Claim:
    return Claim(run_id="r1", provider="cloudy", region="here", folder=tmp_path / "run", volumes=frozenset(), own=OWN)


def test_what_another_home_has_ordered_or_taken_up_stands(tmp_path: Path, claim: Claim) -> None:
    """An id alone is enough only where no tag says whose it is: at some clouds it is a name, and may be the other's by now."""
    sky = Sky(OURS, THEIRS, SAME_NAME, BARE, TAKEN_UP)
    teardown = provisioner(sky, tmp_path).destroy(claim)
    assert sky.resources == {THEIRS, SAME_NAME, TAKEN_UP}
    assert (teardown.verdict, {end.resource.id for end in teardown.resources}) == ("destroyed", {"i-1", "ip-1"})


def test_what_the_list_shows_late_is_ended_as_well(tmp_path: Path, claim: Claim) -> None:
    sky = Sky(OURS, THEIRS)
    sky.hidden_until_s = sky.now_s + 50.0
    assert provisioner(sky, tmp_path).destroy(claim).verdict == "destroyed"
    assert sky.resources == {THEIRS}


def test_what_does_not_end_is_orphaned(tmp_path: Path, claim: Claim) -> None:
    sky = Sky(OURS, THEIRS)
    sky.refused = {"i-1"}
    teardown = provisioner(sky, tmp_path).destroy(claim)
    assert (teardown.verdict, [end.resource for end in teardown.resources]) == ("orphaned", [OURS])


@pytest.mark.parametrize(
    ("volumes", "before", "stands", "named"),
    [
        ((MADE, ITS), frozenset(), {ITS}, ()),
        ((MADE,), frozenset(), {MADE}, (MADE,)),
        ((msgspec.structs.replace(MADE, in_use=True), ITS), frozenset(), {MADE, ITS}, (MADE,)),
        ((MADE, ITS), frozenset({"vol-1"}), {MADE, ITS}, ()),
        ((MADE, ITS), None, {MADE, ITS}, ()),
    ],
    ids=["the other has one", "the other may be about to use it", "a machine has it", "of an earlier order", "not known"],
)
def test_a_volume_of_the_order_ends_where_nobody_can_be_about_to_use_it(
    tmp_path: Path,
    claim: Claim,
    volumes: tuple[Resource, ...],
    before: frozenset[str] | None,
    stands: set[Resource],
    named: tuple[Resource, ...],
) -> None:
    """Two of one name would both bill by the month; the only one of it may be what the other machine mounts next."""
    sky = Sky(*volumes)
    teardown = provisioner(sky, tmp_path).destroy(msgspec.structs.replace(claim, volumes=before))
    assert {each.id for each in sky.resources} == {each.id for each in stands}
    assert [each.id for each in teardown.kept] == [each.id for each in named]


def test_a_teardown_asks_who_has_the_run_before_it_ends_anything_more(tmp_path: Path, claim: Claim) -> None:
    """What it lists by then is what the other machine has rented meanwhile."""
    sky = Sky(OURS)

    def in_charge() -> None:
        if THEIRS in sky.resources:
            raise ControlLost("Another machine has it.")

    class Slept(Sky):
        def sleep(self, duration_s: float) -> None:
            super().sleep(duration_s)
            self.resources.add(THEIRS)

    sky = Slept(OURS)
    with pytest.raises(ControlLost):
        provisioner(sky, tmp_path).destroy(msgspec.structs.replace(claim, own=None), in_charge)
    assert sky.resources == {THEIRS}
