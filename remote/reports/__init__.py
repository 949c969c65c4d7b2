"""What others show of a run while it goes on: its figures in TensorBoard's and W&B's own files, beside the JSON lines.

Each listens to the events. One that fails is told of once and left out from then on: no run ends for the sake of a curve.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from remote.contract import Event, Report
from remote.ends import bad_job, first_line
from remote.reports.board import Board
from remote.reports.weights_and_biases import WeightsAndBiases
from remote.telemetry import Events

REPORTS_DIR: Final = "reports"  # beside job.json while it trains, in the result afterwards
GROUPS: Final[Mapping[str, str]] = {"step": "train", "evaluation": "eval", "telemetry": "machine"}  # of a kind of event
NO_CURVE: Final = ("step", "total_steps")
_MIDDLE: Final = itemgetter(1)  # of what a meter showed: least, mean, most


class Reporter(Protocol):
    """Where figures are shown."""

    def show(self, step: int, figures: Mapping[str, float]) -> None:
        """Add a point to the curve of each."""

    def close(self) -> None:
        """Have all of it on the disk."""


class Way(NamedTuple):
    """How one kind of report begins, and the package that it needs."""

    begun: Callable[[Path, str, int], Reporter]  # (folder, the run's id, the step that it goes on from)
    package: str | None = None


WAYS: Final[Mapping[Report, Way]] = {
    "tensorboard": Way(Board),
    "wandb": Way(partial(WeightsAndBiases, online=True), "wandb"),
    "wandb_offline": Way(partial(WeightsAndBiases, online=False), "wandb"),
}


def check_reports(asked: tuple[Report, ...]) -> None:
    """Raise `Ended` (bad job) for a report whose package is not installed."""
    for name in asked:
        package = WAYS[name].package
        if package is not None and find_spec(package) is None:
            raise bad_job(
                f"report_to {name} needs the package {package}, which is not installed here; report_to tensorboard needs none"
            )


@contextmanager
def reporting(asked: tuple[Report, ...], folder: Path, run_id: str, step: int, events: Events) -> Iterator[None]:
    """Show the events of this block. Raises `Ended` (bad job) for a report that can't be begun."""
    begun: dict[Report, Reporter] = {}
    try:
        for name in asked:
            try:
                begun[name] = WAYS[name].begun(folder / REPORTS_DIR / name, run_id, step)
            except Exception as error:
                raise bad_job(f"report_to {name} can't begin: {first_line(error)}") from error
        shown = Shown(begun, events, step)
        with events.heard_by(shown):
            yield
    finally:
        for name, reporter in begun.items():
            try:
                reporter.close()
            except Exception as error:  # noqa: BLE001 - another's library; the run has its weights
                events.warn(f"the report to {name} is not whole: {first_line(error)}")


class Shown:
    """Guards the reporters that are still whole, and the step that the machine's figures belong to."""

    def __init__(self, reporters: Mapping[Report, Reporter], events: Events, step: int) -> None:
        self._reporters, self._events, self._step = dict(reporters), events, step
        self._one_at_a_time = threading.Lock()

    def __call__(self, event: Event) -> None:
        group = GROUPS.get(event.kind)
        if group is None:
            return
        told = {name: _MIDDLE(value) if isinstance(value, list) else value for name, value in event.data.items()}
        figures = {f"{group}/{name}": float(value) for name, value in told.items() if _is_figure(name, value)}
        failed: list[str] = []
        with self._one_at_a_time:
            self._step = int(event.data.get("step", self._step))
            for name, reporter in list(self._reporters.items()):
                try:
                    reporter.show(self._step, figures)
                except Exception as error:  # noqa: BLE001 - another's library
                    del self._reporters[name]
                    failed.append(f"nothing more is reported to {name}: {first_line(error)}")
        for words in failed:  # an event itself: told when nothing is held any more
            self._events.warn(words)


def _is_figure(name: str, value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and name not in NO_CURVE


def bring_along(folder: Path, output: Path) -> None:
    """Put what has been reported into the result."""
    if (folder / REPORTS_DIR).is_dir():
        shutil.copytree(folder / REPORTS_DIR, output / REPORTS_DIR)
