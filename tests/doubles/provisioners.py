"""Provisioners that rent nothing: whose machines are names on a list, or never come up."""

from __future__ import annotations

from catalogs.hardware import Offer
from provision.provisioner import Answer, Box, Launch, Owned, Resource, ResourceEnd, Teardown


class Paper:
    """A provisioner whose machines are names on a list."""

    name = "local"
    list_lag_s = 0.0
    worst_teardown_s = 0.0

    def __init__(self) -> None:
        self.boxes: dict[str, Resource] = {}
        self.stubborn = False

    def up(self, offer: Offer, launch: Launch) -> Box:
        raise NotImplementedError

    def destroy(self, launch: Launch) -> Teardown:
        held = self.boxes.get(launch.run_id)
        if held is not None and self.stubborn:
            end_of = ResourceEnd(resource=held, gone=Answer.NO, at_s=0.0)
            return Teardown.orphaned(launch.run_id, "No.", resources=(end_of,))
        self.boxes.pop(launch.run_id, None)
        return Teardown.destroyed(launch.run_id, "")

    def owned(self, tag: str | None = None) -> Owned:
        found = tuple(box for run_id, box in self.boxes.items() if tag in (None, run_id))
        return Owned(resources=found, complete=Answer.YES)

    def console(self, launch: Launch) -> str:
        return ""

    def readmit(self, launch: Launch) -> str | None:
        return None


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
