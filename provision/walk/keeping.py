"""What a spot machine has learned comes home while it learns: it may be taken away at any moment, and its disk with it."""

from __future__ import annotations

import math
import time
from decimal import Decimal
from typing import Final

from catalogs.hardware import Billing
from planner.units import GB, SECONDS_PER_HOUR
from provision.aboard.checkpoints import fetch_newest
from provision.errors import BoxLost, RentuneError, WrongHostKey
from provision.provisioner import Box
from provision.ssh import Shell
from provision.walk.held import Run
from remote.contract import Event

TAKEN_PER_HOUR: Final = 0.05  # assumed: one in twenty; AWS's advisor counts from under 5 to over 20 % a month
LINE_SHARE: Final = 0.1  # assumed: of the time the line may be busy with checkpoints


def rhythm_s(usd_per_hour: Decimal, billing: Billing, size_bytes: int) -> float:
    """Seconds between two checkpoints that come home, where the dollars for sending and for what is lost are least.

    Sending one costs E = size · egress price; a box at p $/h that is taken λ times an hour loses half an interval each time:
    E/T + λ·p·T/2 is least at T = √(2·E/(λ·p)) (derived, as Young, 1974, does for time). Where sending costs nothing: every one.
    """
    egress_usd = size_bytes / GB * float(billing.egress_usd_per_gb or 0)
    if usd_per_hour <= 0:
        return 0.0
    return math.sqrt(2 * egress_usd / (TAKEN_PER_HOUR * float(usd_per_hour))) * SECONDS_PER_HOUR


class Keeper:
    """Hears of checkpoints, and brings home those that are due. What fails here must not hold up the training.

    Once the provider has said that it takes the machine back, the next one that is home ends the attempt: raises BoxLost.
    """

    def __init__(self, run: Run, shell: Shell, box: Box) -> None:
        self._run, self._shell, self._box = run, shell, box
        self._taken_by_right = run.plan.offer.purchase == "spot"
        self._next_at_s = -math.inf
        self._is_noticed = False

    def heard(self, event: Event) -> None:
        """An event of the trainer's. A notice that the machine will be taken makes the next checkpoint due."""
        if not self._taken_by_right:
            return
        if event.kind == "spot_notice":
            self._is_noticed, self._next_at_s = True, -math.inf
            self._run.display.note("The provider takes the machine back: its next checkpoint is brought home at once.")
        elif event.kind == "checkpoint" and self._run.clock() >= self._next_at_s:
            came = self._came_home(int(event.data.get("size_bytes", 0)))
            if came and self._is_noticed:
                raise BoxLost(f"The provider takes the machine back; step {event.data.get('step')} is at home.")

    def _came_home(self, size_bytes: int) -> bool:
        started_s = time.monotonic()
        try:
            fetch_newest(self._shell, self._box, self._run.folder.checkpoints)
        except WrongHostKey:
            raise
        except (RentuneError, OSError) as error:
            self._run.display.note(f"A checkpoint did not come home: {error}")
            return False
        plan, took_s = self._run.plan, time.monotonic() - started_s
        pause_s = max(rhythm_s(plan.offer.usd_per_hour, plan.billing, size_bytes), took_s / LINE_SHARE)
        self._next_at_s = self._run.clock() + pause_s
        return True
