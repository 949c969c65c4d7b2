"""What the engine's own state of a run is good for when that is ended: it knows of more than the tag, and of less than all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from provision.clouds.engine.stack import Recorded, Stack, State
from provision.clouds.inventory import Inventory, Notes
from provision.clouds.programs import Cloud
from provision.errors import ControlLost, ProvisionError, RentuneError
from provision.home.places import RunFolder
from provision.seam import MACHINE, Answer, Claim, InCharge, Resource


@dataclass(frozen=True)
class Undoing:
    """The state of one run, and what is done by it. Where there is none nothing is, and the tag decides alone."""

    claim: Claim
    regions: tuple[str, ...]
    cloud: Cloud
    inventory: Inventory
    opened: Callable[[Claim], Stack]  # raises MissingPart where there is no engine here

    @property
    def has_state(self) -> bool:
        return (RunFolder(self.claim.folder).engine / "state").exists()

    def has_some(self) -> bool:
        """Whether the engine has made something, or was about to; one that can't be asked may have."""
        if not self.has_state:
            return False
        try:
            return not self._settled().state().empty
        except Exception:  # noqa: BLE001 - as in `destroy`: a torn state tells of nothing that is not there
            return True

    def look_first(self, notes: Notes) -> bool:
        """Note what stands before anything is ended; whether all could be seen. Only the state knows of more than the tag."""
        if not self.has_state:
            return False
        listed = self.inventory.to_end(self.regions, self.claim)
        notes.look(listed, at_s=self.inventory.told_s(listed))
        return listed.complete is Answer.YES

    def outlast_engine(self, notes: Notes) -> None:
        """Until none of this home's goes on with what it was told to make. Of a whole run, what it has made is noted."""
        if not self.has_state:
            return
        try:
            stack = self._settled()
            if self.claim.own is None:
                notes.recorded(self._ending(stack.state()))
        except Exception as error:  # noqa: BLE001 - as below: what is listed is ended all the same
            notes.troubles.append(f"its engine could not be waited for: {error}")

    def destroy(self, notes: Notes, in_charge: InCharge) -> None:
        """All that the state has. What fails is noted: the tag decides. Raises ControlLost."""
        if not self.has_state:
            return
        try:
            stack = self._settled()
            state = stack.state()
            notes.recorded(self._ending(state))
            if state.pending:
                stack.adopt(self._ids_by_type())
                stack.refresh()
            if not state.empty:
                in_charge()
                stack.destroy()
                _require_empty(stack.state())
        except ControlLost:
            raise
        except RentuneError as error:
            notes.troubles.append(str(error))
        except Exception as error:  # noqa: BLE001 - a full disk or a torn state must not keep the box from ending by tag
            notes.troubles.append(f"its state could not be used: {type(error).__name__}: {error}")

    def _settled(self) -> Stack:
        """Once no engine of this home is at it any more."""
        stack = self.opened(self.claim)
        stack.recover()
        return stack

    def _ending(self, state: State) -> tuple[Resource, ...]:
        return ending(self.cloud, self.regions[0], self.claim.run_id, state)

    def _ids_by_type(self) -> dict[str, str]:
        listed = self.inventory.listed(self.regions, self.claim.run_id)
        ids = {resource.kind: resource.id for resource in listed.resources + listed.kept}
        return {type: ids[kind] for type, kind in kinds_of(self.cloud).items() if kind in ids}


def kinds_of(cloud: Cloud) -> dict[str, str]:
    """Of all that its program may make, a kept volume among it."""
    return cloud.KINDS | (cloud.VOLUMES.kinds if cloud.VOLUMES else {})


def ending(cloud: Cloud, region: str, run_id: str, state: State) -> tuple[Resource, ...]:
    """What the state has and a teardown ends: all but a volume that is kept, and how it is attached."""
    kinds = cloud.KINDS
    return tuple(_resource(kinds[each.type], region, run_id, each) for each in state.resources if each.type in kinds)


def _resource(kind: str, region: str, run_id: str, recorded: Recorded) -> Resource:
    return Resource(kind=kind, id=recorded.id, region=region, run_id=run_id, bills=kind == MACHINE)


def _require_empty(state: State) -> None:
    if not state.empty:
        left = f"{len(state.resources)} resources and {len(state.pending)} unfinished operations"
        raise ProvisionError(f"the state still holds {left}")
