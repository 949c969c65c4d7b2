"""Taking charge of a run: drive it on, or end it. Every way in goes through the run's lock."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from provision import lease
from provision.account.books import close_books, read_outcome
from provision.account.ledger import Ledger, RunState
from provision.account.receipt import Receipt
from provision.charge.controller import in_control, is_alive, is_locked
from provision.charge.crash import read_crash_point
from provision.charge.held import read_run
from provision.charge.phases import Display
from provision.errors import BadInput, Refused
from provision.places import Places
from provision.prepare.opening import read_launch
from provision.providers import Confirm, make_provisioner
from provision.provisioner import Launch, Provisioner, Teardown
from provision.run import walk

HAND_OVER_S = 180.0  # assumed: a controller that was asked to stop saves, tears down and accounts within this
POLL_S = 0.2
SAME_MOMENT_S = 1.0  # assumed

MakeProvisioner = Callable[[Launch], Provisioner]


def provisioners(
    places: Places, environment: Mapping[str, str], *, provider: str, confirm: Confirm | None = None
) -> MakeProvisioner:
    """What makes the provisioner of a run from what was noted at its launch."""

    def make(launch: Launch) -> Provisioner:
        return make_provisioner(
            provider,
            places=places,
            environment=environment,
            user_at_host=launch.user_at_host,
            host_key=launch.host_key,
            confirm=confirm,
        )

    return make


def drive(
    run_id: str,
    *,
    places: Places,
    display: Display,
    environment: Mapping[str, str] = os.environ,
    detached: bool = False,
    confirm: Confirm | None = None,
    make: MakeProvisioner | None = None,
) -> Receipt:
    """Take charge of a run wherever it stands and go on to its receipt. Raises Refused while somebody else is in charge."""
    ledger = Ledger(places.ledger)
    state = find_run(ledger, run_id)
    make = make or provisioners(places, environment, provider=state.opened.provider, confirm=confirm)
    folder = places.run(run_id)
    run = read_run(
        run_id,
        places=places,
        ledger=ledger,
        provisioner=make(read_launch(folder, state.opened)),
        display=display,
        crash_point=read_crash_point(environment),
    )
    with interruptible(), in_control(run_id, folder, ledger, clock=time.time, detached=detached):
        return walk(run)


def end(
    run_id: str,
    *,
    places: Places,
    display: Display,
    environment: Mapping[str, str] = os.environ,
    make: MakeProvisioner | None = None,
    hand_over_s: float = HAND_OVER_S,
) -> Teardown:
    """End a run for good: ask its controller to, else do it here. The books are closed with what is at home."""
    ledger = Ledger(places.ledger)
    state = find_run(ledger, run_id)
    folder = places.run(run_id)
    if is_locked(folder):
        _ask_controller(state, display)
        _wait_until(lambda: not is_locked(folder), hand_over_s)
    if (state := find_run(ledger, run_id)).ended and state.billed and state.teardown:
        return state.teardown
    make = make or provisioners(places, environment, provider=state.opened.provider)
    with in_control(run_id, folder, ledger, clock=time.time):
        launch = read_launch(folder, state.opened)
        provisioner = make(launch)
        display.phase("teardown")
        teardown = lease.end(launch, provisioner=provisioner, ledger=ledger)
        if folder.plan.exists():
            run = read_run(run_id, places=places, ledger=ledger, provisioner=provisioner, display=display)
            outcome = read_outcome(folder)
            close_books(run, message="Ended by `down`.", interrupted=outcome is None or not outcome.trained)
    return teardown


def find_run(ledger: Ledger, name: str) -> RunState:
    """The run with this id, or the only one whose id ends or begins so. Raises BadInput."""
    runs = ledger.runs()
    if name in runs:
        return runs[name]
    matching = [state for run_id, state in runs.items() if run_id.startswith(name) or run_id.endswith(name)]
    if len(matching) == 1:
        return matching[0]
    what = f"{len(matching)} runs fit {name!r}." if matching else f"There is no run {name!r}."
    raise BadInput(what, hint="rentune ls")


def _ask_controller(state: RunState, display: Display) -> None:
    if state.controlled is None or not is_alive(state.controlled):
        return
    display.note(f"Asking its controller (process {state.controlled.pid}) to stop and tear down.")
    os.kill(state.controlled.pid, signal.SIGTERM)


def _wait_until(done: Callable[[], bool], patience_s: float) -> None:
    ends_at_s = time.monotonic() + patience_s
    while not done():
        if time.monotonic() > ends_at_s:
            raise Refused(
                f"Its controller is still tearing down after {patience_s:.0f} s.",
                hint="Wait and look with `rentune ls`; if it hangs, end that process and repeat.",
            )
        time.sleep(POLL_S)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does: stop, tear down, account.

    Whoever ends a session sends them in pairs; two that come together are one.
    """
    last_s = -SAME_MOMENT_S

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal last_s
        since_s, last_s = time.monotonic() - last_s, time.monotonic()
        if since_s >= SAME_MOMENT_S:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_stray(
    run_id: str,
    provider: str,
    *,
    places: Places,
    environment: Mapping[str, str] = os.environ,
    make: MakeProvisioner | None = None,
) -> Teardown:
    """End what carries the tag of a run that this ledger does not know, or knows as ended."""
    launch = Launch(run_id=run_id, owner="", folder=places.run(run_id).root, public_key="", deadline_at_s=time.time())
    make = make or provisioners(places, environment, provider=provider)
    return make(launch).destroy(launch)
