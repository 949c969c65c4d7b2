"""Provisioners that rent nothing: whose machines are names on a list, or never come up."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from catalogs.hardware import Offer
from provision.errors import Declined, Reason, Scope
from provision.seam import Answer, Box, Claim, Ends, InCharge, Launch, Layer, Owned, Resource, ResourceEnd, Teardown, unshared


class Paper:
    """A provisioner whose machines are names on a list."""

    name = "local"
    list_lag_s = 0.0
    worst_teardown_s = 0.0
    look = ""

    def __init__(self) -> None:
        self.boxes: dict[str, Resource] = {}
        self.stubborn = False

    def up(self, offer: Offer, launch: Launch) -> Box:
        raise NotImplementedError

    def destroy(self, claim: Claim, in_charge: InCharge = unshared) -> Teardown:
        held = self.boxes.get(claim.run_id)
        if held is not None and self.stubborn:
            end_of = ResourceEnd(resource=held, gone=Answer.NO, at_s=0.0)
            return Teardown.orphaned(claim.run_id, "No.", resources=(end_of,))
        self.boxes.pop(claim.run_id, None)
        ended = () if held is None else (ResourceEnd(resource=held, gone=Answer.YES, at_s=time.time()),)
        return Teardown.destroyed(claim.run_id, "", resources=ended)

    def owned(self, claim: Claim | None = None) -> Owned:
        found = tuple(box for run_id, box in self.boxes.items() if claim is None or claim.run_id == run_id)
        return Owned(resources=found, complete=Answer.YES)

    def console(self, claim: Claim) -> str:
        return ""

    def account(self) -> str | None:
        return None

    def readmit(self, claim: Claim) -> str | None:
        return None

    def rearm(self, claim: Claim, ends: Ends) -> None:
        pass

    def layers(self, claim: Claim) -> tuple[Layer, ...]:
        return ()


class Market(Paper):
    """Says to each offer what it is told to say; what nothing is said to is there, and was never asked for in these tests."""

    def __init__(self, says: Mapping[str, Exception], *, leaves: Collection[str] = (), zones: Sequence[str] = ()) -> None:
        super().__init__()
        self.says = dict(says)
        self.leaves = leaves  # offers that buy a box and decline all the same
        self.zones = zones  # of every region; each is full, and the first one is asked that is not known to be
        self.asked: list[str] = []

    def up(self, offer: Offer, launch: Launch) -> Box:
        self.asked.append(offer.key)
        if offer.key in self.leaves:
            self.boxes[launch.run_id] = Resource(kind="instance", id="i-1", run_id=launch.run_id, region=launch.region)
        if others := [zone for zone in self.zones if zone not in launch.full_zones]:
            raise Declined(f"{others[0]} is full.", reason=Reason.CAPACITY, scope=Scope.ZONE, zone=others[0])
        raise self.says[offer.key]


class Failing(Paper):
    """`up` does what it is told, then fails; what it bought stays on the list."""

    def __init__(self, error: BaseException, *, buys: bool = False) -> None:
        super().__init__()
        self.error = error
        self.buys = buys
        self.calls: list[str] = []

    def up(self, offer: Offer, launch: Launch) -> Box:
        self.calls.append("up")
        if self.buys:
            self.boxes[launch.run_id] = Resource(kind="instance", id="i-1", run_id=launch.run_id)
        raise self.error
