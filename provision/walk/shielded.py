"""Signals that must wait: what is begun inside is done before anybody is answered."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from provision.home.interrupt import answered

SHIELDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def shielded() -> Iterator[None]:
    """Signals that arrive inside are answered at the end, the way they would have been."""
    if threading.current_thread() is not threading.main_thread():  # signals arrive in the main thread only
        yield
        return
    arrived: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        arrived.append(number)

    try:
        with answered(SHIELDED, note):
            yield
    finally:
        for each in dict.fromkeys(arrived):
            signal.raise_signal(each)
