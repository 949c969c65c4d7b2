"""A growing file on the box, mirrored byte for byte at home. The mirror's size is the place to go on from."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from provision.errors import ConnectionFailed
from provision.ssh.channel import CHUNK_BYTES, begin, lost_connection, wait_rc
from provision.ssh.line import Line

# Assumed: the writer is asked for after a silence of 1 s, then 2 s, up to 8 s; a question costs the box 10 ms of CPU.
QUIET_S = (1.0, 2.0, 4.0, 8.0)
LOOK_S = 10.0  # assumed: so often while it talks, too; one that is never silent would never be seen to have ended
REST_S = 60.0  # assumed: beyond the longest of these pauses by far
MAX_FRUITLESS = 5  # assumed: whoever follows asks again, and knows better whether the box is still there
MOST_LINE_BYTES = 1024 * 1024  # assumed: far longer than any line of ours (remote/telemetry.py)
MOST_MIRROR_BYTES = 1024**3  # assumed: four million events
MOST_REST_BYTES, MOST_REST_S = 64 * 1024 * 1024, 120.0  # assumed: what was not heard for a day; the result waits meanwhile

Tell = Callable[[str], object]  # to a person, in a sentence


def follow(line: Line, remote: str, local: Path, alive: Callable[[], bool], tell: Tell) -> Iterator[bytes]:
    """Complete lines, each once; see Shell.follow."""
    local.parent.mkdir(parents=True, exist_ok=True)
    local.touch()
    lines = _Lines(_torn(local), lambda: tell(f"A line of {remote} is longer than {MOST_LINE_BYTES:,} bytes, and passed over."))
    with local.open("ab") as mirror:
        for chunk in _bytes_from(line, remote, mirror.tell(), alive, tell):
            mirror.write(chunk)
            mirror.flush()
            yield from lines.ended_by(chunk)


class _Lines:
    """What comes, cut into lines: each byte is looked at once, and a line without an end is not kept."""

    def __init__(self, begun: bytes, tell: Callable[[], object]) -> None:
        self._tell: Callable[[], object] | None = tell
        self._parts: list[bytes] = []
        self._num_bytes = 0
        self._add(begun)

    def ended_by(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that end in it; one that is too long is told, the first time, and passed over."""
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            self._add(end)
            if self._num_bytes <= MOST_LINE_BYTES:
                yield b"".join(self._parts)
            self._parts, self._num_bytes = [], 0
        self._add(rest)

    def _add(self, piece: bytes) -> None:
        self._num_bytes += len(piece)
        if self._num_bytes <= MOST_LINE_BYTES:
            self._parts.append(piece)
            return
        self._parts = []
        if self._tell is not None:
            self._tell()
            self._tell = None


def _torn(local: Path) -> bytes:
    """What of its last line a mirror holds; of one that is too long as much as shows that."""
    with local.open("rb") as mirror:
        mirror.seek(max(0, mirror.seek(0, os.SEEK_END) - MOST_LINE_BYTES - 1))
        end = mirror.read()
    return end[end.rfind(b"\n") + 1 :]


def _bytes_from(line: Line, remote: str, offset: int, alive: Callable[[], bool], tell: Tell) -> Iterator[bytes]:
    """Every byte from `offset` on, across cuts, until the writer has ended; no more of them than a mirror may have."""
    writing, looked_at_s = True, time.monotonic()
    while writing and offset < MOST_MIRROR_BYTES:
        for chunk in _tail(line, remote, offset):
            if chunk:
                offset += len(chunk)
                yield chunk
            if offset >= MOST_MIRROR_BYTES:
                break
            if not chunk or time.monotonic() - looked_at_s >= LOOK_S:
                writing, looked_at_s = alive(), time.monotonic()
            if not writing:
                break
        else:  # cut off, or no file yet
            writing = alive()
    if writing:
        tell(f"{remote} is longer than {MOST_MIRROR_BYTES:,} bytes: what comes now stays there.")
        while alive():
            time.sleep(QUIET_S[-1])
        return
    yield from _rest(line, remote, offset, tell)


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


def _rest(line: Line, remote: str, offset: int, tell: Tell) -> Iterator[bytes]:
    """The bytes that came between the last one seen and the writer's end, across cuts, within a bound.

    Raises ConnectionFailed where a line that can be had brings nothing, again and again.
    """
    fruitless, most, ends_at_s = 0, offset + MOST_REST_BYTES, time.monotonic() + MOST_REST_S
    while fruitless < MAX_FRUITLESS:
        with (
            line.session() as channel,
            contextlib.suppress(TimeoutError, ConnectionFailed),
            lost_connection("the line was cut"),
        ):
            place = shlex.quote(remote)
            begin(channel, f"[ ! -f {place} ] || exec tail -c +{offset + 1} {place} 2>/dev/null", timeout_s=line.answer_s)
            channel.settimeout(REST_S)
            while chunk := channel.recv(CHUNK_BYTES):
                fruitless, offset = 0, offset + len(chunk)
                yield chunk
                if offset >= most or time.monotonic() >= ends_at_s:
                    tell(f"There is more of {remote} than is waited for after its end: what is left of it stays there.")
                    return
            wait_rc(channel, timeout_s=REST_S)
            return
        fruitless += 1
    raise ConnectionFailed(f"The end of {remote} did not come: the line broke {MAX_FRUITLESS} times before a byte.")
