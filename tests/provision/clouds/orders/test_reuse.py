"""A volume that is kept, looked for by the next run: whose it is, where it is, and whether the machine can have it."""

from __future__ import annotations

import msgspec
import pytest

from provision.clouds.orders.reuse import kept_volume
from provision.clouds.programs import Volumes
from provision.clouds.programs.order import KeptVolume
from provision.errors import Declined, ProvisionError, Refused, Scope
from provision.seam import Answer, Launch, Owned, Resource
from tests.doubles.bench import OFFER
from tests.provision.orders import LAUNCH

MINE = Resource(
    kind="volume",
    id="vol-1",
    region=OFFER.region,
    zone=f"{OFFER.region}b",
    owner="ada",
    installation="here",
    size_gib=100,
    name="models",
)
TAGS = {"rentune-installation": "here", "rentune-run": "r2"}
WANTED = msgspec.structs.replace(LAUNCH, volume_name="models", volume_gib=40)

JOINED = Volumes(kinds={}, device=None, never=lambda: ((OFFER.instance_type, "of-stone*"),))


def used(*there: Resource, launch: Launch = WANTED) -> KeptVolume:
    return kept_volume(Owned(resources=(), complete=Answer.YES, kept=there), OFFER, launch, TAGS, JOINED)


def test_where_there_is_none_it_is_made_with_its_name_as_a_tag() -> None:
    """One of somebody else's, or of another name, is none."""
    theirs = msgspec.structs.replace(MINE, owner="eve", installation="there")
    made = KeptVolume(tags=TAGS | {"rentune-kept": "models"}, size_gib=40)
    assert used() == used(theirs, msgspec.structs.replace(MINE, name="others")) == made


@pytest.mark.parametrize("change", [{"installation": "another laptop"}, {"owner": "ada@work"}])
def test_it_is_the_user_s_by_owner_or_by_the_home_that_it_was_rented_from(change: dict[str, str]) -> None:
    assert used(msgspec.structs.replace(MINE, **change)).id == "vol-1"


def test_where_not_all_could_be_seen_none_is_made() -> None:
    """It may be there."""
    unseen = Owned(resources=(), complete=Answer.UNKNOWN, message="eu-central-1: no answer")
    with pytest.raises(ProvisionError, match="aws can't be asked for the volume models: eu-central-1: no answer"):
        kept_volume(unseen, OFFER, WANTED, TAGS, JOINED)


def test_the_machine_goes_to_its_zone() -> None:
    assert (used(MINE).place, used(MINE).size_gib) == (MINE.zone, 100)
    assert used(msgspec.structs.replace(MINE, zone=None)).place == OFFER.region


def test_what_an_attempt_of_this_run_has_made_elsewhere_keeps_the_next_one_nowhere() -> None:
    """Its box was no good. In its own region it is used."""
    elsewhere = msgspec.structs.replace(MINE, region="mars", run_id=WANTED.run_id)
    assert used(elsewhere).id is None
    assert used(msgspec.structs.replace(elsewhere, region=OFFER.region)).id == "vol-1"
    with pytest.raises(Declined):
        used(elsewhere, msgspec.structs.replace(MINE, region="venus"))


def test_a_machine_that_can_t_have_it_is_not_bought() -> None:
    """In one sentence, with what else may be tried: another region, another type, another time."""
    with pytest.raises(Declined, match=r"The volume models is in mars, and aws/.* is not") as elsewhere:
        used(msgspec.structs.replace(MINE, region="mars"))
    assert elsewhere.value.scope is Scope.REGION
    with pytest.raises(Declined, match=r"is in eu-central-1b, where no .* is free") as full:
        used(MINE, launch=msgspec.structs.replace(WANTED, full_zones=(f"{OFFER.region}b",)))
    assert full.value.scope is Scope.OFFER
    with pytest.raises(Declined, match=r"The volume models is of the kind of-stone-2, which no .* takes") as unlike:
        used(msgspec.structs.replace(MINE, sold_as="of-stone-2"))
    assert unlike.value.scope is Scope.INSTANCE_TYPE
    with pytest.raises(Refused, match="is in use by another machine"):
        used(msgspec.structs.replace(MINE, in_use=True))
