"""What the trainer tells: one JSON line per event, each whole or absent, numbered through across restarts."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from remote.contract import Event, Phase, encode, parse_event

TAIL_BYTES: Final = 1 << 20  # where the last event is looked for; far longer than any line
PROGRESS_EVERY_S: Final = 1.0  # for a person to watch; assumed


class Events:
    """Writes `events.jsonl` and meters the phases. Each line is one write, so a kill can only cut the very last one."""

    def __init__(
        self, path: Path, *, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock, self._monotonic = clock, monotonic
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        self._seq = _next_seq(self._file)
        self._phase = Phase.ENVIRONMENT
        self._phase_since_s: float | None = None
        self._progress_at_s = 0.0
        self._one_at_a_time = threading.Lock()
        self._listeners: tuple[Callable[[Event], None], ...] = ()
        self.phase_s: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._file)

    @property
    def phase(self) -> Phase:
        return self._phase

    def emit(self, kind: str, **data: Any) -> None:
        """Append one event, from any thread. `data` is plain JSON; sizes and times carry their units in their names."""
        with self._one_at_a_time:
            at_s, monotonic_s = self._clock(), self._monotonic()
            event = Event(seq=self._seq, kind=kind, phase=self._phase, at_s=at_s, monotonic_s=monotonic_s, data=data)
            os.write(self._file, encode(event) + b"\n")
            self._seq += 1
        for listener in self._listeners:
            listener(event)

    @contextmanager
    def heard_by(self, listener: Callable[[Event], None]) -> Iterator[None]:
        """Let `listener` have each event of this block as well, in the thread that emits it, once the line is written."""
        before = self._listeners
        self._listeners = (*before, listener)
        try:
            yield
        finally:
            self._listeners = before

    def warn(self, message: str) -> None:
        """Say what somebody should know."""
        self.emit("warning", message=message)

    def enter(self, phase: Phase, *, since_s: float | None = None) -> None:
        """End the running phase and start `phase` (at monotonic `since_s`, now if not said). The same phase may come again."""
        if self._phase_since_s is not None and phase == self._phase:
            return
        self.leave()
        self._phase, self._phase_since_s = phase, self._monotonic() if since_s is None else since_s
        self.emit("phase_started")

    def leave(self) -> None:
        """End the running phase, if there is one."""
        if self._phase_since_s is None:
            return
        seconds = self._monotonic() - self._phase_since_s
        self.phase_s[self._phase] = self.phase_s.get(self._phase, 0.0) + seconds
        self._phase_since_s = None
        self.emit("phase_ended", seconds=seconds)

    def progress(self, what: str, done: int, total: int) -> None:
        """Say how far a long piece of work is, about once a second."""
        now_s = self._monotonic()
        if now_s - self._progress_at_s >= PROGRESS_EVERY_S or done == total:
            self._progress_at_s = now_s
            self.emit("progress", what=what, done=done, total=total)


def _next_seq(file: int) -> int:
    """One more than the last whole event's number. A line that a kill cut short is closed, so that it stays alone."""
    size = os.fstat(file).st_size
    tail = os.pread(file, TAIL_BYTES, max(0, size - TAIL_BYTES))
    if tail and not tail.endswith(b"\n"):
        os.write(file, b"\n")
    events = (parse_event(line) for line in reversed(tail.splitlines()))
    return next((event.seq + 1 for event in events if event is not None), 0)


def say(text: str) -> None:
    """A line for whoever reads the command's output."""
    print(text, flush=True)


def complain(text: str) -> None:
    """A line for the log."""
    print(text, file=sys.stderr, flush=True)
