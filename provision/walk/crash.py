"""Places where a run's controller can be made to die, so that a test can see what is left.

`RENTUNE_CRASH_AT=train:before` sends SIGKILL to this process as it enters that phase; `train:after` as it leaves it;
`train` alone means `train:before`. Phases of the trainer count from the moment their event arrives here.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Final, Literal

from provision.errors import BadInput
from remote.contract import Phase

VARIABLE: Final = "RENTUNE_CRASH_AT"
Side = Literal["before", "after"]
POINTS: Final[frozenset[str]] = frozenset(f"{phase.value}:{side}" for phase in Phase for side in ("before", "after"))


def read_crash_point(environment: Mapping[str, str]) -> str | None:
    """The point that is asked for, in full; None outside tests. Raises BadInput for one that does not exist."""
    asked = environment.get(VARIABLE)
    if not asked:
        return None
    point = asked if ":" in asked else f"{asked}:before"
    if point not in POINTS:
        raise BadInput(f"{VARIABLE}={asked} names no crash point.", hint=f"One of: {', '.join(sorted(POINTS))}")
    return point


def crash_if(point: str | None, phase: str, side: Side) -> None:
    """Die here and now, without a chance to clean up, when `point` is this one."""
    if point == f"{phase}:{side}":
        os.kill(os.getpid(), signal.SIGKILL)
