"""The trainer as a process on the box: start it once, see how it stands, read its events, stop it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from provision.provisioner import Box
from remote.contract import Event, JobSpec, Outcome

if TYPE_CHECKING:
    from provision.ssh import Shell


class JobState(msgspec.Struct, frozen=True, kw_only=True):
    """Where the job stands. `rc` is set exactly when it ended; killed = gone without leaving an rc (reboot, OOM killer)."""

    state: Literal["never_started", "running", "ended", "killed", "unknown"]
    rc: int | None = None


def job_folder(box: Box) -> str:
    """The folder on the box that holds job.json and everything beside it."""
    return f"{box.folder}/job"


def start(shell: Shell, box: Box, spec: JobSpec, *, python: str) -> None:
    """Upload job.json and start `python -m remote job.json`, detached. Does nothing while it runs or once it ended.

    A job that was killed is started again; the trainer goes on from its last checkpoint.
    """
    raise NotImplementedError


def state(shell: Shell, box: Box) -> JobState:
    """Ask the box. An unreachable box is `unknown`, never an exception."""
    raise NotImplementedError


def events(shell: Shell, box: Box, local: Path) -> Iterator[Event]:
    """The job's events from `local`'s size on, live; ends when the job no longer runs and all are read."""
    raise NotImplementedError


def outcome(shell: Shell, box: Box) -> Outcome | None:
    """The trainer's outcome.json; None while there is none."""
    raise NotImplementedError


def stop(shell: Shell, box: Box, *, patience_s: float = 20.0) -> None:
    """SIGTERM to the job, SIGKILL to what is left after `patience_s`. Safe when nothing runs."""
    raise NotImplementedError
