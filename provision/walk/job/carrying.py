"""What a trainer has learned comes home before its box goes: of a spot machine while it learns, since that may be taken away at
any moment; of one that was stopped or that failed, before the teardown.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from planner.estimators.time.interruptions import rhythm_s
from provision.aboard.checkpoints import Fetched, fetch_newest
from provision.account.lines import MOST_BYTES, Sent
from provision.errors import BoxLost, ControlLost, Reason, RentuneError, StoreFailed, TrainingFailed, WrongHostKey
from provision.home.whole import at_home
from provision.seam import Box
from provision.ssh import Shell
from provision.walk.driven import Run
from provision.walk.end import STOPPED, LeftOpen
from provision.walk.job.patience import RECONNECT_S, patiently
from provision.watch.view import read_events
from remote.checkpoints.grants import Grants
from remote.contract import Event

LEARNED_S: Final = 300.0  # assumed: 1.5 GB at 5 MB/s, an adapter with its optimizer; whoever waits may press Ctrl-C again
PUSHED: Final = "checkpoint_pushed"  # the trainer's word for a checkpoint that is in object storage
STORE_WAIT_S: Final = 600.0  # assumed: a store that is away by mistake is back by then; nothing is paid for meanwhile
LIES_AT: Final = "What its trainer pushed lies at {place}: rentune down {run_id} brings home what is whole."
TO_GO_ON: Final = "What lies at {place} did not come home, so no other box was rented: rentune resume {run_id} goes on from it."
TO_BRING_HOME: Final = "What lies at {place} did not come home: rentune down {run_id} brings it, and closes the books."
LINE_SHARE: Final = 0.1  # assumed: of the time the line may be busy with checkpoints


def bring_learned(run: Run, shell: Shell, box: Box) -> None:
    """The newest checkpoint of a trainer that ended without a result, and its best, come home within a bound. What fails is
    told: nothing of it may keep a box. At the deadline there is none to ask, but for a host of the user's.
    """
    within_s = min(LEARNED_S, run.left_s) if box.ours else LEARNED_S
    if within_s <= 0:
        return
    try:
        with ended_after(shell, within_s):
            fetched = fetch_newest(shell, box, run.folder.checkpoints)
    except (RentuneError, OSError) as error:
        run.display.note(f"The last checkpoint did not come home: {error}")
        return
    _tell_home(run, fetched)


def bring_only_copy(run: Run, shell: Shell, box: Box) -> None:
    """Bring home what a trainer learned from a rented box that its lease has ended and that waits for this before it goes:
    tried again until it is home, the box has gone, or the deadline has come.

    Raises BoxLost or TrainingFailed when the box has gone, and ControlLost.
    """
    try:
        fetched = patiently(run, lambda: fetch_newest(shell, box, run.folder.checkpoints))
    except (BoxLost, ControlLost, TrainingFailed):
        raise
    except (RentuneError, OSError) as error:
        run.display.note(f"The last checkpoint did not come home: {error}")
        return
    _tell_home(run, fetched)


def _tell_home(run: Run, fetched: Fetched | None) -> None:
    if fetched is not None:
        _write_down(run, fetched.num_bytes, "came home")
        run.display.note(f"The checkpoint of step {fetched.step} is at home.")


def _write_down(run: Run, num_bytes: int, how: str, *, seq: int | None = None) -> None:
    """What has left the provider, for the bill. A line that can't be written is told: the training must not end for it."""
    try:
        run.ledger.append(Sent(run_id=run.run_id, at_s=run.clocks.wall(), num_bytes=num_bytes, seq=seq))
    except OSError as error:
        run.display.note(f"The bill will lack {num_bytes:,} bytes of checkpoints that {how}: {error}")


def meter_pushes(run: Run, events: Iterable[Event] | None = None) -> None:
    """Write down what the last box has sent to object storage: by these of its trainer's words, or by those that are at home,
    where a controller may have died over them. Each is counted once, however often this is called; words from before this box
    was asked for are another's.
    """
    rental = run.state.rental
    if rental is None:
        return
    at_home = (event for event in read_events(run.folder.events) if event.at_s >= rental.asked_at_s)
    heard = at_home if events is None else events
    told = {event.seq: event for event in heard if event.kind == PUSHED and event.seq not in rental.pushed}
    for event in told.values():
        size_bytes = event.data.get("size_bytes")  # a box's word
        if isinstance(size_bytes, int) and 0 <= size_bytes <= MOST_BYTES:
            _write_down(run, size_bytes, "went to object storage", seq=event.seq)


@contextmanager
def ended_after(shell: Shell, seconds: float) -> Iterator[None]:
    """Whatever still waits on the line then is told that it is closed."""
    timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), shell.close)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def granted(run: Run, *, again: bool) -> Grants | None:
    """Where in object storage the trainer may put its checkpoints until the deadline. A store that is away is told; that there
    was none is kept, unless one of this box that began before (`again`) may have had some.
    """
    if run.pushed is None:
        return None
    try:
        grants = run.pushed.grant(valid_s=run.left_s)
        with at_home(run.folder.root):
            run.folder.ungranted.unlink(missing_ok=True)
        return grants
    except StoreFailed as error:
        if not again:
            with suppress(OSError):  # then it is unknown, and the store is asked
                run.folder.ungranted.touch()
        run.display.note(f"{error} Checkpoints stay on the box, and come home from there if it is a spot machine.")
        return None


def bring_pushed(run: Run, *, wait_s: float = 0.0) -> bool:
    """What a box that is gone has left in object storage comes home. Whether the store could be asked: tried again for
    `wait_s`, and what fails is told, with the place where it lies.
    """
    if run.pushed is None:
        return True
    said, gives_up_at_s = "", run.clocks.steady() + wait_s
    while True:
        try:
            step = run.pushed.bring_newest(run.folder.checkpoints)
        except (StoreFailed, OSError) as error:
            waits = run.clocks.steady() < gives_up_at_s
            again = " Trying again." * waits
            words = f"A checkpoint did not come home from object storage ({run.pushed.place}): {error}{again}"
            if words != said:
                run.display.note(words)
            if not waits:
                return False
            said = words
            run.clocks.sleep(RECONNECT_S)
            continue
        if step is not None:
            run.display.note(f"The checkpoint of step {step} came home from object storage.")
        return True


def unasked_store(run: Run, said: str) -> LeftOpen | None:
    """What was pushed comes home. None once the store could be asked; how the run stands where it stays away, or where somebody
    presses Ctrl-C meanwhile: what lies there is worth more than books that are closed. `said`: why the last box is gone.
    """
    told, interrupted = said, False
    try:
        if bring_pushed(run, wait_s=STORE_WAIT_S) or run.pushed is None:
            return None
    except KeyboardInterrupt:
        run.display.note("Heard: the store is waited for no longer.")
        told, interrupted = f"{STOPPED} {said}".strip(), True
    place = run.pushed.place if run.pushed is not None else ""
    way = TO_GO_ON if run.left_s > 0 else TO_BRING_HOME
    return LeftOpen(f"{told} {way.format(place=place, run_id=run.run_id)}".strip(), interrupted=interrupted)


def brought_or_lies_at(run: Run) -> str:
    """What the last box may have pushed comes home, by one more ask of a run that goes on no more. Empty then; else where it
    lies, also where somebody presses Ctrl-C meanwhile.
    """
    try:
        if not may_have_pushed(run) or bring_pushed(run):
            return ""
    except KeyboardInterrupt:
        run.display.note("Heard: the store is waited for no longer.")
    return lies_at(run)


def lies_at(run: Run) -> str:
    """Where what the run has pushed is to be looked for, and what brings it; empty where it pushes nothing."""
    return "" if run.pushed is None else LIES_AT.format(place=run.pushed.place, run_id=run.run_id)


def may_have_pushed(run: Run) -> bool:
    """Whether object storage may have more of the last box than is at home: wherever its trainer may have begun, unless it is
    known to have had no place there. What it said last is no bound, for the last pushes of a box that is gone nobody hears.
    """
    rental = run.state.rental
    if run.pushed is None or rental is None:
        return False
    of_lease = rental.tried is not None and rental.tried.reason is Reason.LEASE
    return of_lease or bool(rental.pushed) or (rental.furnished and not run.folder.ungranted.exists())


def forget_pushed(run: Run) -> None:
    """The result is at home: what lies in object storage of the way there would only cost. What fails is told."""
    if run.pushed is None:
        return
    try:
        run.pushed.forget()
    except StoreFailed as error:
        run.display.note(f"The run's checkpoints stay in object storage: {error}")


class Carrier:
    """Hears of checkpoints, and brings home those that are due. What fails here must not hold up the training.

    Where they go to object storage they come home from there once the box is gone, and only those that don't arrive there are
    fetched from it. Once the provider has said that it takes the machine back, the next one that is home ends the attempt:
    raises BoxLost.
    """

    def __init__(self, run: Run, shell: Shell, box: Box) -> None:
        self._run, self._shell, self._box = run, shell, box
        self._taken_by_right = run.plan.offer.purchase == "spot"
        self._next_at_s = -math.inf
        self._is_noticed = False
        self._num_waiting = 0 if run.pushed is not None else 1  # checkpoints that are not in object storage

    def heard(self, event: Event) -> None:
        """An event of the trainer's. A notice that the machine will be taken makes the next checkpoint due."""
        if event.kind == PUSHED:
            meter_pushes(self._run, [event])
        if not self._taken_by_right:
            return
        if event.kind == "spot_notice":
            self._is_noticed, self._next_at_s = True, -math.inf
            self._run.display.note("The provider takes the machine back: its next checkpoint is brought home at once.")
        elif event.kind == PUSHED:
            self._num_waiting = 0
        elif event.kind == "checkpoint":
            self._num_waiting += 1
            if self._is_due() and self._came_home(int(event.data.get("size_bytes", 0))) and self._is_noticed:
                raise BoxLost(f"The provider takes the machine back; step {event.data.get('step')} is at home.")

    def _is_due(self) -> bool:
        """One that waits may still be on its way to object storage; a second means that the way is closed, or too slow."""
        return (self._is_noticed or self._num_waiting > 1) and self._run.clocks.steady() >= self._next_at_s

    def _came_home(self, size_bytes: int) -> bool:
        started_s = self._run.clocks.steady()
        try:
            fetched = fetch_newest(self._shell, self._box, self._run.folder.checkpoints)
        except WrongHostKey:
            raise
        except (RentuneError, OSError) as error:
            self._run.display.note(f"A checkpoint did not come home: {error}")
            return False
        if fetched is None:
            return False
        _write_down(self._run, fetched.num_bytes, "came home")
        plan, took_s = self._run.plan, self._run.clocks.steady() - started_s
        pause_s = max(rhythm_s(plan.offer.usd_per_hour, plan.billing, size_bytes), took_s / LINE_SHARE)
        self._next_at_s = self._run.clocks.steady() + pause_s
        return True
