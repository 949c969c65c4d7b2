"""A process of ours in a session of its own: closing the terminal does not end it, and nobody here waits for it."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence

from provision.home.places import Places


def spawn_apart(command: Sequence[str], run_id: str, places: Places, environment: Mapping[str, str]) -> int:
    """Start one for a run and return its pid. What it says goes to the run's controller.log. Raises OSError."""
    log = places.run(run_id).controller_log
    variables = {**environment, "RENTUNE_HOME": str(places.home), "RENTUNE_CACHE": str(places.cache)}
    inward = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    outward = (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return os.posix_spawn(
        command[0],
        [*command, run_id],
        variables,
        file_actions=[inward, outward, (os.POSIX_SPAWN_DUP2, 1, 2)],
        setsid=True,
        setsigdef=(signal.SIGINT,),  # by which it is asked to stop, and which whoever runs in a shell's background ignores
    )
