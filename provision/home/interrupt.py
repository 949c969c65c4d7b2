"""Being asked to stop: every way of asking becomes the one that Python unwinds for, unless it is answered otherwise."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Final

SAME_MOMENT_S: Final = 1.0  # assumed
IN_PAIRS: Final = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible(answers: Mapping[int, Callable[[], bool]] | None = None) -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does: stop, tear down, account.

    One that has an answer in `answers`, which Ctrl-C may have as well, does so only where that says False: it was not answered
    otherwise. `nohup` is left to ignore SIGHUP. Whoever ends a session sends them in pairs; two that come together are one.
    """
    otherwise = answers or {}
    last_s = -SAME_MOMENT_S

    def interrupt(number: int, _frame: FrameType | None) -> None:
        nonlocal last_s
        if number in IN_PAIRS:
            since_s, last_s = time.monotonic() - last_s, time.monotonic()
            if since_s < SAME_MOMENT_S:
                return
        if number not in otherwise or not otherwise[number]():
            raise KeyboardInterrupt

    heard = [each for each in {*IN_PAIRS, *otherwise} if signal.getsignal(each) != signal.SIG_IGN]
    with answered(heard, interrupt):
        yield


@contextmanager
def answered(numbers: Iterable[int], answer: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let `answer` hear these signals inside the block; afterwards whoever heard them before."""
    before = {number: signal.signal(number, answer) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
