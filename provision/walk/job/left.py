"""What a box that was a process of this machine has left on its disk when it went: a power cut, or a shutdown, takes it along,
and its folder stays. A result that it had finished comes home from there, else its newest checkpoint.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from provision.aboard.checkpoints import fetch_newest
from provision.errors import BoxLost, RentuneError, Spoilt, TransferFailed
from provision.home.whole import at_home
from provision.seam import Box
from provision.ssh import Completed, Progress, Shell
from provision.walk.driven import Run
from provision.walk.job.patience import has_gone
from provision.walk.job.training import fetch, left_result
from remote.digest import sha256_of


class Disk(Shell):
    """As much of a connection as bringing home takes, to a folder of this machine."""

    def __init__(self, box: Box) -> None:
        self.box = box

    def run(self, command: str, *, timeout_s: float = 60.0, stdin: bytes | None = None) -> Completed:
        """By this machine's own shell. Raises TransferFailed where it does not end in time."""
        try:
            done = subprocess.run(
                ["sh", "-c", command], input=stdin or b"", capture_output=True, timeout=timeout_s, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TransferFailed(f"What the box has left could not be read: {error}") from error
        return Completed(rc=done.returncode, out=done.stdout.decode(errors="replace"), err=done.stderr.decode(errors="replace"))

    def get(
        self,
        remote: str,
        local: Path,
        *,
        sha256: str | None = None,
        num_bytes: int | None = None,  # noqa: ARG002 - a copy here costs nothing that a bound would save
        progress: Progress | None = None,  # noqa: ARG002
    ) -> str:
        """Copy a file; return its sha256. Raises TransferFailed for what can't be read or is another, HomeFailed."""
        found = _sha256_of(remote)
        if sha256 not in (None, found):
            raise Spoilt(f"{remote} is not what the trainer wrote.")
        with at_home(local):
            local.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(remote, local)
        return found

    def has(self, remote: str, sha256: str) -> bool:
        """Whether a file there is this one. Raises TransferFailed where it can't be read."""
        return _sha256_of(remote) == sha256

    def close(self) -> None:
        """Nothing is open."""


def _sha256_of(remote: str) -> str:
    try:
        return sha256_of(Path(remote))
    except OSError as error:
        raise TransferFailed(f"{remote} can't be read: {error.strerror or error}.") from error


@contextmanager
def left_brought(run: Run) -> Iterator[None]:
    """A box that goes while the block runs, whose lease ended or which died, has what it left on this disk brought home before
    anything removes it, whatever the block ends with: the deadline may have passed meanwhile, or somebody has pressed Ctrl-C.
    """
    try:
        yield
    except BoxLost:
        bring_left(run)
        raise
    except BaseException:
        if _has_left(run):
            bring_left(run)
        raise


def _has_left(run: Run) -> bool:
    """Whether the box was a process of this machine that is gone. False where that can't be seen."""
    box = run.state.box
    with suppress(RentuneError, OSError):
        return box is not None and box.shares_files and has_gone(run)
    return False


def bring_left(run: Run) -> None:
    """For a run whose box is gone, before what is left of it is removed. Nothing of a box that had files of its own. What fails
    is told: nothing of it may keep the books open.
    """
    box = run.state.box
    if box is None or not box.shares_files or not Path(box.folder).is_dir():
        return
    disk = Disk(box)
    try:
        if left_result(disk, box):
            fetch(run, disk, box)
        else:
            _bring_learned(run, disk, box)
    except (RentuneError, OSError) as error:
        run.display.note(f"What the box has left in {box.folder} did not come home: {error}")


def _bring_learned(run: Run, disk: Disk, box: Box) -> None:
    """Past the deadline, too: it is no box any more that could go meanwhile, and nothing leaves a provider."""
    fetched = fetch_newest(disk, box, run.folder.checkpoints)
    if fetched is not None:
        run.display.note(f"The checkpoint of step {fetched.step} is at home.")
