"""Whether home has room for what a run brings there, compared before anything is rented. Looks at the disks, and no more."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from planner.plan import Plan
from provision.errors import Refused
from provision.home.places import Places
from provision.prepare.limits.outlay import NEWEST_AND_BEST
from provision.words import bytes_words
from remote.contract import MAX_CHECKPOINTS

# assumed: a log comes home as 1.1 MiB at the most; events, papers and report of a day take a few more
LOGS_BYTES: Final = 8 * 2**20

Free = Callable[[Path], int]


def free_bytes(folder: Path) -> int:
    """Of the disk that the folder is on, or would be. Raises OSError."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return shutil.disk_usage(there).free


def require_room(plan: Plan, places: Places, free: Free = free_bytes) -> str | None:
    """Raises Refused where home has no room for the run's result and its logs.

    A sentence where it has for these, and for no checkpoint: those come home from a spot machine, or of a training that ends
    early. A disk that does not tell is taken to be large enough.
    """
    result_bytes = plan.host.disk_components.get("result", 0)
    asked = plan.request.keep.adapter
    home, adapter = places.home, Path(asked) if asked else places.home
    for folder, needed, what in (
        (
            home,
            LOGS_BYTES + (result_bytes if adapter == home else 0),
            "the run's logs" if asked else "the adapter and the logs",
        ),
        *(((adapter, result_bytes, "the adapter"),) if asked else ()),
    ):
        has = _free(folder, free)
        if has is not None and has < needed:
            raise Refused(
                f"{folder} has {bytes_words(has)} free on this machine, and {what} of this run may take {bytes_words(needed)}.",
                hint="Free space there, or name another place: RENTUNE_HOME=FOLDER, `keep: {adapter: FOLDER}` in a job file.",
            )
    checkpoints_bytes = NEWEST_AND_BEST * (plan.host.disk_components.get("checkpoints", 0) // MAX_CHECKPOINTS)
    needed, has = LOGS_BYTES + result_bytes + checkpoints_bytes, _free(home, free)
    if has is None or has >= needed:
        return None
    return (
        f"{home} has {bytes_words(has)} free on this machine; with the checkpoints that come home where a training ends early "
        f"this run may take {bytes_words(needed)}, and what has no room does not come"
    )


def _free(folder: Path, free: Free) -> int | None:
    try:
        return free(folder)
    except OSError:
        return None
