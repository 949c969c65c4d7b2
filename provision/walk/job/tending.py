"""What tells a box that its run is in somebody's hands, and what becomes of a trainer that was stopped as nobody did."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

from provision.aboard.lease import forget_lease_end, lease_has_ended
from provision.errors import BoxLost, LeaseEnded
from provision.seam import Box
from provision.ssh import Shell
from provision.walk.driven import Run
from provision.walk.job.carrying import bring_only_copy
from provision.walk.job.patience import patiently
from provision.words import seconds_words


def tended(run: Run, shell: Shell, box: Box) -> AbstractContextManager[None]:
    """For as long as the block runs its lease is renewed, and home keeps when that was last done; nothing where it has none."""
    opened = run.state.opened
    if opened.lease_s is None:
        return nullcontext()

    def keep(sent_at_s: float) -> None:
        run.folder.renewed.touch()
        os.utime(run.folder.renewed, (sent_at_s, sent_at_s))  # the clock that asks for it later; a disk's may be another

    return run.reach.attended(
        shell, box, spare=opened.keep_box_on_failure, renewed=keep, tell=run.display.note, clock=run.clocks.wall
    )


def begun_by_somebody(run: Run, shell: Shell, box: Box) -> AbstractContextManager[None]:
    """The attendance of the block in which a trainer is begun, where no lease is renewed around it anyway."""
    opened = run.state.opened
    return nullcontext() if opened.lease_s is not None else run.reach.attended(shell, box, spare=opened.keep_box_on_failure)


def ended_by_lease(run: Run, shell: Shell, box: Box) -> bool:
    """Whether the trainer on this box was stopped by its lease; a line that is cut meanwhile is waited for. What becomes of
    it is the caller's to say.
    """
    return run.state.opened.lease_s is not None and patiently(run, lambda: lease_has_ended(shell, box))


def begin_anew(run: Run, shell: Shell, box: Box) -> None:
    """Another lease for a host of the user's, which stands. Raises LeaseEnded of a rented box, which is about to end itself:
    what its trainer saved is at home by then, unless the box has gone before, or its deadline has come.
    """
    lease_s = run.state.opened.lease_s
    if box.ours and lease_s is not None:
        why = LeaseEnded(f"Its lease ended: no renewal had reached it for {seconds_words(lease_s)}.")
        try:
            bring_only_copy(run, shell, box)
        except BoxLost as error:
            raise why from error
        raise why
    patiently(run, lambda: forget_lease_end(shell, box))
