"""What a trainer's events say of kills that it came through."""

from __future__ import annotations

from typing import Any

import pytest

from provision.watch.starts import Again, held_out_twins, restarts_of
from remote.contract import Event, Phase

BOX_CLOCK_AHEAD_S = 5_000.0


def event(seq: int, kind: str, phase: Phase = Phase.TRAIN, *, rebooted: bool = False, **data: Any) -> Event:
    monotonic_s = float(seq) if rebooted else seq + BOX_CLOCK_AHEAD_S
    return Event(seq=seq, at_s=float(seq), monotonic_s=monotonic_s, kind=kind, phase=phase, data=data)


UNTIL_KILLED = [
    event(0, "phase_started", Phase.ENVIRONMENT),
    event(1, "phase_ended", Phase.ENVIRONMENT, seconds=1.0),
    event(10, "phase_started"),
    event(20, "step", step=10),
    event(30, "step", step=16),
]
AGAIN = [event(60, "phase_started", Phase.ENVIRONMENT), event(61, "phase_ended", Phase.ENVIRONMENT, seconds=1.0)]


@pytest.mark.parametrize(
    ("later", "steps_lost"),
    [
        ([event(62, "resumed", step=10)], 6),
        ([event(62, "step", step=1)], 16),
        ([event(62, "resumed", step=16)], 0),
        ([], 0),
    ],
    ids=["from a checkpoint", "from the beginning", "from the last step", "it never came so far"],
)
def test_a_kill_is_known_by_the_start_after_it(later: list[Event], steps_lost: int) -> None:
    """What was lost is told by where the next trainer goes on; what no phase counts, by when the one that was cut off began."""
    told = [*UNTIL_KILLED, *AGAIN, *later]
    assert restarts_of(told) == (Again(rebooted=False, steps_lost=steps_lost, phase="train", cut_off_s=50.0),)


def test_a_run_that_nobody_killed_was_started_once() -> None:
    """Its first start is none of these."""
    assert restarts_of(UNTIL_KILLED) == ()


def test_a_reboot_is_known_by_the_box_s_clock() -> None:
    """It begins anew. A second kill before the next trainer said where it goes on loses the steps once."""
    rebooted = event(60, "phase_started", Phase.ENVIRONMENT, rebooted=True)
    resumed = event(90, "resumed", rebooted=True, step=10)
    killed = event(80, "phase_started", Phase.ENVIRONMENT, rebooted=True)
    first, second = restarts_of([*UNTIL_KILLED, rebooted, killed, resumed])
    assert (first.rebooted, first.steps_lost, first.cut_off_s) == (True, 0, 50.0)
    assert (second.rebooted, second.steps_lost, second.phase, second.cut_off_s) == (False, 6, "environment", 20.0)


def test_held_out_rows_that_are_learned_are_counted_once() -> None:
    """A trainer that was started again says them again."""
    assert held_out_twins([event(1, "warning", held_out_twins=4), event(9, "warning", held_out_twins=4)]) == 4
    assert held_out_twins([event(1, "warning", message="two rows were cut")]) == 0
