"""Patience with a box that is silent: only its provider can say that it has gone, and only twice in a row."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

from provision.aboard.renewal import IDLE_LIMIT_S
from provision.errors import (
    BoxLost,
    ConnectionFailed,
    HomeFailed,
    LeaseEnded,
    RentuneError,
    ResultOnBox,
    Spoilt,
    TrainingFailed,
    TransferFailed,
    WrongHostKey,
)
from provision.home.whole import at_home
from provision.prepare.limits.deadline import MORE_USD, limit_of
from provision.prepare.limits.outlay import Taken
from provision.providers import has_idle_limit
from provision.seam import DEADLINE_GRACE_S, Box, Owned, seen
from provision.walk.driven import Run
from provision.words import seconds_words

T = TypeVar("T")

RECONNECT_S: Final = 5.0  # assumed: pause between two tries to reach a box that has gone silent
SOON_S: Final = 5.0  # assumed: lists that lag no more than this may be asked at every try to reconnect
MAX_BROKEN_TRANSFERS: Final = 10  # assumed: a box's full disk takes a moment to clear; what fails more often will fail again
MAX_SPOILT: Final = 1  # assumed: what can't be read was perhaps being written; seen so twice, it stays so
# assumed: whoever reads that home is full has room made by then; a box that has learned nothing yet costs no more than that
HOME_WAIT_S: Final = 600.0
# derived: 150 s, half the grace: a box's own timer forces it off 120 s after its deadline (FORCE_AFTER_S of its boot)
OVERDUE_S: Final = DEADLINE_GRACE_S / 2

FORSAKEN: Final = f"Before its trainer begins, a box that nobody reaches for {seconds_words(IDLE_LIMIT_S)} ends itself."
UNTIMED: Final = "The box is gone, maybe by its lease: this machine's clock is behind the last renewal, so that is unknown."
TOO_LATE: Final = "The deadline came before the trainer was done."


def patiently(run: Run, act: Callable[[], T], *, home_wait_s: float = math.inf) -> T:
    """What `act` returns, tried again whenever the line is cut or home can't take a file, until the deadline.

    `act` must bear being repeated. `home_wait_s`: for how long home may take no file; for ever where there is something on
    the box to be lost. Raises BoxLost or TrainingFailed when the box has gone, HomeFailed at the deadline and after
    `home_wait_s`, ConnectionFailed at the deadline (of a host of the user's ResultOnBox), TransferFailed when bytes go on being
    refused although the box answers, Spoilt when what lies there is seen twice to be nothing that can be fetched, WrongHostKey
    at once.
    """
    broken, spoilt, said, full_since_s = 0, 0, "", math.inf
    error: RentuneError
    while True:
        try:
            with at_home(run.folder.root):
                return act()
        except WrongHostKey:
            raise
        except (ConnectionFailed, TransferFailed, HomeFailed) as met:
            error = met
            broken += isinstance(error, TransferFailed)
            spoilt += isinstance(error, Spoilt)
            full_since_s = min(full_since_s, run.clocks.steady()) if isinstance(error, HomeFailed) else math.inf
            if run.clocks.steady() - full_since_s >= home_wait_s:
                raise HomeFailed(f"{error} {_waited_words(home_wait_s)}", hint=error.hint) from error
            if broken > MAX_BROKEN_TRANSFERS or spoilt > MAX_SPOILT or (isinstance(error, HomeFailed) and run.left_s <= 0):
                raise
            said = _say_once(run, error, said)
        if isinstance(error, ConnectionFailed):
            wait_for_box(run)
        else:  # the box answered
            pause(run)


def _waited_words(waited_s: float) -> str:
    return f"It was waited for {seconds_words(waited_s)}; the trainer had not begun, so the box is not paid for any longer."


def _say_once(run: Run, error: RentuneError, said: str) -> str:
    """Tell what is waited for, unless that was the last thing told: it may last for hours."""
    words = f"{error.in_full} Trying again."
    if words != said:
        run.display.note(words)
    return words


def wait_for_box(run: Run) -> None:
    """Pause before another try. Raises BoxLost or TrainingFailed when the box has gone, at the deadline ConnectionFailed, or
    ResultOnBox as `require_time_to_ask` does.
    """
    if has_gone(run):
        raise gone_too_soon(run)
    require_time_to_ask(run)
    run.ledger.require_charge()  # whoever has the run now lets in itself
    let_in_again(run)
    pause(run)


def pause(run: Run) -> None:
    """Before another try, where no provider has anything to tell: the box answered, and this machine did not take a file."""
    run.clocks.sleep(max(0.0, min(RECONNECT_S, run.left_s)))


def let_in_again(run: Run) -> bool:
    """For a box that is silent: it lets in the address that it was rented from, and this may be another. Whether it was asked:
    not where the user has said who may come in, for that stays, nor of a host of theirs, which has no gate of ours.

    What fails here, in whatever way, is told and no more: it is asked while the line is bad, and the box may be silent for
    another reason.
    """
    if run.plan.request.where.allow_from or is_users_own(run):
        return False
    try:
        run.provisioner.readmit(run.claim)
    except Exception as error:  # noqa: BLE001 - as in `seen`: what could not be seen ends nothing
        run.display.note(f"This machine's address may not be let in any more, and could not be: {error}")
    return True


def admitted_again(run: Run, box: Box) -> bool:
    """For a host of the user's that refuses the run's key, which ends with the deadline: whether it takes that now, by the
    user's own login. What fails here is told and no more, as above.
    """
    if box.ours:
        return False
    try:
        run.provisioner.readmit(run.claim)
    except Exception as error:  # noqa: BLE001 - as above
        run.display.note(f"{box.host} does not take the run's key, and could not be made to: {error}")
        return False
    run.display.note(f"{box.host} takes the run's key again, for what there is to bring home.")
    return True


def armed_again(run: Run, box: Box) -> None:
    """On a host of the user's: what ends the run's processes at the deadline goes on after a reboot. What fails is told."""
    if box.ours:
        return
    try:
        run.provisioner.rearm(run.claim, run.state.ends)
    except Exception as error:  # noqa: BLE001 - as above: the training does not end for it
        run.display.note(f"Nothing on {box.host} ends the run's processes at the deadline, should nobody come: {error}")


def require_box(run: Run, box: Box) -> None:
    """Asked whenever a box does not answer: where its provider can tell at once, nobody waits for one that is gone.

    A host of the user's can only be asked over the very line that is cut. Raises BoxLost or TrainingFailed when the box
    has gone.
    """
    if box.ours and run.provisioner.list_lag_s <= SOON_S and has_gone(run):
        raise gone_too_soon(run)


def require_time(run: Run) -> None:
    """Raises ConnectionFailed once the deadline has come."""
    if run.left_s <= 0:
        raise ConnectionFailed(TOO_LATE, hint=more_time(run))


def require_time_to_ask(run: Run) -> None:
    """As `require_time`, while nobody has seen what the box holds. Raises ResultOnBox of a host of the user's: it bills
    nothing, and its trainer may have finished while nobody was there.
    """
    try:
        require_time(run)
    except ConnectionFailed as error:
        if not is_users_own(run):
            raise
        raise unasked(run, str(error)) from error


def unasked(run: Run, why: str) -> ResultOnBox:
    """That a host of the user's stays as it is: what it holds could not be asked for."""
    return ResultOnBox(
        f"The host could not be asked for a result, and may hold one, so nothing on it was ended: {why}",
        hint=f"rentune resume {run.run_id} asks again; rentune down --discard {run.run_id} ends it without.",
    )


def is_users_own(run: Run) -> bool:
    """Whether its box is a machine of the user's own, which costs nothing and may keep what it holds."""
    box = run.state.box
    return box is not None and not box.ours


def is_overdue(run: Run) -> bool:
    """Whether its deadline passed so long ago that no box of ours runs any more, whatever this one says."""
    return run.left_s <= -OVERDUE_S


def gone_too_soon(run: Run) -> BoxLost | TrainingFailed:
    """Why a box that its provider no longer lists has gone, as far as the clock tells: what came first ended it."""
    if (unrenewed := lease_end_words(run)) is not None:
        return LeaseEnded(unrenewed)
    if run.left_s <= 0:
        return TrainingFailed(TOO_LATE, hint=more_time(run))
    forsaken = has_idle_limit(run.state.provider) and not run.folder.events.exists()
    return BoxLost("The box is gone before its deadline, and not by us.", hint=FORSAKEN if forsaken else None)


def lease_end_words(run: Run) -> str | None:
    """That the box has ended itself, as its lease says; None where it has none, or somebody was there until lately, or until
    its deadline would have come first.
    """
    lease_s, rental = run.state.opened.lease_s, run.state.rental
    if lease_s is None or rental is None:
        return None
    renewed_at_s = rental.up_at_s or rental.asked_at_s
    with suppress(OSError):
        renewed_at_s = max(renewed_at_s, run.folder.renewed.stat().st_mtime)
    unrenewed_s = run.clocks.wall() - renewed_at_s
    if unrenewed_s < 0 < run.left_s:
        return UNTIMED
    if unrenewed_s + min(0.0, run.left_s) < lease_s:
        return None
    return f"Its lease ended, and the box itself: no renewal had reached it for {seconds_words(lease_s)}."


def more_time(run: Run) -> str:
    """What to type: the limit that set the deadline, and when that came."""
    given_s = run.state.deadline_at_s - run.state.opened.at_s
    return f"It came {seconds_words(given_s)} after the start: run it again with {limit_that_stands(run)}."


def limit_that_stands(run: Run, *, more_usd: str = MORE_USD) -> str:
    """The limit that set the deadline, as the ledger has it since a box was asked for; before that, and in older ledgers, the
    one of the plan as it was agreed to. `more_usd`: what would allow that plan more dollars.
    """
    return run.state.more_time or limit_of(run.plan, Taken(pushes=run.pushed is not None), more_usd=more_usd).longer


def has_gone(run: Run) -> bool:
    """Whether the provider lists the run's box no more: twice, further apart than its lists lag behind."""
    if not _lacks_box(run):
        return False
    run.clocks.sleep(run.provisioner.list_lag_s)
    return _lacks_box(run)


def _lacks_box(run: Run) -> bool:
    """A run that no box is known of is waited for as long as anything of it is listed."""
    owned, box = listed(run), run.state.box
    return owned.nothing if box is None else owned.lacks(box)


def listed(run: Run) -> Owned:
    """What the provider lists of the run."""
    return seen(lambda: run.provisioner.owned(run.claim))
