"""Being asked to stop: every way of asking becomes the one that Python unwinds for."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

SAME_MOMENT_S: Final = 1.0  # assumed


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does: stop, tear down, account.

    Whoever ends a session sends them in pairs; two that come together are one.
    """
    last_s = -SAME_MOMENT_S

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal last_s
        since_s, last_s = time.monotonic() - last_s, time.monotonic()
        if since_s >= SAME_MOMENT_S:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
