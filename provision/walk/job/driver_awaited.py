"""A box whose first boot sees to its driver: nothing is set up on it before that is told to be there."""

from __future__ import annotations

from provision.aboard.driver_wait import WAIT_S, await_driver
from provision.seam import Box
from provision.ssh import Shell
from provision.walk.driven import Run
from provision.walk.job.patience import HOME_WAIT_S, patiently


def driver_awaited(run: Run, shell: Shell, box: Box) -> None:
    """Where the box has such a boot, wait for its word, over a line that may be cut, until its unit must be over.

    Raises Declined where no driver comes of it: the box is ended, and the next offer tried. Else as `patiently`.
    """
    if not box.installs_driver:
        return
    wait_s = max(0.0, min(WAIT_S, run.left_s))
    ends_at_s = run.clocks.steady() + wait_s
    patiently(
        run,
        lambda: await_driver(shell, ends_at_s=ends_at_s, wait_s=wait_s, clocks=run.clocks, tell=run.display.note),
        home_wait_s=HOME_WAIT_S,
    )
