"""`run --detach`: a controller in a process session of its own, so that closing the terminal ends nothing.

One in the foreground whose terminal is closed leaves its run to such a supervisor.

    python -m provision.charge.supervise RUN_ID

It takes charge as `run` does, writes to the run's controller.log, and ends with the run's exit code. SIGINT stops the run;
SIGTERM and SIGHUP end the supervisor alone: so does a machine that shuts down, or a session that is closed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from provision.account.ledger import Ledger
from provision.charge.apart import spawn_apart
from provision.charge.attendant import Attendant
from provision.charge.controller import in_control
from provision.charge.driving import drive
from provision.charge.finding import find_run
from provision.envelope.failure import tell
from provision.errors import TrainingFailed
from provision.home.clocks import Clocks
from provision.home.interrupt import answered, interruptible
from provision.home.places import Places, read_places
from provision.home.shielded import SHIELDED
from provision.state.shared import ledger_of
from provision.walk import renting
from provision.walk.edges import Edges
from provision.watch.progress import LineDisplay

START_S = 30.0  # assumed: a busy machine imports paramiko and Pulumi within this
POLL_S = 0.05  # assumed: as often as nobody notices
ENDED_FIRST: Final = "The supervisor is ended first, with what it may have rented; pressing Ctrl-C again changes nothing."
SUPERVISOR = (sys.executable, "-m", "provision.charge.supervise")


def start_supervisor(
    run_id: str,
    *,
    places: Places,
    clocks: Clocks,
    environment: Mapping[str, str] = os.environ,
    command: Sequence[str] = SUPERVISOR,
    start_s: float = START_S,
) -> int:
    """Start one for an opened run and return its pid once it is in charge.

    Raises TrainingFailed when it is not in time, and KeyboardInterrupt when somebody would not wait for it: then it has been
    ended, with what it may have rented.
    """
    ledger = Ledger(places.ledger)
    ledger.remember(run_id)
    pid: int | None = None
    try:
        with interruptible({signal.SIGHUP: lambda: True}):  # a closed terminal is what a supervisor is for
            pid = spawn_apart(command, run_id, places, environment)
            if _takes_charge(ledger, run_id, pid, start_s, clocks):
                return pid
    except KeyboardInterrupt:
        LineDisplay(sys.stderr).note(ENDED_FIRST)
        with answered(SHIELDED, lambda _number, _frame: None):  # what was asked for takes its time
            _give_up(pid, run_id, places, ledger, clocks)
        raise
    _give_up(pid, run_id, places, ledger, clocks)
    log = places.run(run_id).controller_log
    words = f"Its words are in {log}; rentune ls" if log.exists() else "rentune ls"
    raise TrainingFailed("The supervisor did not take charge.", hint=words)


def _give_up(pid: int | None, run_id: str, places: Places, ledger: Ledger, clocks: Clocks) -> None:
    """End a supervisor that is not in charge, and the run, unless it has rented: then it has ended that on its way out."""
    if pid is not None:
        _end_process(pid)
    _end_unless_rented(ledger, run_id, places, clocks)


def _takes_charge(ledger: Ledger, run_id: str, pid: int, start_s: float, clocks: Clocks) -> bool:
    """Wait for it so long; whether the process is in charge of the run then."""
    ends_at_s = clocks.steady() + start_s
    while clocks.steady() < ends_at_s and not _has_ended(pid):
        controlled = find_run(ledger, run_id).controlled
        if controlled is not None and controlled.pid == pid:
            return True
        clocks.sleep(POLL_S)
    return False


def _end_unless_rented(ledger: Ledger, run_id: str, places: Places, clocks: Clocks) -> None:
    """A run for which nothing was asked is over; what was rented a supervisor has ended on its way out."""
    state = find_run(ledger, run_id)
    if state.rentals or state.teardown is not None:
        return
    folder = places.run(run_id)
    mirrored = ledger_of(run_id, places, note=LineDisplay(sys.stdout).note)
    with in_control(run_id, folder, mirrored, clocks=clocks):
        renting.end_unrented(run_id, ledger=mirrored, clock=clocks.wall)


def hand_over(run_id: str, *, places: Places, environment: Mapping[str, str] = os.environ) -> None:
    """Leave the run that this process controls to a supervisor, and die of the closed terminal as any process does.

    That frees the run's lock. A supervisor that does not start leaves what a killed controller leaves: `rentune resume`.
    """
    with suppress(OSError):
        spawn_apart(SUPERVISOR, run_id, places, environment)
    die_of(signal.SIGHUP)


def die_of(number: int) -> None:
    """End this process as the signal ends any."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _has_ended(pid: int) -> bool:
    """Whether our child is no more; it is not reaped by asking."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end_process(pid: int) -> None:
    """End our child and reap it. One that took charge at the last moment tears down what it has before it leaves."""
    os.kill(pid, signal.SIGINT)
    os.waitpid(pid, 0)


def main(arguments: list[str]) -> int:
    """Drive the run to its end."""
    (run_id,) = arguments
    display = LineDisplay(sys.stdout)
    watcher = Attendant(let_go=die_of)
    try:
        return drive(run_id, Edges(read_places(os.environ), display), detached=True, attendant=watcher).exit_code
    except Exception as error:  # noqa: BLE001 - the outermost frame: known failures are told, others pass through
        return tell(error, [])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
