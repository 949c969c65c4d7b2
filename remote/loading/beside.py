"""Work that goes on in a thread of its own beside what the run waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final, Generic, TypeVar

from remote.telemetry import Events

T = TypeVar("T")
Warn = Callable[..., None]  # emits a "warning" event


class Beside(Generic[T]):
    """What `work` makes, once somebody needs it. Its errors are raised where that is, and nowhere else."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._made: Final[Future[T]] = Future()
        threading.Thread(target=self._do, args=(work,), name="beside", daemon=True).start()

    def result(self) -> T:
        """Wait for it. Raises what the work has raised."""
        return self._made.result()

    def check(self) -> None:
        """Raise what the work has raised by now, without waiting."""
        if self._made.done():
            self._made.result()

    def _do(self, work: Callable[[], T]) -> None:
        try:
            self._made.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is whoever needs the result who hears of it
            self._made.set_exception(error)


@contextmanager
def heard(events: Events) -> Iterator[Warn]:
    """Warnings of a thread that nobody waits for when the run ends early: after this block they are not told any more."""
    one_at_a_time, over = threading.Lock(), threading.Event()

    def warn(**data: Any) -> None:
        with one_at_a_time:
            if not over.is_set():
                events.emit("warning", **data)

    try:
        yield warn
    finally:
        with one_at_a_time:
            over.set()
