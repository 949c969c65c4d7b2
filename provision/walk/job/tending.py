"""What tells a box that its run is in somebody's hands, and what becomes of a trainer that was stopped as nobody did."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from provision.aboard.lapse import RENEWALS, take_lapse
from provision.aboard.renewal import RENEW_S
from provision.errors import LeaseEnded
from provision.seam import Box
from provision.ssh import Shell
from provision.walk.driven import Run
from provision.words import seconds_words


def tended(run: Run, shell: Shell, box: Box) -> AbstractContextManager[None]:
    """For as long as the block runs its lease is renewed, and home keeps when that was last done; nothing where it has none."""
    opened = run.state.opened
    if opened.lease_s is None:
        return nullcontext()
    every_s = min(RENEW_S, opened.lease_s / RENEWALS)
    spare = opened.keep_box_on_failure
    return run.reach.attended(shell, box, spare=spare, every_s=every_s, renewed=run.folder.renewed.touch)


def begun_by_somebody(run: Run, shell: Shell, box: Box) -> AbstractContextManager[None]:
    """The same for the block in which a trainer is begun, where no lease is renewed around it anyway."""
    opened = run.state.opened
    return nullcontext() if opened.lease_s is not None else run.reach.attended(shell, box, spare=opened.keep_box_on_failure)


def lease_has_ended(run: Run, shell: Shell, box: Box) -> bool:
    """Whether that has stopped the trainer. Raises LeaseEnded of a rented box: it is about to end itself."""
    lease_s = run.state.opened.lease_s
    if lease_s is None or not take_lapse(shell, box):
        return False
    if box.ours:
        raise LeaseEnded(f"Its lease ended: nobody had renewed it for {seconds_words(lease_s)}.")
    return True
