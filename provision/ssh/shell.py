"""Shell: the connection to one box that outlives cuts."""

from __future__ import annotations

import contextlib
import math
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import paramiko

from provision.errors import ConnectionFailed, WrongHostKey
from provision.seam import Box
from provision.ssh import follow, transfer, trees
from provision.ssh.channel import Completed, Flooded, Unreachable, begin, execute, open_channel
from provision.ssh.connect import ANSWER_S, Identity, KeyRefused, login

__all__ = ["WAITS", "Completed", "Shell", "Waits"]

RETRY_S = 1.0  # assumed: between two attempts


@dataclass(frozen=True)
class Waits:
    """How long a connection waits for its box, and by which clock."""

    patience_s: float = 120.0  # until one that was cut is given up
    answer_s: float = ANSWER_S  # one question that nobody answers so long counts as a cut
    lifetime_s: float = math.inf  # from the beginning: a box that is silent after that is not waited for
    while_silent: Callable[[], object] = lambda: None  # after each try that failed; what it raises ends the waiting
    when_refused: Callable[[], bool] = lambda: False  # our key, by the right box: whether another try is worth it
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


WAITS: Final = Waits()


class Shell:
    """One connection to one box. It reconnects by itself, as patiently as it is told, always against the pinned key.

    Channels may be opened from several threads; the state guarded here is the transport that is current.
    """

    def __init__(
        self,
        box: Box,
        identity: Identity,
        transport: paramiko.Transport,
        waits: Waits,
        *,
        ends_at_s: float,
    ) -> None:
        self.box = box
        self.patience_s = waits.patience_s
        self.answer_s = waits.answer_s
        self._identity = identity
        self._transport = transport
        self._waits = waits
        self._ends_at_s = ends_at_s
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def connect(cls, box: Box, *, key: Path | Identity, deadline_s: float, waits: Waits = WAITS) -> Shell:
        """Try for `deadline_s` seconds until the box answers, then log in. Nothing of ours is sent before the host key matched.

        Raises WrongHostKey at once when another key answers, ConnectionFailed when nothing does.
        """
        identity = key if isinstance(key, Identity) else Identity(keys=(key,))
        began_at_s = waits.clock()
        ends_at_s = began_at_s + deadline_s
        while True:
            try:
                answer_s = min(waits.answer_s, max(RETRY_S, ends_at_s - waits.clock()))
                transport = _admitted(box, identity, waits, timeout_s=answer_s)
                return cls(box, identity, transport, waits, ends_at_s=began_at_s + waits.lifetime_s)
            except WrongHostKey:
                raise
            except ConnectionFailed as error:
                final = isinstance(error, KeyRefused) and not box.ours  # nobody is about to write a key there
                if final or waits.clock() + RETRY_S >= ends_at_s:
                    raise
                waits.while_silent()
                waits.sleep(RETRY_S)

    def run(self, command: str, *, timeout_s: float = 60.0, stdin: bytes | None = None) -> Completed:
        """Run one line of POSIX shell. Raises ConnectionFailed when it can't be sent, does not end, or talks on and on.

        The command is sent at most once: an answer that was lost is the caller's to ask for again.
        """
        with self.session() as channel:
            try:
                begin(channel, command, timeout_s=self.answer_s)
                return execute(channel, timeout_s=timeout_s, stdin=stdin)
            except TimeoutError as error:
                raise ConnectionFailed(
                    f"{self.box.host} did not finish a command within {timeout_s:.0f} s: {command[:60]!r}."
                ) from error
            except Flooded as error:
                raise Flooded(f"{self.box.host} goes on and on over a command: {error} It was {command[:60]!r}.") from error

    def script(self, script: str, variables: Mapping[str, str], *, timeout_s: float = 60.0) -> Completed:
        """Run POSIX shell by stdin, `variables` exported first: nothing of it shows in any process's arguments. As `run`."""
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
        return self.run("exec sh -s", timeout_s=timeout_s, stdin=f"{exports}{script}".encode())

    def put(self, local: Path, remote: str, *, progress: transfer.Progress | None = None) -> str:
        """Send a file and return its sha256, which the box has confirmed. Raises TransferFailed, or ConnectionFailed."""
        return transfer.put(self, local, remote, progress)

    def get(
        self,
        remote: str,
        local: Path,
        *,
        sha256: str | None = None,
        num_bytes: int | None = None,
        progress: transfer.Progress | None = None,
    ) -> str:
        """Bring a file home; return its sha256, compared with the box's own (and with `sha256`). Partial files go on.

        One that has not just `num_bytes`, where they are known, is refused before a byte of it is sent.

        Raises TransferFailed or ConnectionFailed for the box and the line, HomeFailed where this machine can't take it.
        """
        return transfer.get(self, remote, local, sha256, num_bytes, progress)

    def has(self, remote: str, sha256: str) -> bool:
        """Whether a file there is this one. Raises TransferFailed where it can't be read, or ConnectionFailed."""
        return transfer.sha256_there(self, remote) == sha256

    def put_tree(self, local: Path, remote: str, *, leave_out: trees.LeaveOut = lambda _: False) -> None:
        """Send a folder as one tar stream, without the paths that `leave_out` says; links travel as what they lead to."""
        trees.put_tree(self, local, remote, leave_out)

    def follow(
        self, remote: str, local: Path, *, alive: Callable[[], bool], tell: follow.Tell = lambda _: None
    ) -> Iterator[bytes]:
        """Complete lines of a growing file, appended to `local` byte for byte; starts at `local`'s size, survives cuts.

        Ends when `alive()` says no and everything is read. Lines that `local` already holds are not repeated. `tell` gets a
        sentence for each bound that the file exceeds: of a line, of all of it, and of what comes after the end.
        """
        return follow.follow(self, remote, local, alive, tell)

    def expect(self, box: Box) -> None:
        """The box answers with other host keys from now on: whoever connects again accepts those alone. This line stands."""
        with self._lock:
            self.box = box

    def hang_up(self) -> None:
        """Break this connection, and with it whatever waits on it; the next use makes another."""
        with self._lock:
            self._transport.close()

    def close(self) -> None:
        """Hang up for good. What runs on the box goes on."""
        with self._lock:
            self._closed = True
            self._transport.close()

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def session(self) -> Iterator[paramiko.Channel]:
        """A fresh channel, reconnecting for at most `patience_s`. Raises ConnectionFailed."""
        channel = self._open_channel()
        try:
            yield channel
        finally:
            with contextlib.suppress(paramiko.SSHException, OSError, EOFError):  # a dead line can't be told
                channel.close()

    def _open_channel(self) -> paramiko.Channel:
        ends_at_s = min(self._waits.clock() + self.patience_s, self._ends_at_s)
        while True:
            transport = None
            try:
                transport = self._live_transport()
                return open_channel(transport, timeout_s=self.answer_s)
            except WrongHostKey:
                raise
            except ConnectionFailed as error:
                if transport is not None:  # it says it is active, and opens nothing: a box that hangs
                    transport.close()
                if self._closed or self._waits.clock() + RETRY_S >= ends_at_s:
                    raise Unreachable(str(error)) from error
                self._waits.while_silent()
                self._waits.sleep(RETRY_S)

    def _live_transport(self) -> paramiko.Transport:
        with self._lock:
            if self._closed:
                raise ConnectionFailed(f"The connection to {self.box.host} was closed on purpose.")
            if not self._transport.is_active():
                self._transport.close()
                self._transport = _admitted(self.box, self._identity, self._waits, timeout_s=self.answer_s)
            return self._transport


def _admitted(box: Box, identity: Identity, waits: Waits, *, timeout_s: float) -> paramiko.Transport:
    """One login; a second where the key was refused and somebody has seen to that. Raises as `login` does."""
    try:
        return login(box, identity, timeout_s=timeout_s)
    except KeyRefused:
        if not waits.when_refused():
            raise
    return login(box, identity, timeout_s=timeout_s)
