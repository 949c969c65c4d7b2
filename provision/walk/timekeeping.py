"""The clock that a run goes by: it was opened by one, its deadline is told by that, and nobody sets it meanwhile."""

from __future__ import annotations

import dataclasses
from typing import Final

from provision.account.runs import Standing
from provision.home.clocks import steadied
from provision.seam import CLOCKS_AGREE_S
from provision.walk.driven import Run
from provision.walk.job.patience import listed

AS_SET_S: Final = 2 * CLOCKS_AGREE_S  # derived: two looks, each as far as whole seconds of a header tell


def with_steady_clock(run: Run) -> Run:
    """The run by a clock that goes on as it stands: a wall clock that is set while it is driven, or that a machine which slept
    finds wrong, would end a box that trains, or wait for one that is gone.
    """
    return dataclasses.replace(run, clocks=steadied(run.clocks, ahead_s=set_since_order_s(run)))


def set_since_order_s(run: Run) -> float:
    """By how much this machine's clock is set forward since the box that stands was ordered, negative back; another machine
    that takes the run over has another clock.

    The ledger has the deadline by the clock at home then, the box's own tag by its provider's, which shows what lay between:
    without a tag that counts as nothing, since nothing is ordered by a clock that is off by more than the grace. What lies
    between now the provider's answer tells. Zero where that says nothing.
    """
    state = run.state
    if state.standing not in (Standing.ASKED, Standing.UP) or (ahead_s := listed(run).ahead_s) is None:
        return 0.0
    tagged = [each.deadline_at_s for each in (state.box.resources if state.box else ()) if each.deadline_at_s is not None]
    set_s = ahead_s - (state.deadline_at_s - min(tagged, default=state.deadline_at_s))
    return set_s if abs(set_s) > AS_SET_S else 0.0
