"""Being asked to stop: every way of asking becomes the one that Python unwinds for. A closed terminal asks for less."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

SAME_MOMENT_S: Final = 1.0  # assumed


@contextmanager
def interruptible(hung_up: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does: stop, tear down, account.

    SIGHUP does so only where `hung_up` says that it was not answered otherwise; `nohup` is left to ignore it. Whoever ends a
    session sends them in pairs; two that come together are one.
    """
    last_s = -SAME_MOMENT_S

    def interrupt(number: int, _frame: FrameType | None) -> None:
        nonlocal last_s
        since_s, last_s = time.monotonic() - last_s, time.monotonic()
        if since_s < SAME_MOMENT_S or (number == signal.SIGHUP and hung_up()):
            return
        raise KeyboardInterrupt

    heard = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) != signal.SIG_IGN]
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
