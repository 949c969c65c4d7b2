"""`run --detach`: a controller in a process session of its own, so that closing the terminal ends nothing.

    python -m provision.charge.supervise RUN_ID

It holds the lease as `run` does, writes to the run's controller.log, and ends with the run's exit code.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping

from provision.charge.control import drive, find_run
from provision.errors import RentuneError, TrainingFailed
from provision.ledger import Controlled, Ledger
from provision.places import Places, read_places
from provision.watch.progress import LineDisplay

START_S = 30.0  # assumed: a busy machine imports paramiko and Pulumi within this
POLL_S = 0.05


def start_supervisor(run_id: str, *, places: Places, environment: Mapping[str, str] = os.environ) -> int:
    """Start one for an opened run and return its pid once it is in charge. Raises TrainingFailed when it is not in time."""
    log = places.run(run_id).controller_log
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "provision.charge.supervise", run_id],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**environment, "RENTUNE_HOME": str(places.home), "RENTUNE_CACHE": str(places.cache)},
        )
    ends_at_s = time.monotonic() + START_S
    while time.monotonic() < ends_at_s and process.poll() is None:
        controlled = _controlled(places, run_id)
        if controlled is not None and controlled.pid == process.pid:
            return process.pid
        time.sleep(POLL_S)
    if process.poll() == 0:
        return process.pid
    raise TrainingFailed("The supervisor did not take charge.", hint=f"Its words are in {log}; rentune down {run_id}")


def _controlled(places: Places, run_id: str) -> Controlled | None:
    return find_run(Ledger(places.ledger), run_id).controlled


def main(arguments: list[str]) -> int:
    """Drive the run to its end."""
    (run_id,) = arguments
    display = LineDisplay(sys.stdout)
    try:
        return drive(run_id, places=read_places(os.environ), display=display, detached=True).exit_code
    except RentuneError as error:
        display.note(f"Error: {error}")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
