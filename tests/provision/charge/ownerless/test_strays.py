"""Ending what carries the tag of a run that is over, or that nobody here knows."""

from __future__ import annotations

import fcntl
from functools import partial

import msgspec
import pytest

from provision.account.ledger import Ledger
from provision.account.lines import Ended
from provision.charge.ownerless.orphans import Orphans, find_orphans
from provision.charge.ownerless.strays import end_stray
from provision.commands import ending
from provision.errors import Held
from provision.home.places import Places
from provision.seam import Answer, Claim, InCharge, Resource, ResourceEnd, Teardown, unshared
from provision.walk.edges import Edges
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Paper
from tests.provision.plans import attempted, between_attempts


class Told(Paper):
    """Names what it has ended."""

    def destroy(self, claim: Claim, in_charge: InCharge = unshared) -> Teardown:
        held, teardown = self.boxes.get(claim.run_id), super().destroy(claim, in_charge)
        if held is None or not teardown.clean:
            return teardown
        return msgspec.structs.replace(teardown, resources=(ResourceEnd(resource=held, gone=Answer.YES, at_s=9.0),))


def test_what_is_ended_of_a_run_that_was_over_is_written_into_its_ledger(run_id: str, places: Places, ledger: Ledger) -> None:
    """Whoever reads the book must find all that the run had, and when it went; what does not go bills on, and stands there."""
    first, late = (Resource(kind="instance", id=id, run_id=run_id) for id in ("i-1", "i-late"))
    ledger.append(attempted(run_id, at_s=1.0))
    gone = ResourceEnd(resource=first, gone=Answer.YES, at_s=2.0)
    ledger.append(Ended(run_id=run_id, at_s=2.0, teardown=Teardown.destroyed(run_id, "", resources=(gone,))))
    provider = ledger.runs()[run_id].provider
    sky = Told()
    end_it = partial(end_stray, run_id, provider, Edges(places, Quiet(), environment={}, make=lambda _claim: sky))

    written = ledger.path.read_bytes()
    assert end_it().clean
    assert ledger.path.read_bytes() == written, "nothing was there, and nothing is written"
    sky.boxes[run_id], sky.stubborn = late, True
    assert end_it().verdict == "orphaned"
    assert ledger.runs()[run_id].standing == "asked"
    sky.stubborn = False
    assert end_it().clean
    state = ledger.runs()[run_id]
    assert state.over
    assert state.teardown is not None
    assert [(end.resource.id, end.gone) for end in state.teardown.resources] == [("i-1", Answer.YES), ("i-late", Answer.YES)]


def test_what_does_not_go_at_an_earlier_provider_opens_no_rental_at_this_one(
    run_id: str, places: Places, ledger: Ledger
) -> None:
    """Its last rental has ended; billed on it would be by what stands elsewhere."""
    ledger.append(attempted(run_id, at_s=1.0))
    ledger.append(Ended(run_id=run_id, at_s=2.0, teardown=Teardown.destroyed(run_id, "")))
    sky, written = Told(), ledger.path.read_bytes()
    sky.boxes[run_id], sky.stubborn = Resource(kind="instance", id="i-old", run_id=run_id), True
    teardown = end_stray(run_id, "an earlier cloud", Edges(places, Quiet(), environment={}, make=lambda _claim: sky))
    assert teardown.verdict == "orphaned"
    assert ledger.path.read_bytes() == written
    assert ledger.runs()[run_id].over


def test_a_stray_of_a_run_that_nobody_here_knows_is_ended_and_written_nowhere(places: Places, ledger: Ledger) -> None:
    sky = Told()
    sky.boxes["stranger"] = Resource(kind="instance", id="i-late", run_id="stranger")
    assert end_stray("stranger", "aws", Edges(places, Quiet(), environment={}, make=lambda _claim: sky)).clean
    assert (sky.boxes, ledger.runs(), places.run("stranger").root.exists()) == ({}, {}, False)


def test_a_run_that_goes_on_has_no_strays(run_id: str, places: Places, ledger: Ledger) -> None:
    """Between two attempts a controller may live, which looks itself; what it rents next must not be ended under it."""
    between_attempts(run_id, ledger)
    written, sky = ledger.path.read_bytes(), Told()
    sky.boxes[run_id] = Resource(kind="instance", id="i-late", run_id=run_id)
    with pytest.raises(Held, match="is not over"):
        end_stray(run_id, "aws", Edges(places, Quiet(), environment={}, make=lambda _claim: sky))
    assert (list(sky.boxes), ledger.path.read_bytes()) == ([run_id], written)


@pytest.mark.parametrize("meant", [False, True])
def test_a_stray_whose_run_somebody_has_in_hand_is_left_alone(run_id: str, places: Places, ledger: Ledger, meant: bool) -> None:
    """Its controller closes the books, or has just taken it up: the look that called it a stray was before that. One whose
    deadline has passed is ended all the same.
    """
    ledger.append(attempted(run_id, at_s=1.0))
    ledger.append(Ended(run_id=run_id, at_s=2.0, teardown=Teardown.destroyed(run_id, "")))
    sky = Told()
    sky.boxes[run_id] = Resource(kind="instance", id="i-late", run_id=run_id)
    with places.run(run_id).lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Held, match="is controlled by"):
            end_stray(run_id, "aws", Edges(places, Quiet(), environment={}, make=lambda _claim: sky))
        assert list(sky.boxes) == [run_id]
        if meant:
            assert end_stray(run_id, "aws", Edges(places, Quiet(), environment={}, make=lambda _claim: sky), meant=True).clean
    assert end_stray(run_id, "aws", Edges(places, Quiet(), environment={}, make=lambda _claim: sky)).clean
    assert sky.boxes == {}


def test_a_run_that_left_things_at_two_clouds_is_ended_at_both(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """It went from one to the other on a computer that is lost: by run alone one of them would stand, and exit 0 be said."""
    clouds = {"aws": Paper(), "hetzner": Paper()}
    for name, kind in (("aws", "instance"), ("hetzner", "key_pair")):
        left = Resource(kind=kind, id=name, run_id="r9", installation="here", deadline_at_s=1.0, bills=kind == "instance")
        clouds[name].boxes["r9"] = left

    def look(*_: object, **_edges: object) -> Orphans:
        owned = {name: cloud.owned() for name, cloud in clouds.items()}
        return find_orphans({}, owned, installation="here", now_s=2.0)

    def made(run_id: str, provider: str, edges: Edges) -> Teardown:
        return end_stray(run_id, provider, edges.by(lambda claim: clouds[claim.provider]))

    monkeypatch.setattr(ending, "look_for_orphans", look)
    monkeypatch.setattr(ending, "end_stray", made)
    done = ending.end_orphans(places, None, discard=False)
    assert [each.verdict for each in done.teardowns] == ["destroyed", "destroyed"]
    assert not any(cloud.boxes for cloud in clouds.values())
