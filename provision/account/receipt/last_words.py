"""What a receipt says of an end: why there is no result, where the time went, and what of it is at home."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Final

from provision.account.receipt.closing import AtHome
from provision.account.runs import RunState
from provision.words import seconds_words
from remote.contract import WEIGHTS_FILE, EndReason, Outcome

OVER: Final = "The run is over, so `rentune resume` rents nothing to go on from it;"
BY_NAME: Final = f"{WEIGHTS_FILE} has the weights that trained, by name."
# What a teardown has left of a box that was stopped, by its verdict, where no checkpoint is at home. The trainer can't know it.
WHAT_IS_LEFT: Final = {
    "destroyed": "The box and its checkpoints are gone.",
    "cleaned": "Its checkpoints are gone from the host.",
}


def ending_of(outcome: Outcome | None, message: str, *, trained: bool) -> str:
    """Why there is no result, by whoever knows: the controller first, then the trainer, unless that repeats it."""
    if outcome is None:
        return message
    if trained or outcome.message in message:
        return outcome.message if trained else message
    return " ".join(filter(None, (message, f"The trainer said: {outcome.message}" if message else outcome.message)))


def with_what_is_left(said: str, state: RunState, home: AtHome, *, stopped: bool) -> str:
    """Of a run without a result, where what it learned is at home; else, of one that was stopped, what became of its box: not
    where none came up, or its teardown tells what is left.
    """
    is_told = stopped and state.teardown is not None and state.box is not None and not home.is_elsewhere
    left = WHAT_IS_LEFT.get(state.teardown.verdict) if is_told and state.teardown else None
    if home.checkpoint_folder:
        left = None if home.checkpoint_folder in said else _saved(state, home)
    return f"{said.removesuffix('.')}. {left}" if left else said


def _saved(state: RunState, home: AtHome) -> str:
    """Where it is, and what it is good for: of a run that is over `resume` only closes the books."""
    use = BY_NAME
    if home.go_on is not None:
        use = f"another run goes on with its weights, for what was left: rentune run {shlex.quote(home.go_on)}."
    return f"{f'{OVER} {use} ' if state.over else ''}Its last checkpoint is at home: {home.checkpoint_folder}"


def too_late(state: RunState, outcome: Outcome | None) -> bool:
    """Whether the deadline came before there was a result."""
    if outcome is not None:
        return outcome.reason is EndReason.DEADLINE and not outcome.trained
    return deadline_came(state)


def where_time_went(state: RunState, phase_s: Mapping[str, float], home: AtHome) -> str:
    """Of a run whose deadline came before its trainer was done: the phase that took longest, and what is saved."""
    saved = _saved(state, home) if home.checkpoint_folder else "Nothing that it learned is saved."
    if not phase_s:
        return saved
    longest = max(phase_s, key=lambda name: phase_s[name])
    given_s = state.deadline_at_s - state.opened.at_s
    return f"Most of its time went to {longest}: {seconds_words(phase_s[longest])} of {seconds_words(given_s)}. {saved}"


def deadline_came(state: RunState) -> bool:
    """Whether the last box lived to its deadline."""
    ended_at_s = state.rental.ended_at_s if state.rental else None
    return ended_at_s is not None and ended_at_s >= state.deadline_at_s
