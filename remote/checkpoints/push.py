"""Checkpoints on their way to object storage while the training goes on. No message holds an address: those are secret."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from remote.checkpoints.grants import WHOLE, Grants, Whole
from remote.contract import CHECKPOINT_FILES, PROGRESS_FILE, AdapterFile, Judged, checkpoint_name, decode, encode
from remote.digest import sha256_of
from remote.telemetry import Events

LARGEST_BYTES: Final = 5 * 2**30  # of one PUT at S3 (its user guide, 2026-11); Azure and Google Cloud take as much
TIMEOUT_S: Final = (10.0, 60.0)  # assumed: to connect; of silence
PAUSES_S: Final = (1.0, 5.0)  # assumed: before each further try
FINAL: Final = frozenset({400, 401, 403, 404})  # assumed: asking again changes nothing; 403 is also what has expired
LAST_S: Final = 100.0  # assumed: AWS gives a spot machine 120 s from its notice
HEADERS: Final = {
    "Content-Type": "application/octet-stream",
    "x-ms-blob-type": "BlockBlob",  # Azure asks for it; the others pass it over
}

Put = Callable[[str, "Path | bytes"], None]


class NotTaken(Exception):
    """The store did not take it; why, without the address."""


class Pusher:
    """Sends the newest checkpoint, and the best that it needs, in a thread of its own. One that is overtaken is left out."""

    def __init__(self, grants: Grants, checkpoints: Path, events: Events, *, put: Put | None = None) -> None:
        self._places, self._checkpoints, self._events = grants.places, checkpoints, events
        self._put = put or put_patiently
        self._held: dict[int, Whole] = {}  # place → what lies there
        self._changed = threading.Condition()
        self._wanted: tuple[int, ...] = ()
        self._over = False
        self._thread = threading.Thread(target=self._work, name="push", daemon=True)
        self._thread.start()

    def push(self, step: int, best_step: int | None) -> None:
        """Have the checkpoint of `step` sent, and first the best one where that is not there yet. Returns at once."""
        with self._changed:
            self._wanted = (step,) if best_step is None else (best_step, step)
            self._changed.notify()

    def finish(self, *, within_s: float = LAST_S) -> None:
        """Return when all is sent, or the time is over."""
        with self._changed:
            self._over = True
            self._changed.notify()
        self._thread.join(within_s)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._over)
                wanted, self._wanted = self._wanted, ()
            if not wanted:
                return
            *best, newest = dict.fromkeys(wanted)
            for step in best:
                if step not in {whole.step for whole in self._held.values()}:
                    self._send(step)
            self._send(newest)

    def _send(self, step: int) -> None:
        started_s = time.monotonic()
        folder = self._checkpoints / checkpoint_name(step)
        try:
            whole = _described(step, folder)
            if whole in self._held.values():
                return
            if whole.best_step not in {None, step} and whole.best_step not in {held.step for held in self._held.values()}:
                raise NotTaken(f"the best so far, of step {whole.best_step}, is not there, and nobody can go on without it")
            number = self._free(whole.best_step)
            place = self._places[number]
            self._held.pop(number, None)
            self._put(place[WHOLE], b"")
            for file in whole.files:
                self._put(place[file.path], folder / file.path)
            if _described(step, folder) != whole:  # written anew meanwhile, and wanted again
                return
            self._put(place[WHOLE], encode(whole))
        except FileNotFoundError:  # a newer one has taken its place, and will be sent
            return
        except NotTaken as error:
            self._tell("checkpoint_not_pushed", step=step, reason=str(error))
            return
        self._held[number] = whole
        size_bytes = sum(file.size_bytes for file in whole.files)
        self._tell("checkpoint_pushed", step=step, size_bytes=size_bytes, seconds=time.monotonic() - started_s)

    def _tell(self, kind: str, **data: Any) -> None:
        """A disk that takes no line must not end this thread: what is still to be sent is all that outlives the box."""
        with suppress(OSError):
            self._events.emit(kind, **data)

    def _free(self, best_step: int | None) -> int:
        """A place that holds neither the newest, nor the best of the newest, nor the best now."""
        newest = max(self._held.values(), key=lambda whole: whole.step, default=None)
        kept = {best_step} if newest is None else {best_step, newest.step, newest.best_step}
        return next(n for n in range(len(self._places)) if n not in self._held or self._held[n].step not in kept)


def _described(step: int, folder: Path) -> Whole:
    """Raises NotTaken for one that is too large for a single PUT."""
    files = tuple(
        AdapterFile(path=name, size_bytes=(folder / name).stat().st_size, sha256=sha256_of(folder / name))
        for name in CHECKPOINT_FILES
    )
    if any(file.size_bytes > LARGEST_BYTES for file in files):
        raise NotTaken(f"a file of it is larger than the {LARGEST_BYTES / 2**30:.0f} GiB that are taken at once")
    best_step = decode((folder / PROGRESS_FILE).read_bytes(), Judged).best_step
    return Whole(step=step, best_step=best_step, files=files)


def put_patiently(address: str, content: Path | bytes, *, sleep: Callable[[float], Any] = time.sleep) -> None:
    """PUT it. Raises NotTaken where the store says no, or is not there for longer than a moment; FileNotFoundError."""
    for pause_s in (*PAUSES_S, None):
        status = _answer(address, content)
        if status in range(200, 300):
            return
        if status in FINAL or pause_s is None:
            raise NotTaken(f"the store answered {status}" if isinstance(status, int) else f"the store is not there ({status})")
        sleep(pause_s)


def _answer(address: str, content: Path | bytes) -> int | str:
    """The status, or the kind of failure: its words would hold the address."""
    import requests

    try:
        if isinstance(content, bytes):
            return int(requests.put(address, content, headers=HEADERS, timeout=TIMEOUT_S, allow_redirects=False).status_code)
        with content.open("rb") as file:
            return int(requests.put(address, file, headers=HEADERS, timeout=TIMEOUT_S, allow_redirects=False).status_code)
    except requests.RequestException as error:
        return type(error).__name__
