"""What every stage of a run writes to or asks."""

from __future__ import annotations

from dataclasses import dataclass

from remote.checkpoints.push import Pusher
from remote.machine.advice import Advisor
from remote.machine.meters import Meters
from remote.telemetry import Events
from remote.watch import Watch
from remote.watchdog import Watchdog


@dataclass(frozen=True, kw_only=True)
class Desk:
    """The instruments; none of them knows of training."""

    events: Events
    watch: Watch
    meters: Meters
    watchdog: Watchdog
    advisor: Advisor
    pusher: Pusher | None = None  # where the controller has granted places in object storage
