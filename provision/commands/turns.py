"""Several ends, one after the other, and what a Ctrl-C in the middle of them leaves."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final

from provision.charge.ends.verdicts import RunEnd
from provision.errors import Held
from provision.home.shielded import held_back
from provision.seam import Teardown
from provision.words import Note

WAITED_FOR: Final = "What is being ended is ended first. Ctrl-C is answered then: nothing more is begun."
NOT_BEGUN: Final = "Interrupted before anything of it was ended."


@dataclass(frozen=True)
class Turn:
    """One of several ends."""

    run_id: str
    act: Callable[[], RunEnd]
    is_waited_for: bool = True  # at Ctrl-C; False = it says itself what it leaves, as it may bring a result home for long


def in_turn(turns: Iterable[Turn], said: Note) -> Iterator[tuple[str, Teardown | Held]]:
    """The verdict of each, by its run, or that its run is held. At Ctrl-C the one that is at work is waited for, which is said
    at once, or cut off; what would have come after it is unknown.
    """
    cut: list[int] = []
    for turn in turns:
        verdict: Teardown | Held = Teardown.unknown(turn.run_id, NOT_BEGUN)
        if not cut:
            with held_back(lambda: said(WAITED_FOR)) if turn.is_waited_for else nullcontext(cut) as cut:
                try:
                    end = turn.act()
                    verdict = end.teardown
                    cut += [signal.SIGINT] * end.cut_off
                except Held as error:
                    verdict = error
                except Exception as error:  # noqa: BLE001 - whatever is wrong with one, the next must be ended, too
                    verdict = RunEnd.failed(turn.run_id, error).teardown
        yield turn.run_id, verdict
