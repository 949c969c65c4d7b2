"""A run that is driven or ended: what lies on disk about it, and the edges of its walk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from catalogs.hardware import Offer
from planner.plan import Plan
from planner.saved import read_plan
from provision.aboard.renewal import attended
from provision.account.ledger import Ledger
from provision.account.runs import Rental, RunState
from provision.home.clocks import Clocks
from provision.home.places import Places, RunFolder
from provision.prepare.inputs import BaseModel
from provision.prepare.opening import asked_ram_gib
from provision.prepare.papers import read_alternatives, read_base, read_claim, read_launch
from provision.seam import Claim, Launch, Provisioner
from provision.ssh import Shell
from provision.state.checkpoints import PushedCheckpoints
from provision.walk.edges import Edges, MakeProvisioner
from provision.walk.phases import Display
from provision.walk.renting import Renting
from remote.contract import Phase

LEAST_BOOT_S: Final = 60.0  # assumed: so long at least is a box tried before one try counts as failed

Connect = Callable[..., Shell]  # as Shell.connect
Attended = Callable[..., AbstractContextManager[None]]  # as renewal.attended
Agrees = Callable[[str], bool]  # a question → whether somebody is there and says yes


@dataclass(frozen=True)
class Reach:
    """How a box is reached."""

    connect: Connect = Shell.connect
    attended: Attended = attended
    least_boot_s: float = LEAST_BOOT_S


REACH: Final = Reach()


@dataclass(frozen=True)
class Run:
    """One run as it lies on disk, and the edges of its walk."""

    run_id: str
    folder: RunFolder
    plans: tuple[Plan, ...]  # the one that was agreed to, then what may take its place
    base: BaseModel
    places: Places
    ledger: Ledger
    make: MakeProvisioner
    display: Display
    clocks: Clocks
    agrees: Agrees = lambda _question: False
    pushed: PushedCheckpoints | None = None  # in object storage, where the run's state lies there
    crash_point: str | None = None
    reach: Reach = REACH

    @property
    def adapter_folders(self) -> tuple[Path, ...]:
        """Where the adapter may come home to, in this order: where the job file said, else into the run's directory."""
        asked = self.plans[0].request.keep.adapter
        return (Path(asked), self.folder.adapter) if asked else (self.folder.adapter,)

    @property
    def state(self) -> RunState:
        """The run as the ledger has it now."""
        return self.ledger.runs()[self.run_id]

    @property
    def plan(self) -> Plan:
        """The plan of the last attempt; before one, the plan that was agreed to."""
        rental = self.state.rental
        return next((plan for plan in self.plans if rental and plan.offer.key == rental.offer.key), self.plans[0])

    @property
    def claim(self) -> Claim:
        """Where the box of the last attempt is, or would be."""
        return read_claim(self.folder, self.state)

    @property
    def provisioner(self) -> Provisioner:
        """Of the last attempt; before one, of the plan that was agreed to."""
        return self.make(self.claim)

    @property
    def launch(self) -> Launch:
        """What the provisioner is told for the attempt that the ledger has last."""
        rental, opened = self.state.rental, read_launch(self.folder)
        if rental is None:
            return opened
        return msgspec.structs.replace(
            opened,
            provider=rental.offer.provider,
            region=rental.offer.region,
            disk_gib=rental.disk_gib,
            ram_gib=asked_ram_gib(self.plan),
            full_zones=full_zones(self.state.rentals, rental.offer),
            deadline_at_s=self.state.deadline_at_s,
            account=rental.account,
        )

    @property
    def renting(self) -> Renting:
        """The edges of the renting of the last attempt."""
        planned = self.plan.duration.phase_s.get(Phase.TEARDOWN)
        return Renting(
            self.provisioner,
            self.ledger,
            clock=self.clocks.wall,
            note=self.display.note,
            teardown_s=planned.p50 if planned else None,
            clock_shift_s=self.clocks.clock_shift_s,
        )

    @property
    def left_s(self) -> float:
        """Seconds to the deadline."""
        return self.state.deadline_at_s - self.clocks.wall()


def full_zones(rentals: Iterable[Rental], offer: Offer) -> tuple[str, ...]:
    """Where the offer was refused to this run, zone by zone."""
    tried = [rental.tried for rental in rentals if rental.offer.key == offer.key and rental.tried is not None]
    return tuple(each.zone for each in tried if each.zone is not None)


def read_run(run_id: str, edges: Edges, *, ledger: Ledger) -> Run:
    """Read back what `open_run` wrote. Raises MissingPart where the run's provisioner can't be made here."""
    folder = edges.places.run(run_id)
    ledger.remember(run_id, edges.display.note)
    run = Run(
        run_id=run_id,
        folder=folder,
        plans=(read_plan(folder.plan.read_text(), name=str(folder.plan)), *read_alternatives(folder)),
        base=read_base(folder),
        places=edges.places,
        ledger=ledger,
        make=_each_once(edges.provisioners()),
        display=edges.display,
        clocks=edges.clocks,
    )
    run.make(run.claim)  # what is missing is said before anything is touched
    return run


def _each_once(make: MakeProvisioner) -> MakeProvisioner:
    """One provisioner a provider: that of a host keeps the key that a person has vouched for."""
    made: dict[str, Provisioner] = {}

    def once(claim: Claim) -> Provisioner:
        if claim.provider not in made:
            made[claim.provider] = make(claim)
        return made[claim.provider]

    return once
