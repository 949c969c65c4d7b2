"""`run --detach`: a controller in a process session of its own, so that closing the terminal ends nothing.

    python -m provision.charge.supervise RUN_ID

It holds the lease as `run` does, writes to the run's controller.log, and ends with the run's exit code.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from provision.account.ledger import Ledger
from provision.charge.control import drive, find_run
from provision.envelope.failure import tell
from provision.errors import TrainingFailed
from provision.places import Places, read_places
from provision.watch.progress import LineDisplay

START_S = 30.0  # assumed: a busy machine imports paramiko and Pulumi within this
POLL_S = 0.05


def start_supervisor(run_id: str, *, places: Places, environment: Mapping[str, str] = os.environ) -> int:
    """Start one for an opened run and return its pid once it is in charge. Raises TrainingFailed when it is not in time."""
    log = places.run(run_id).controller_log
    variables = {**environment, "RENTUNE_HOME": str(places.home), "RENTUNE_CACHE": str(places.cache)}
    command = [sys.executable, "-m", "provision.charge.supervise", run_id]
    pid = _spawn(command, log, variables)
    ends_at_s = time.monotonic() + START_S
    while time.monotonic() < ends_at_s:
        controlled = find_run(Ledger(places.ledger), run_id).controlled
        if controlled is not None and controlled.pid == pid:
            return pid
        if os.waitpid(pid, os.WNOHANG) != (0, 0):
            break
        time.sleep(POLL_S)
    raise TrainingFailed("The supervisor did not take charge.", hint=f"Its words are in {log}; rentune down {run_id}")


def _spawn(command: list[str], log: Path, variables: dict[str, str]) -> int:
    """Start a process in a session of its own that nobody here will wait for, and return its pid."""
    inward = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    outward = (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return os.posix_spawn(
        command[0], command, variables, file_actions=[inward, outward, (os.POSIX_SPAWN_DUP2, 1, 2)], setsid=True
    )


def main(arguments: list[str]) -> int:
    """Drive the run to its end."""
    (run_id,) = arguments
    try:
        return drive(run_id, places=read_places(os.environ), display=LineDisplay(sys.stdout), detached=True).exit_code
    except Exception as error:  # noqa: BLE001 - the outermost frame: known failures are told, others pass through
        return tell(error, [])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
