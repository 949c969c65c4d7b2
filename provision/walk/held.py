"""A run in its controller's hands: what lies on disk about it, and the edges of its walk."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from planner.plan import Plan, read_plan
from provision.account.ledger import Ledger, RunState
from provision.places import Places, RunFolder
from provision.prepare.inputs import BaseModel
from provision.prepare.opening import read_base, read_launch
from provision.provisioner import Launch, Provisioner
from provision.walk.phases import Display

LEAST_BOOT_S: Final = 60.0  # assumed: so long at least is a box tried before one try counts as failed


@dataclass(frozen=True)
class Run:
    """One run as it lies on disk, and the edges of its walk."""

    run_id: str
    folder: RunFolder
    plan: Plan
    base: BaseModel
    launch: Launch
    places: Places
    ledger: Ledger
    provisioner: Provisioner
    display: Display
    crash_point: str | None = None
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    least_boot_s: float = LEAST_BOOT_S

    @property
    def adapter_folders(self) -> tuple[Path, ...]:
        """Where the adapter may come home to, in this order: where the job file said, else into the run's directory."""
        asked = self.plan.request.keep.adapter
        return (Path(asked), self.folder.adapter) if asked else (self.folder.adapter,)

    @property
    def state(self) -> RunState:
        """The run as the ledger has it now."""
        return self.ledger.runs()[self.run_id]

    @property
    def left_s(self) -> float:
        """Seconds to the deadline."""
        return self.state.deadline_at_s - self.clock()


def read_run(
    run_id: str,
    *,
    places: Places,
    ledger: Ledger,
    provisioner: Provisioner,
    display: Display,
    crash_point: str | None = None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Run:
    """Read back what `open_run` wrote."""
    folder = places.run(run_id)
    return Run(
        run_id=run_id,
        folder=folder,
        plan=read_plan(folder.plan.read_text(), name=str(folder.plan)),
        base=read_base(folder),
        launch=read_launch(folder, ledger.runs()[run_id]),
        places=places,
        ledger=ledger,
        provisioner=provisioner,
        display=display,
        crash_point=crash_point,
        clock=clock,
        sleep=sleep,
    )
