"""Places where a run's controller can be made to die, so that a test can see what is left.

`RENTUNE_CRASH_AT=train:before` sends SIGKILL to this process as it enters that phase; `train:after` as it leaves it;
`train` alone means `train:before`. Phases of the trainer count from the moment their event arrives here. `after-intent` and
the other names of MOMENTS lie between a deed and the ledger's line about it; `rentune down` dies at those as well.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Literal

from provision.account.ledger import Around
from provision.account.lines import AnyLine, Attempted, Billed, Created, Ended, Opened
from provision.errors import BadInput
from remote.contract import Phase

VARIABLE: Final = "RENTUNE_CRASH_AT"
Side = Literal["before", "after"]

# The write-ahead moments: the first line of a kind, and on which side of its way to the disk.
MOMENTS: Final[Mapping[str, tuple[type[AnyLine], Side]]] = {
    "before-open": (Opened, "before"),  # agreed to, and no line says so
    "after-open": (Opened, "after"),  # nobody is in charge
    "after-intent": (Attempted, "after"),  # a box may bill from here on, and none was asked for
    "after-create": (Created, "before"),  # the provider has handed out a box, and the ledger does not know it
    "before-boot": (Created, "after"),  # the ledger knows it, and nobody has reached it
    "after-destroy": (Ended, "before"),  # the provider lists nothing any more, and the ledger does not know
    "before-confirm": (Ended, "after"),  # the ledger says that it is gone, and nobody has looked again
    "before-bill": (Billed, "before"),  # the receipt is at home, and the ledger does not know
    "after-bill": (Billed, "after"),  # the keys are still there
}
PHASES: Final[frozenset[str]] = frozenset(f"{phase.value}:{side}" for phase in Phase for side in ("before", "after"))
POINTS: Final = PHASES | MOMENTS.keys()


def read_crash_point(environment: Mapping[str, str]) -> str | None:
    """The point that is asked for, in full; None outside tests. Raises BadInput for one that does not exist."""
    asked = environment.get(VARIABLE)
    if not asked:
        return None
    point = asked if asked in POINTS else f"{asked}:before"
    if point not in POINTS:
        raise BadInput(f"{VARIABLE}={asked} names no crash point.", hint=f"One of: {', '.join(sorted(POINTS))}")
    return point


def without_crash_point(environment: Mapping[str, str]) -> dict[str, str]:
    """For a process that is there for when this one has died: the same without its crash point."""
    return {name: value for name, value in environment.items() if name != VARIABLE}


def crash_if(point: str | None, phase: str, side: Side) -> None:
    """Die here and now, without a chance to clean up, when `point` is this side of this phase."""
    if point == f"{phase}:{side}":
        _die()


def crash_around(point: str | None) -> Around:
    """For a ledger: die before or after its first line of the kind that `point` is about, where it is one of MOMENTS."""
    moment = MOMENTS.get(point or "")

    @contextmanager
    def around(line: AnyLine) -> Iterator[None]:
        if moment == (type(line), "before"):
            _die()
        yield
        if moment == (type(line), "after"):
            _die()

    return around


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
