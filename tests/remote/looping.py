"""A training loop outside of a run. Apart from the fixtures, since it loads torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from remote.checkpoints.checkpoint import Progress
from remote.contract import JobSpec
from remote.data.batches import Shape
from remote.data.tokens import Example
from remote.desk import Desk
from remote.machine.advice import Advisor
from remote.machine.meters import Meters
from remote.step import settings_of
from remote.telemetry import Events
from remote.training.fitting import Training
from remote.watch import Watch
from remote.watchdog import Watchdog


def training_of(spec: JobSpec, model: Any, rows: Sequence[Example], shape: Shape, folder: Path, events: Events) -> Training:
    """What a loop begins with, outside of a run: nothing held out, nobody who asks it to stop, no watchdog awake."""
    desk = Desk(
        events=events, watch=Watch(), meters=Meters("cpu"), watchdog=Watchdog(_never), advisor=Advisor(link_bytes_per_s=None)
    )
    return Training(
        spec=spec,
        model=model,
        train=rows,
        held_out=(),
        shape=shape,
        settings=settings_of(spec.strategy, "cpu", spec.loop.max_grad_norm),
        checkpoints=folder,
        progress=Progress(),
        desk=desk,
    )


def _never(silent_s: float, _longest_s: float) -> None:
    raise AssertionError(f"cut after {silent_s} s")
