"""Who is at the terminal of a driven run: what they may be asked, and what becomes of it when they or the machine go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from provision.providers import Confirm
from provision.walk.driven import Agrees


@dataclass(frozen=True)
class Attendant:
    """Nobody, where nothing is said."""

    confirm: Confirm | None = None  # the key of a host that is met for the first time
    agrees: Agrees = lambda _question: False  # to an offer that makes the job much dearer
    hand_over: Callable[[], object] | None = (
        None  # leaves the run to somebody else where the terminal is closed; None = stops it
    )
    let_go: Callable[[int], object] | None = None  # of the run, where the machine asks its processes to end; None = stops it


NOBODY_THERE: Final = Attendant()
