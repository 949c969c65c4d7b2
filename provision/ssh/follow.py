"""A growing file on the box, mirrored byte for byte at home. The mirror's size is the place to go on from."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from provision.errors import ConnectionFailed
from provision.ssh.channel import CHUNK_BYTES, begin, lost_connection, wait_rc
from provision.ssh.line import Line

# Assumed: the writer is asked for after a silence of 1 s, then 2 s, up to 8 s; a question costs the box 10 ms of CPU.
QUIET_S = (1.0, 2.0, 4.0, 8.0)
REST_S = 60.0  # assumed: beyond the longest of these pauses by far
MAX_FRUITLESS = 5  # assumed: whoever follows asks again, and knows better whether the box is still there


def follow(line: Line, remote: str, local: Path, alive: Callable[[], bool]) -> Iterator[bytes]:
    """Complete lines, each once; see Shell.follow."""
    local.parent.mkdir(parents=True, exist_ok=True)
    local.touch()
    held = local.read_bytes()
    torn = held[held.rfind(b"\n") + 1 :]
    with local.open("ab") as mirror:
        for chunk in _bytes_from(line, remote, len(held), alive):
            mirror.write(chunk)
            mirror.flush()
            *lines, torn = (torn + chunk).split(b"\n")
            yield from lines


def _bytes_from(line: Line, remote: str, offset: int, alive: Callable[[], bool]) -> Iterator[bytes]:
    """Every byte from `offset` on, across cuts, until the writer has ended."""
    writing = True
    while writing:
        for chunk in _tail(line, remote, offset):
            if chunk:
                offset += len(chunk)
                yield chunk
            elif not alive():
                writing = False
                break
        else:  # cut off, or no file yet
            writing = alive()
    yield from _rest(line, remote, offset)


def _tail(line: Line, remote: str, offset: int) -> Iterator[bytes]:
    """What arrives, and an empty chunk for each silence; ends when the connection does."""
    silences = 0
    with line.session() as channel, contextlib.suppress(ConnectionFailed), lost_connection("the line was cut"):
        begin(channel, f"exec tail -c +{offset + 1} -F {shlex.quote(remote)} 2>/dev/null", timeout_s=line.answer_s)
        while True:
            channel.settimeout(QUIET_S[min(silences, len(QUIET_S) - 1)])
            try:
                chunk = channel.recv(CHUNK_BYTES)
            except TimeoutError:
                silences += 1
                yield b""
                continue
            if not chunk:
                return
            silences = 0
            yield chunk


def _rest(line: Line, remote: str, offset: int) -> Iterator[bytes]:
    """The bytes that came between the last one seen and the writer's end, across cuts.

    Raises ConnectionFailed where a line that can be had brings nothing, again and again.
    """
    fruitless = 0
    while fruitless < MAX_FRUITLESS:
        with (
            line.session() as channel,
            contextlib.suppress(TimeoutError, ConnectionFailed),
            lost_connection("the line was cut"),
        ):
            place = shlex.quote(remote)
            begin(channel, f"[ ! -e {place} ] || exec tail -c +{offset + 1} {place} 2>/dev/null", timeout_s=line.answer_s)
            channel.settimeout(REST_S)
            while chunk := channel.recv(CHUNK_BYTES):
                fruitless, offset = 0, offset + len(chunk)
                yield chunk
            wait_rc(channel, timeout_s=REST_S)
            return
        fruitless += 1
    raise ConnectionFailed(f"The end of {remote} did not come: the line broke {MAX_FRUITLESS} times before a byte.")
