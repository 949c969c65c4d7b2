"""Signals that must wait: what is begun inside is done before anybody is answered. That it is so is said at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

from provision.home.interrupt import answered

SHIELDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAID_WITHIN_S: Final = 1.0  # assumed: a terminal takes a line in less; one that takes none is not waited for


class Word:
    """Something that is said once, from a thread apart: a signal may have come in the middle of another line."""

    def __init__(self, say: Callable[[], object]) -> None:
        self._say = say
        self._saying: threading.Thread | None = None

    def said(self) -> None:
        """Say it, the first time."""
        if self._saying is None:
            self._saying = threading.Thread(target=self._quietly, name="answer", daemon=True)
            self._saying.start()

    def awaited(self) -> None:
        """What is said next comes after it."""
        if self._saying is not None:
            self._saying.join(SAID_WITHIN_S)

    def _quietly(self) -> None:
        with suppress(Exception):  # nobody reads along any more
            self._say()


@contextmanager
def shielded(say: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Signals that arrive inside are answered at the end, the way they would have been. At the first one `say` is called."""
    arrived = list[int]()
    try:
        with held_back(say) as arrived:
            yield
    finally:
        for each in dict.fromkeys(arrived):
            signal.raise_signal(each)


@contextmanager
def held_back(say: Callable[[], object] = lambda: None) -> Iterator[list[int]]:
    """The signals that arrive inside, for the caller to answer afterwards. At the first one `say` is called."""
    arrived, word = list[int](), Word(say)
    if threading.current_thread() is not threading.main_thread():  # signals arrive in the main thread only
        yield arrived
        return

    def note(number: int, _frame: FrameType | None) -> None:
        arrived.append(number)
        word.said()

    try:
        with answered(SHIELDED, note):
            yield arrived
    finally:
        word.awaited()


@contextmanager
def said_first(say: Callable[[], object]) -> Iterator[None]:
    """Ctrl-C and SIGTERM do inside what they would have done. At the first one that interrupts `say` is called."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    word = Word(say)
    before = {number: handler for number in (signal.SIGINT, signal.SIGTERM) if callable(handler := signal.getsignal(number))}

    def hear(number: int, frame: FrameType | None) -> None:
        try:
            before[signal.Signals(number)](number, frame)
        except KeyboardInterrupt:
            word.said()
            raise

    try:
        with answered(before, hear):
            yield
    finally:
        word.awaited()
