"""What becomes of a run at a signal that says neither who sent it nor that the run is to end: its machine shuts down, or a
terminal is closed.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from planner.asking.request import HOST, LOCAL
from provision.aboard.renewal import IDLE_LIMIT_S
from provision.account.runs import RunState
from provision.charge.attendant import Attendant
from provision.charge.ends.handover import ENDING, is_ending
from provision.charge.rings.bell import Bell
from provision.home.faults import apart, keep_fault
from provision.providers import ended_from_home, has_idle_limit
from provision.walk.driven import Run
from provision.walk.phases import Display
from provision.words import seconds_words
from remote.contract import Event, Phase

Answers = Mapping[int, Callable[[], bool]]  # by signal, as `interruptible` takes them
GOING_HOME: Final = (Phase.FETCH, *ENDING)  # in these a run that ends brings home what there is, and begins nothing more
UNREAD: Final = "What becomes of its run can't be read here."
KEPT: Final = "what it has saved is kept"
TAKEN_UP: Final = "rentune resume {0} follows it again; rentune down {0} ends it."


def leaving(ringing: Bell, attendant: Attendant) -> tuple[Run, Answers]:
    """The bell's run as it is to be driven, and what answers these signals meanwhile."""
    stop = Stop()
    if attendant.let_go is None:
        hung_up = partial(_hung_up, ringing.run, attendant.hand_over, stop)
        return ringing.run, {signal.SIGINT: stop.heard, signal.SIGTERM: stop.heard, signal.SIGHUP: hung_up}
    leave = Leave(ringing, attendant.let_go, stop)
    answers: dict[int, Callable[[], bool]] = {signal.SIGINT: stop.heard}
    answers |= {number: partial(leave.told_to_go, number) for number in (signal.SIGTERM, signal.SIGHUP)}
    return leave.run, answers


class Stop:
    """Whether somebody has said that the run is to end. The ledger has it from the end of an order on, or of a training: until
    then a signal that says nothing of the kind must not undo it.
    """

    def __init__(self) -> None:
        self._is_heard = False

    def heard(self) -> bool:
        """Note it; it is not answered otherwise."""
        self._is_heard = True
        return False

    def meant(self, state: RunState) -> bool:
        """By a signal, or by somebody who ends the run already."""
        return self._is_heard or (state.controlled is not None and state.controlled.ending)


class Leave:
    """Of a run that goes on without its supervisor. What is being ended already is ended first, for as long as the machine
    allows; then nothing more is begun. `run`: with a display that holds it to that.
    """

    def __init__(self, ringing: Bell, let_go: Callable[[int], object], stop: Stop) -> None:
        self.run = replace(ringing.run, display=_Held(ringing.run.display, self._begins))
        self._ringing = ringing
        self._let_go = let_go
        self._stop = stop
        self._put_off: int | None = None  # the signal that is answered before anything else is begun

    def told_to_go(self, number: int) -> bool:
        """Answer a machine that shuts down; whether it was answered. Where nothing but this machine ends the bill, the run is
        ended: off, it would let it go on for ever.
        """
        try:
            state = self.run.state
        except Exception:  # noqa: BLE001 - books that can't be read end nothing
            keep_fault(self.run.folder)
            self._leave(number)
            return True
        if is_ending(state) or self._stop.meant(state):
            self._put_off = number
            return True
        if state.may_bill and ended_from_home(state.provider):
            return False
        self._leave(number)
        return True

    def _begins(self, phase: str) -> None:
        """Another attempt may follow one that was ended: a machine that shuts down orders none."""
        if self._put_off is not None and phase not in GOING_HOME:
            self._leave(self._put_off)

    def _leave(self, number: int) -> None:
        left, folder = UNREAD, self.run.folder
        with apart(folder):  # the process ends now in any case; the line that was being written may not be done
            left = left_words(self.run)
        with apart(folder):
            words = f"{signal.Signals(number).name}: this process ends. {left}"
            self.run.display.note(f"{words} {TAKEN_UP.format(self.run.run_id)}")
        with apart(folder):
            self._ringing.let_go(left)
        with apart(folder):
            self.run.ledger.leave()
        self._let_go(number)


def left_words(run: Run) -> str:
    """What becomes of the run until somebody takes it up."""
    state = run.state
    if not state.may_bill:
        return "Nothing is rented, and whoever takes the run up goes on with it."
    if state.provider == LOCAL:
        lease_s = state.opened.lease_s
        or_lease = "" if lease_s is None else f", or by its lease once nobody comes for {seconds_words(lease_s)}"
        return f"The run goes on without it. Its box is a process here and ends with this machine{or_lease}; {KEPT}."
    if state.opened.lease_s is not None:
        end = "" if state.provider == HOST else ", and the box ends itself"
        after = f"Where nobody comes for {seconds_words(state.opened.lease_s)} its trainer saves and stops{end}"
        return f"The run goes on without it. {after}: that is its lease."
    if run.folder.events.exists():
        return "The run goes on without it, and the box's own deadline ends it."
    if has_idle_limit(state.provider):
        return f"Nothing trains on its box yet, which ends itself within {seconds_words(IDLE_LIMIT_S)} where nobody comes."
    return "Nothing trains on its box yet, and the box's own deadline ends it."


def _hung_up(run: Run, hand_over: Callable[[], object] | None, stop: Stop) -> bool:
    """Answer a closed terminal; whether it was answered. Nothing is left to anybody before something was rented.

    A run that the user has stopped already is ended here, not taken up again elsewhere.
    """
    state = run.state
    if hand_over is None or not state.rentals:
        return False
    if not stop.meant(state):
        hand_over()
    return True


class _Held:
    """A display that also tells what phase begins."""

    def __init__(self, display: Display, begins: Callable[[str], None]) -> None:
        self._display = display
        self._begins = begins
        self.note = display.note

    def phase(self, name: str) -> None:
        self._begins(name)
        self._display.phase(name)

    def event(self, event: Event) -> None:
        self._display.event(event)
