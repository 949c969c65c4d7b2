"""From whoever is in charge of a run to somebody who is to end it: asked to stop, and waited for until it has let go."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from provision.account.ledger import Ledger
from provision.account.lines import Controlled
from provision.account.runs import RunState, Standing
from provision.charge.controller import (
    POLL_S,
    Hands,
    hands_of,
    is_alive,
    is_locked,
    is_suspended,
    lives_on,
    lock_of,
    opened_lock,
)
from provision.charge.ends.afterwards import goes_on
from provision.errors import Held, Refused
from provision.home.clocks import Clocks
from provision.home.interrupt import SAME_MOMENT_S
from provision.home.places import RunFolder
from provision.words import Note, seconds_words
from remote.contract import Phase

ANOTHER_MOMENT_S: Final = 1.5 * SAME_MOMENT_S  # derived: sooner, the second signal would count as the first
SILENCE_S: Final = 5.0  # assumed: nobody wonders so soon what is waited for
LOOK_S: Final = 1.0  # assumed: a look at the lock and at the ledger's size costs nothing
ENDING: Final = (Phase.TEARDOWN, Phase.CONFIRM)  # in these a controller does what it would be asked for


class Ask(StrEnum):
    """What whoever holds a run is asked for."""

    NOTHING = "nothing"  # nobody has said that it is to end
    STOP = "stop"  # and bring home what is finished
    STOP_AT_ONCE = "stop at once"


@dataclass(frozen=True)
class Asked:
    """Processes that were asked to stop, and those that were told of as ending the run already."""

    signalled: set[int] = field(default_factory=set)
    awaited: set[int] = field(default_factory=set)


@contextmanager
def handed_over(
    run_id: str, folder: RunFolder, ledger: Ledger, note: Note, clocks: Clocks, *, ask: Ask, patience_s: float
) -> Iterator[bool]:
    """Hold the run's lock once its controller has let go; whether it has. What takes more than a moment is said.

    Whoever holds it is asked once to stop, as soon as the ledger says who that is, and that it does not end the run already:
    one that has just taken the lock has not written it down yet, and another may take it meanwhile. Raises Refused where that
    is another user's process, which nobody else may ask.

    Nobody holds a lock that is not there: where its file can't be made, that is told, and keeps nothing that bills.
    """
    try:
        os.close(opened_lock(folder.lock))
    except OSError as error:
        note(f"{folder.lock} can't be made ({error.strerror}). The run is ended all the same.")
        yield True
        return
    began_at_s, asked, told = clocks.steady(), Asked(), False
    look_s = 0.0
    while True:
        with lock_of(folder, clocks, patience_s=look_s) as locked:
            state = ledger.runs().get(run_id)
            has_it = lives_on(state)
            waited_s = clocks.steady() - began_at_s
            if (locked and not has_it) or waited_s >= patience_s:
                yield locked and not has_it
                return
        if state is not None and ask is not Ask.NOTHING and (has_it or is_locked(folder.lock)):  # else somebody only looked
            _ask(state, note, clocks, at_once=ask is Ask.STOP_AT_ONCE, asked=asked)
        if locked:  # its lock says nothing of it: the file was deleted
            clocks.sleep(POLL_S)
        if waited_s >= SILENCE_S and not told:
            told = True
            note(_waited_for(state.controlled if state else None, patience_s - waited_s))
        look_s = min(LOOK_S, SILENCE_S, patience_s - waited_s)


def is_ending(state: RunState) -> bool:
    """Whether whoever is in charge does what it would be asked for. One that ends an attempt does; between two it may be about
    to order the next.
    """
    meant = state.controlled is not None and state.controlled.ending
    return meant or (state.phase in ENDING and state.standing is not Standing.BETWEEN)


def _brings_pushed(state: RunState) -> bool:
    """Whether it has ended the box and seen that, and is at what that has pushed: it takes hours, bills no box, and whoever
    asks brings it home himself, or doesn't want it.
    """
    of_attempt = state.controlled is not None and not state.controlled.ending
    return of_attempt and state.standing is Standing.OVER and state.phase == Phase.TEARDOWN and not state.fetched


def _ask(state: RunState, note: Note, clocks: Clocks, *, at_once: bool, asked: Asked) -> None:
    """To stop with what is finished, each process once; a second time, a moment later, means at once. One that ends something
    is looked at again: another attempt may follow that.
    """
    controlled = state.controlled
    if controlled is None or controlled.pid in asked.signalled or not is_alive(controlled):
        return
    if is_ending(state) and not _brings_pushed(state):
        if controlled.pid not in asked.awaited:
            note(f"Process {controlled.pid} is ending it already; waiting for that.")
        asked.awaited.add(controlled.pid)
        return
    asked.signalled.add(controlled.pid)
    note(f"Asking its controller (process {controlled.pid}) to stop and tear down.")
    _terminate(controlled)
    if at_once:
        clocks.sleep(ANOTHER_MOMENT_S)
        _terminate(controlled)


def _terminate(controlled: Controlled) -> None:
    """Nothing happens where the process has ended by itself meanwhile. To a supervisor SIGTERM says that its machine shuts
    down, and it lets go of the run; SIGINT may be ignored by one in a shell's background.
    """
    number = signal.SIGINT if controlled.detached else signal.SIGTERM
    try:
        if is_alive(controlled):
            os.kill(controlled.pid, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise Refused(
            f"Process {controlled.pid}, which controls run {controlled.run_id}, is another user's and hears nothing from you.",
            hint=f"As that user: rentune down {controlled.run_id}",
        ) from None


def _waited_for(controlled: Controlled | None, patience_s: float) -> str:
    """A sentence for whoever wonders why nothing happens."""
    limit = f"{seconds_words(patience_s)} at the most"
    if controlled is None or not is_alive(controlled):
        return f"Waiting for another process to let go of this run, {limit}."
    if is_suspended(controlled):
        return f"Waiting {limit}: process {controlled.pid} is suspended. Wake it: kill -CONT {controlled.pid}"
    ending = "it stops the trainer, brings home what is there, ends the box and looks whether it is gone"
    return f"Waiting for process {controlled.pid}, {limit}: {ending}."


def require_nobody(run_id: str, state: RunState | None, *, held: bool, now_s: float) -> None:
    """Raises Held where somebody has taken the run up since the look that found nobody. `held`: whether its lock is ours."""
    if not held or (state is not None and hands_of(state, None, now_s=now_s) is Hands.HELD):
        who = f"process {state.controlled.pid}" if state and state.controlled else "a process that has just taken it up"
        raise Held(f"Run {run_id} is controlled by {who}.")


@contextmanager
def alone_with(run_id: str, folder: RunFolder, ledger: Ledger, note: Note, clocks: Clocks) -> Iterator[None]:
    """Hold the lock of a run of this home that is over. One that this home never had has none, and nobody to hold it.

    Raises Held where it goes on, or a process here has it in hand: nobody is asked to let go.
    """
    if not folder.root.exists() and run_id not in ledger.runs():
        yield
        return
    with handed_over(run_id, folder, ledger, note, clocks, ask=Ask.NOTHING, patience_s=LOOK_S) as held:
        state = ledger.runs().get(run_id)
        require_nobody(run_id, state, held=held, now_s=clocks.wall())
        if state is not None and goes_on(state):
            raise Held(f"Run {run_id} is not over.")
        yield
