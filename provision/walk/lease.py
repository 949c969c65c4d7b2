"""A rented box that cannot outlive a `with` block."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import msgspec

from catalogs.hardware import Offer
from provision.account.ledger import Created, Ended, Ledger
from provision.errors import ResultOnBox
from provision.interrupt import answered
from provision.provisioner import Answer, Box, Launch, Provisioner, Resource, ResourceEnd, Teardown

SHIELDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def leased(
    offer: Offer,
    launch: Launch,
    *,
    provisioner: Provisioner,
    ledger: Ledger,
    clock: Callable[[], float] = time.time,
    box: Box | None = None,
    keep_on_failure: bool = False,
) -> Iterator[Box]:
    """Bring up a box (or take over `box`, after a crash) and end it on every way out.

    The caller has written Opened. This writes Created and, whatever happens, Ended; the verdict is in the ledger.
    Ctrl-C during the destroy is answered after it. A box that holds a result which is not at home is left to its
    deadline, with `keep_on_failure` also one whose block raised any other Exception; then no Ended is written.
    """
    kept = False
    try:
        if box is None:
            box = provisioner.up(offer, launch)
            ledger.append(Created(run_id=launch.run_id, at_s=clock(), box=box))
        try:
            yield box
        except Exception as error:
            kept = keep_on_failure or isinstance(error, ResultOnBox)
            raise
    finally:
        if not kept:
            end(launch, provisioner=provisioner, ledger=ledger, clock=clock)


def end(launch: Launch, *, provisioner: Provisioner, ledger: Ledger, clock: Callable[[], float] = time.time) -> Teardown:
    """Destroy what there is of a run, write the verdict, and only then answer to signals that came meanwhile."""
    with _shielded():
        teardown = _destroy(provisioner, launch)
        now_s = clock()
        if teardown.clean:
            teardown = _with_what_had_gone(teardown, _created(ledger, launch.run_id), min(now_s, launch.deadline_at_s))
        ledger.append(Ended(run_id=launch.run_id, at_s=now_s, teardown=teardown))
    return teardown


def _created(ledger: Ledger, run_id: str) -> tuple[Resource, ...]:
    state = ledger.runs().get(run_id)
    return state.box.resources if state and state.box else ()


def _with_what_had_gone(teardown: Teardown, created: tuple[Resource, ...], at_s: float) -> Teardown:
    """The verdict, with what was created and no longer there to be ended: a deadline takes a box without asking anybody."""
    seen = {(end.resource.kind, end.resource.id) for end in teardown.resources}
    gone = tuple(
        ResourceEnd(resource=resource, gone=Answer.YES, at_s=at_s)
        for resource in created
        if (resource.kind, resource.id) not in seen
    )
    return msgspec.structs.replace(teardown, resources=teardown.resources + gone)


def _destroy(provisioner: Provisioner, launch: Launch) -> Teardown:
    """The provisioner's verdict; a fault of the program is a verdict, too: unknown."""
    try:
        return provisioner.destroy(launch)
    except Exception as error:  # noqa: BLE001 (whatever it was, somebody has to be told that a box may live)
        return Teardown.unknown(launch.run_id, f"The destroy itself failed ({type(error).__name__}: {error}).")


@contextmanager
def _shielded() -> Iterator[None]:
    """Signals that arrive inside are answered at the end, the way they would have been."""
    if threading.current_thread() is not threading.main_thread():  # signals arrive in the main thread only
        yield
        return
    arrived: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        arrived.append(number)

    with answered(SHIELDED, note):
        yield
    for each in dict.fromkeys(arrived):
        signal.raise_signal(each)
