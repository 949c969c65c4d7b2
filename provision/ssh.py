"""The SSH client, and the only file that imports paramiko: one connection per box, every wait bounded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from provision.provisioner import Box

Progress = Callable[[int, int], None]  # bytes done, bytes in all


class Completed(msgspec.Struct, frozen=True, kw_only=True):
    """A command that ended. A command killed by a signal has rc 128 + signal where a shell survived to say so, else -1."""

    rc: int
    out: str
    err: str


class Shell:
    """One connection to one box. It reconnects by itself, for at most `patience_s`, always against the same pinned key."""

    @classmethod
    def connect(
        cls,
        box: Box,
        *,
        key: Path,
        deadline_s: float,
        patience_s: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Shell:
        """Try for `deadline_s` seconds until the box answers, then log in. Nothing of ours is sent before the host key matched.

        Raises WrongHostKey at once when another key answers, ConnectionFailed when nothing does.
        """
        raise NotImplementedError

    def run(self, command: str, *, timeout_s: float = 60.0, stdin: bytes | None = None) -> Completed:
        """Run one line of POSIX shell. Raises ConnectionFailed when it can't be sent or does not end in time; sent at most once."""
        raise NotImplementedError

    def put(self, local: Path, remote: str, *, progress: Progress | None = None) -> str:
        """Send a file and return its sha256, which the box has confirmed. Raises TransferFailed."""
        raise NotImplementedError

    def get(self, remote: str, local: Path, *, sha256: str | None = None, progress: Progress | None = None) -> str:
        """Bring a file home and return its sha256, compared with the box's own (and with `sha256`). Partial files go on."""
        raise NotImplementedError

    def put_tree(self, local: Path, remote: str, *, exclude: Sequence[str] = ()) -> None:
        """Send a folder as one tar stream; `exclude` are fnmatch patterns of names."""
        raise NotImplementedError

    def get_tree(self, remote: str, local: Path) -> None:
        """Bring a folder home as one tar stream."""
        raise NotImplementedError

    def follow(self, remote: str, local: Path, *, alive: Callable[[], bool]) -> Iterator[bytes]:
        """Complete lines of a growing file, appended to `local` byte for byte; starts at `local`'s size, survives cuts.

        Ends when `alive()` says no and everything is read. Lines that `local` already holds are not repeated.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Hang up. What runs on the box goes on."""
        raise NotImplementedError


def replace_host_key(shell: Shell, box: Box) -> Box:
    """Have the box make a new host key over this pinned connection, pin it, and return the Box that carries it.

    Returns `box` as it is unless `box.replace_host_key`. Write the new Box to the ledger (a second Created line).
    """
    raise NotImplementedError
