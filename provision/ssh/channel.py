"""One command on one channel: begin it, feed it, collect what it says; every wait has an end, and every answer a size."""

from __future__ import annotations

import contextlib
import math
import select
import threading
import time
from collections.abc import Iterator

import msgspec
import paramiko

from provision.errors import ConnectionFailed

CHUNK_BYTES = 256 * 1024  # assumed: some SSH packets at once, and little memory
MOST_SAID_BYTES = 32 * 1024 * 1024  # assumed: the longest answers of ours, an outcome and a trainer's last events, have 8 MiB


class Unreachable(ConnectionFailed):
    """The box stayed away for longer than the shell's patience: asking again is the caller's decision."""


class Flooded(ConnectionFailed):
    """A command said more than any of ours has to say. The box answers, and what it says is of no use."""


class Completed(msgspec.Struct, frozen=True, kw_only=True):
    """A command that ended. One killed by a signal has rc 128 + signal where a shell survived to say so, else -1."""

    rc: int
    out: str
    err: str


def open_channel(transport: paramiko.Transport, *, timeout_s: float) -> paramiko.Channel:
    """A session channel. Raises ConnectionFailed."""
    with lost_connection("no channel could be opened"):
        return transport.open_session(timeout=timeout_s)


def begin(channel: paramiko.Channel, command: str, *, timeout_s: float) -> None:
    """Start `command`. Paramiko waits for the answer without a limit, so a timer ends the connection of a mute box.

    And the waiting itself: on a line that died as it began nobody else is left who would.
    """

    def give_up() -> None:
        channel.get_transport().close()
        channel.event.set()

    timer = threading.Timer(timeout_s, give_up)
    timer.daemon = True
    timer.start()
    try:
        with lost_connection("the box did not accept the command"):
            channel.settimeout(timeout_s)
            channel.exec_command(command)
    finally:
        timer.cancel()


def feed(channel: paramiko.Channel, data: bytes, *, ends_at_s: float) -> None:
    """All of it, and that it is all, to a box that may take it byte by byte. Raises TimeoutError."""
    rest = memoryview(data)
    while rest:
        channel.settimeout(_left_s(ends_at_s))
        rest = rest[channel.send(rest) :]
    channel.shutdown_write()


def collect(channel: paramiko.Channel, *, ends_at_s: float) -> tuple[bytes, bytes]:
    """Everything the command says on both streams until it closes them.

    Raises TimeoutError, also of one that goes on talking, and Flooded.
    """
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    out, err = bytearray(), bytearray()
    while True:
        ended = channel.eof_received or channel.closed  # what arrived before is still there, a window's bytes at most
        left_s = math.inf if ended else _left_s(ends_at_s)
        if channel.recv_ready():
            out += channel.recv(CHUNK_BYTES)
        elif channel.recv_stderr_ready():
            err += channel.recv_stderr(CHUNK_BYTES)
        elif ended:
            return bytes(out), bytes(err)
        else:
            poll.poll(left_s * 1000)
        if len(out) + len(err) > MOST_SAID_BYTES:
            raise Flooded(f"more than {MOST_SAID_BYTES:,} bytes.")


def _left_s(ends_at_s: float) -> float:
    """Raises TimeoutError where nothing is left."""
    left_s = ends_at_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def wait_rc(channel: paramiko.Channel, *, timeout_s: float) -> int:
    """The exit status. Raises ConnectionFailed when the connection ended before the command did."""
    if not channel.status_event.wait(timeout_s):
        raise TimeoutError
    if channel.exit_status == -1 and not channel.eof_received:
        raise ConnectionFailed("the connection was lost before the command ended.")
    return int(channel.exit_status)


def execute(channel: paramiko.Channel, *, timeout_s: float, stdin: bytes | None) -> Completed:
    """Feed a command that has begun, and collect. Raises TimeoutError, Flooded or ConnectionFailed."""
    with lost_connection("the connection was lost in mid-command"):
        ends_at_s = time.monotonic() + timeout_s
        feed(channel, stdin or b"", ends_at_s=ends_at_s)
        out, err = collect(channel, ends_at_s=ends_at_s)
        rc = wait_rc(channel, timeout_s=timeout_s)
    return Completed(rc=rc, out=out.decode(errors="replace"), err=err.decode(errors="replace"))


@contextlib.contextmanager
def lost_connection(what: str) -> Iterator[None]:
    """Every way in which paramiko says that a connection is gone, as ConnectionFailed. TimeoutError passes."""
    try:
        yield
    except TimeoutError:
        raise
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise ConnectionFailed(f"{what}: {str(error).rstrip('.') or type(error).__name__}.") from error
