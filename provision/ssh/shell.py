"""Shell: the connection to one box that outlives cuts."""

from __future__ import annotations

import contextlib
import math
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import paramiko

from provision.errors import ConnectionFailed, WrongHostKey
from provision.provisioner import Box
from provision.ssh import follow, transfer, trees
from provision.ssh.channel import Completed, Flooded, Unreachable, begin, execute, open_channel
from provision.ssh.connect import ANSWER_S, Identity, KeyRefused, login

__all__ = ["Completed", "Shell"]

RETRY_S = 1.0  # assumed: between two attempts


class Shell:
    """One connection to one box. It reconnects by itself, for at most `patience_s`, always against the pinned key.

    Channels may be opened from several threads; the state guarded here is the transport that is current.
    """

    def __init__(
        self,
        box: Box,
        identity: Identity,
        transport: paramiko.Transport,
        *,
        patience_s: float,
        answer_s: float,
        ends_at_s: float,
        while_silent: Callable[[], object],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self.box = box
        self.patience_s = patience_s
        self.answer_s = answer_s
        self._identity = identity
        self._transport = transport
        self._ends_at_s = ends_at_s
        self._while_silent = while_silent
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def connect(
        cls,
        box: Box,
        *,
        key: Path | Identity,
        deadline_s: float,
        patience_s: float = 120.0,
        answer_s: float = ANSWER_S,
        lifetime_s: float = math.inf,
        while_silent: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Shell:
        """Try for `deadline_s` seconds until the box answers, then log in. Nothing of ours is sent before the host key matched.

        A box that leaves one question unanswered for `answer_s` counts as gone until it has been reached anew. It lives for
        `lifetime_s` from now: one that is silent after that is not waited for. `while_silent` is called after each try that
        failed, here and later; what it raises ends the waiting.
        Raises WrongHostKey at once when another key answers, ConnectionFailed when nothing does.
        """
        identity = key if isinstance(key, Identity) else Identity(keys=(key,))
        began_at_s = clock()
        ends_at_s = began_at_s + deadline_s
        while True:
            try:
                return cls(
                    box,
                    identity,
                    login(box, identity, timeout_s=min(answer_s, max(RETRY_S, ends_at_s - clock()))),
                    patience_s=patience_s,
                    answer_s=answer_s,
                    ends_at_s=began_at_s + lifetime_s,
                    while_silent=while_silent,
                    clock=clock,
                    sleep=sleep,
                )
            except WrongHostKey:
                raise
            except ConnectionFailed as error:
                final = isinstance(error, KeyRefused) and not box.ours  # nobody is about to write a key there
                if final or clock() + RETRY_S >= ends_at_s:
                    raise
                while_silent()
                sleep(RETRY_S)

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
        ends_at_s = min(self._clock() + self.patience_s, self._ends_at_s)
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
                if self._closed or self._clock() + RETRY_S >= ends_at_s:
                    raise Unreachable(str(error)) from error
                self._while_silent()
                self._sleep(RETRY_S)

    def _live_transport(self) -> paramiko.Transport:
        with self._lock:
            if self._closed:
                raise ConnectionFailed(f"The connection to {self.box.host} was closed on purpose.")
            if not self._transport.is_active():
                self._transport.close()
                self._transport = login(self.box, self._identity, timeout_s=self.answer_s)
            return self._transport
