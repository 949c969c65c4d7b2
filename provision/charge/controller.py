"""Who controls a run: a lock that only one process can hold, and a pid that means something after a crash."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path

import psutil

from provision.account.ledger import Ledger
from provision.account.lines import Controlled
from provision.account.runs import RunState
from provision.errors import Refused
from provision.home.clocks import Clocks
from provision.home.places import RunFolder
from provision.home.processes import boot_id, machine_id, machine_ids, start_of, still_runs, still_runs_by_clock
from provision.home.wish import wish_no_end
from provision.seam import DEADLINE_GRACE_S

LOOK_S = 1.0  # assumed: a look at the lock takes microseconds
POLL_S = 0.02  # assumed: as often as nobody notices


@contextmanager
def lock_of(folder: RunFolder, clocks: Clocks, *, patience_s: float = LOOK_S) -> Iterator[bool]:
    """Hold the run's lock, waiting for it so long; whether it could be had."""
    with hold_alone(folder.lock, clocks, patience_s=patience_s) as held:
        yield held


@contextmanager
def hold_alone(lock: Path, clocks: Clocks, *, patience_s: float = LOOK_S) -> Iterator[bool]:
    """Hold a lock that one process can, waiting for it so long; whether it could be had."""
    descriptor = opened_lock(lock)
    try:
        yield _locks(descriptor, clocks, patience_s)
    finally:
        os.close(descriptor)


def opened_lock(lock: Path) -> int:
    """A descriptor of the lock's file, made where it is not there. One that may only be read can be held as well.

    Raises OSError where it can't be made.
    """
    lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        return os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        if not lock.exists():
            raise
        return os.open(lock, os.O_RDONLY)


@contextmanager
def in_control(
    run_id: str, folder: RunFolder, ledger: Ledger, *, clocks: Clocks, detached: bool = False, goes_on: bool = False
) -> Iterator[None]:
    """Hold the run's lock, and a shared run against other machines, and say so in the ledger. `goes_on`: somebody has said so,
    and takes back by it that the run is to end.

    Raises Refused while another process or machine holds it, or waits for its end; StoreFailed where its state can't be
    reached.
    """
    with lock_of(folder, clocks) as held:
        state = ledger.runs().get(run_id)
        if not held or lives_on(state):
            raise controlled_by_another(run_id, state)
        if goes_on:  # under the very lock that it is driven by: before it, a moment's look of somebody else kept the word there
            wish_no_end(folder, run_id=run_id)
        with ledger.charge():
            ledger.append(this_process(run_id, at_s=clocks.wall(), detached=detached))
            yield


def controlled_by_another(run_id: str, state: RunState | None) -> Refused:
    """For whoever would take charge of a run that a process here has."""
    who = f" (process {state.controlled.pid})" if state and state.controlled else ""
    watch = f"Watch it: rentune logs -f {run_id}. End it: rentune down {run_id}."
    return Refused(f"Another process controls run {run_id}{who}.", hint=watch)


def lives_on(state: RunState | None) -> bool:
    """Whether another process of this boot took charge, has not closed the books, and lives. Its lock can be had all the same
    where the run's directory was deleted under it: what it holds is a file that has no name any more.
    """
    if state is None or state.controlled is None or state.billed is not None or state.controlled.pid == os.getpid():
        return False
    return is_alive(state.controlled)


def _locks(descriptor: int, clocks: Clocks, patience_s: float) -> bool:
    """Whether the lock could be had. Somebody who only looks (`is_locked`) holds it for a moment, and is waited for."""
    ends_at_s = clocks.steady() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if clocks.steady() >= ends_at_s:
                return False
            clocks.sleep(POLL_S)
        else:
            return True


def this_process(run_id: str, *, at_s: float, detached: bool = False, ending: bool = False) -> Controlled:
    """A ledger line that names this very process, on this boot."""
    return Controlled(
        run_id=run_id,
        at_s=at_s,
        pid=os.getpid(),
        process_started_s=psutil.Process().create_time(),
        boot_id=boot_id(),
        start_ticks=start_of(os.getpid()),
        machine=machine_id(),
        detached=detached,
        ending=ending,
    )


def is_locked(lock: Path) -> bool:
    """Whether a process holds this lock right now."""
    if not lock.exists():
        return False
    descriptor = opened_lock(lock)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # two who look do not see one another
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def is_alive(controlled: Controlled | None) -> bool:
    """Whether the process that took charge still runs: same boot, same pid, same start."""
    return controlled is not None and _process_of(controlled) is not None


def is_suspended(controlled: Controlled) -> bool:
    """Whether it runs and has been stopped, as by Ctrl-Z: it hears no signal but the one that wakes it, and the kill."""
    process = _process_of(controlled)
    with suppress(psutil.NoSuchProcess):
        return process is not None and process.status() == psutil.STATUS_STOPPED
    return False


def _process_of(controlled: Controlled) -> psutil.Process | None:
    if controlled.boot_id != boot_id():
        return None
    if controlled.start_ticks is None:
        return still_runs_by_clock(controlled.pid, controlled.process_started_s)
    return still_runs(controlled.pid, controlled.start_ticks)


class Hands(StrEnum):
    """Whether somebody is in control of a run that has not ended."""

    HELD = "held"  # a process that is seen, or holds the run's lock: seen from another machine or container no pid means much
    NOBODY = "nobody"  # its process is gone, or has closed the books on what it could not end
    UNKNOWN = "unknown"  # another computer took charge of it, and the lock can't tell: this home may be a copy


def hands_of(state: RunState, lock: Path | None, *, now_s: float) -> Hands:
    """In whose hands a run is. After its deadline and the grace it is nobody's that can't be seen: it should be over.

    `lock` = the run's, in this home; None where it has none.
    """
    controlled = state.controlled
    if (lock is not None and is_locked(lock)) or (state.billed is None and is_alive(controlled)):
        return Hands.HELD
    if controlled is None or state.billed is not None or now_s > state.deadline_at_s + DEADLINE_GRACE_S:
        return Hands.NOBODY
    is_of_here = controlled.boot_id == boot_id() or controlled.machine in machine_ids()
    return Hands.NOBODY if is_of_here else Hands.UNKNOWN
