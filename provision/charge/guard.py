"""Who sets a run's sentinel: whoever takes charge of it, and every command that finds a run which nobody controls.

A sentinel does not outlive a reboot of this machine, and the machines that it ends do.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

from provision.account.runs import RunState
from provision.charge.apart import spawn_apart
from provision.charge.controller import is_locked
from provision.home.places import Places
from provision.providers import ends_itself
from provision.walk.crash import without_crash_point

SENTINEL: Final = (sys.executable, "-m", "provision.charge.sentinel")


def set_sentinel(run_id: str, providers: Iterable[str], places: Places, environment: Mapping[str, str]) -> None:
    """Where a machine that is off is billed on, a process apart ends the run at its deadline, whatever becomes of this one.

    A run that has one gets no other. Raises OSError where no process can be started.
    """
    if not all(map(ends_itself, providers)) and not is_locked(places.run(run_id).sentinel):
        spawn_apart(SENTINEL, run_id, places, without_crash_point(environment))


def set_again(runs: Iterable[RunState], places: Places, environment: Mapping[str, str]) -> None:
    """Set a sentinel for each run that nobody controls. One whose folder is not here, or of another machine, is ended from
    there.
    """
    for state in runs:
        if state.rentals and places.run(state.run_id).root.is_dir():
            with suppress(OSError):  # the next command tries again
                set_sentinel(state.run_id, (state.provider,), places, environment)
