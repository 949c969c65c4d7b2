"""Checkpoints between box and home: what another box needs to go on where this one was taken away.

The newest one, and the best so far where that is another: the trainer ends with the best weights. Every file is hashed on both
sides, and a checkpoint gets its name at home only once it is there whole.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from provision.aboard.ship import job_folder
from provision.errors import TransferFailed
from provision.home.checkpoints import COMING, adopt, drop_others, steps_at_home
from provision.seam import Box
from remote.contract import CHECKPOINT_DIR, CHECKPOINT_FILES, PROGRESS_FILE, Judged, checkpoint_name, checkpoint_step, decode
from remote.digest import sha256_of

if TYPE_CHECKING:
    from provision.ssh import Shell


class Fetched(msgspec.Struct, frozen=True):
    """What came home."""

    step: int  # of the newest
    num_bytes: int  # that left the box for it


def fetch_newest(shell: Shell, box: Box, home: Path) -> Fetched | None:
    """Bring home the newest checkpoint and the best that it names; None where the box has none.

    What a line that was cut had brought of them is not sent again, as far as its hash is the box's. Older ones at home go once
    it is there. Raises TransferFailed (also where the trainer dropped it meanwhile), ConnectionFailed, or HomeFailed.
    """
    there = f"{job_folder(box)}/{CHECKPOINT_DIR}"
    steps = _steps_there(shell, there)
    if not steps:
        return None
    step = max(steps)
    newest, coming = checkpoint_name(step), home / COMING
    drop_others(coming, {checkpoint_name(each) for each in steps})
    if (home / newest).exists():  # weights that are at home are not paid for twice; which is the best may be another by now
        shell.get(f"{there}/{newest}/{PROGRESS_FILE}", coming / PROGRESS_FILE)
        (coming / PROGRESS_FILE).replace(home / newest / PROGRESS_FILE)
        best = _best_of(home / newest)
    else:
        _fetch(shell, there, newest, coming)
        best = _best_of(coming / newest)
    wanted = [name for name in (best, newest) if name is not None]  # the newest last: with it the set is whole
    for name in wanted:
        if name != newest and not (home / name).exists():
            _fetch(shell, there, name, coming)
    num_bytes = sum(file.stat().st_size for name in wanted for file in coming.glob(f"{name}/*"))
    adopt(coming, home, wanted)
    return Fetched(step=step, num_bytes=num_bytes)


def _steps_there(shell: Shell, there: str) -> list[int]:
    """Steps of the checkpoints on the box; none where there is no folder yet. Raises TransferFailed where it can't be read."""
    listed = shell.run(f"if [ -d {shlex.quote(there)} ]; then ls {shlex.quote(there)}; fi")
    if listed.rc != 0:
        raise TransferFailed(f"{shell.box.host} could not list its checkpoints: {listed.err.strip() or listed.rc}")
    return [step for name in listed.out.split() if (step := checkpoint_step(name)) is not None]


def ship_checkpoints(shell: Shell, box: Box, home: Path) -> None:
    """Lay what is at home where the trainer of a new box will look. Raises TransferFailed, or ConnectionFailed."""
    for step in steps_at_home(home):
        for file in sorted((home / checkpoint_name(step)).iterdir()):
            shell.put(file, f"{job_folder(box)}/{CHECKPOINT_DIR}/{file.parent.name}/{file.name}")


def _fetch(shell: Shell, there: str, name: str, coming: Path) -> None:
    """By the names that every checkpoint has, and by none that the box says: its word is no path here."""
    if shell.run(f"[ -d {shlex.quote(f'{there}/{name}')} ]").rc != 0:
        raise TransferFailed(f"{name} is no longer on {shell.box.host}.")
    for file in CHECKPOINT_FILES:
        remote, local = f"{there}/{name}/{file}", coming / name / file
        if not (local.exists() and shell.has(remote, sha256_of(local))):
            shell.get(remote, local)


def _best_of(checkpoint: Path) -> str | None:
    try:
        best = decode((checkpoint / PROGRESS_FILE).read_bytes(), Judged).best_step
    except (OSError, msgspec.DecodeError) as error:
        raise TransferFailed(f"{checkpoint.name} has no progress that can be read: {error}") from error
    return None if best is None else checkpoint_name(best)
