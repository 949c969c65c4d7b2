"""What a trainer has finished comes home before its box is ended by hand, within a bound."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Final

from provision.aboard.lease import lease_has_ended
from provision.account.runs import Standing
from provision.errors import ConnectionFailed, ControlLost, RentuneError, ResultOnBox
from provision.seam import Box
from provision.ssh import Shell, Waits
from provision.ssh.keys import client_key
from provision.walk.driven import Run
from provision.walk.job.at_home import result_waits
from provision.walk.job.carrying import ended_after
from provision.walk.job.left import bring_left
from provision.walk.job.patience import admitted_again, is_users_own, let_in_again, listed, unasked
from provision.walk.job.stopping import MOST_S
from provision.walk.job.tending import tended
from provision.walk.job.training import fetch, left_result, stopped_with_result

REACH_S: Final = 20.0  # assumed: a box that is well answers at once, and one try in three is lost
RESCUE_S: Final = 600.0  # assumed: 1 GB of adapter at 2 MB/s
LEASE_HAD_ENDED: Final = "Its lease had ended, which stopped its trainer."


def rescue(run: Run, *, reach_s: float = REACH_S, rescue_s: float = RESCUE_S) -> str | None:
    """Bring home what there is on a box that answers; a trainer that is still at it is told to save and leave before, and has
    its last checkpoint brought home where it has no result by then. That its lease had ended, where the box says so.

    Raises ResultOnBox when there is a result, and it does not come, or there may be one on a host of the user's, and
    ControlLost. Nothing else: whatever a box says, and whatever fault of ours that meets, what bills does not wait for it.
    """
    try:
        return _bring_home(run, reach_s=reach_s, rescue_s=rescue_s)
    except (ResultOnBox, ControlLost):
        raise
    except Exception as error:
        why = str(error) if isinstance(error, RentuneError) else f"{type(error).__name__}: {error}"
        if _waits(run):
            raise _not_brought(run, why) from error
        if is_users_own(run):
            raise unasked(run, why) from error
        run.display.note(f"What is on the box could not be brought home: {why}")
    return None


def _waits(run: Run) -> bool:
    """As `result_waits`; a home that can't be read knows of no result."""
    with suppress(Exception):
        return result_waits(run)
    return False


def _bring_home(run: Run, *, reach_s: float, rescue_s: float) -> str | None:
    box = _standing(run)
    if box is None:
        return None
    try:
        shell = _connected(run, box, reach_s=reach_s, lifetime_s=MOST_S + rescue_s)
    except (RentuneError, OSError) as error:
        if result_waits(run):
            raise _not_brought(run, str(error)) from error
        if not box.ours:
            raise unasked(run, str(error)) from error
        run.display.note(f"The box could not be asked for a result: {error}")
        bring_left(run)
        return None
    with shell, ended_after(shell, MOST_S + rescue_s), tended(run, shell, box):
        if left_result(shell, box) or stopped_with_result(
            run, shell, box, otherwise=f"rentune down --discard {run.run_id} does not wait"
        ):
            run.display.note("The trainer has left a result; bringing it home first.")
            _fetch(run, shell, box)
        return _lease_words(run, shell, box)


def _lease_words(run: Run, shell: Shell, box: Box) -> str | None:
    """Where the line is gone by now nobody knows, and nothing waits for it."""
    with suppress(RentuneError):
        if run.state.opened.lease_s is not None and lease_has_ended(shell, box):
            return LEASE_HAD_ENDED
    return None


def _standing(run: Run) -> Box | None:
    """The run's box, unless it was ended or its provider says that there is none."""
    state = run.state
    if state.standing is not Standing.UP:
        return None
    return None if listed(run).nothing else state.box


def _connected(run: Run, box: Box, *, reach_s: float, lifetime_s: float) -> Shell:
    """A box that is silent may only not let this machine in, which has another address by now: asked once, and tried again."""
    key = client_key(run.folder.keys, run_id=run.run_id).private

    def connect() -> Shell:
        waits = Waits(patience_s=reach_s, lifetime_s=lifetime_s, when_refused=partial(admitted_again, run, box))
        return run.reach.connect(box, key=key, deadline_s=reach_s, waits=waits)

    try:
        return connect()
    except ConnectionFailed:
        if not let_in_again(run):
            raise
    return connect()


def _fetch(run: Run, shell: Shell, box: Box) -> None:
    try:
        fetch(run, shell, box)
    except (RentuneError, OSError) as error:
        raise _not_brought(run, str(error)) from error


def _not_brought(run: Run, why: str) -> ResultOnBox:
    hint = f"rentune down --discard {run.run_id} ends it without."
    return ResultOnBox(f"The result is on the box and could not be brought home: {why}", hint=hint)
