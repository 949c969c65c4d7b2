"""Files there and back: in pieces over several channels of one connection, hashed on both sides.

One channel moves at most its window (2 MiB) per round trip, so a long line is filled by four. Pieces are what a cut
costs at most, and what a resumed download keeps. Names on the box are moved into place only after the hash agreed.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from provision.errors import ConnectionFailed, Spoilt, TransferFailed, WrongHostKey
from provision.home.whole import at_home
from provision.ssh.channel import CHUNK_BYTES, Flooded, Unreachable, begin, lost_connection, wait_rc
from provision.ssh.line import Line
from provision.ssh.pieces import BLOCK_BYTES, Part, Piece, pieces, read_piece, sha256_of_pieces

if TYPE_CHECKING:
    import paramiko


Progress = Callable[[int, int], None]  # bytes done, bytes in all

NUM_CHANNELS = 4  # measured at 60 ms round trip: 18 MB/s up and 22 down with one, 40 and 43 with four, no more with eight
STALL_S = 30.0  # assumed: a channel that moves nothing for so long is dead
FETCHES = 2  # assumed: of a file whose pieces don't make it up
ATTEMPTS = 5  # assumed: per piece, each within the shell's patience
HASH_TIMEOUT_S = 900.0  # assumed: 100 GB at 120 MB/s

SIZE: Final = re.compile("[0-9]{1,16}")  # derived: up to 9 PB
MODE: Final = re.compile("[0-9a-f]{1,8}")  # derived: of 32 bits

T = TypeVar("T")


def put(line: Line, local: Path, remote: str, progress: Progress | None) -> str:
    """Send `local`; see Shell.put."""
    size = _readable_bytes(local)
    folder, place, part = (shlex.quote(path) for path in (str(Path(remote).parent), remote, f"{remote}.part"))
    complaint = f"{remote} can't be written"
    _checked(line, f"mkdir -p {folder} && : > {part}", complaint)
    meter = _Meter(size, progress)
    with ThreadPoolExecutor(1) as hasher, _stoppable(line) as stop:
        digest = hasher.submit(sha256_of_pieces, local, size, lambda _: _require_wanted(local, stop))
        _each_piece(pieces(size), lambda piece: _send_piece(line, local, f"{remote}.part", piece, meter, stop), stop)
        sha256 = digest.result()
    arrived = sha256_there(line, f"{remote}.part")
    if arrived != sha256:
        line.run(f"rm -f {part}")
        raise TransferFailed(f"{local} arrived damaged at {line.box.host} (sha256 {arrived[:12]}… instead of {sha256[:12]}…).")
    _checked(line, f"[ ! -e {part} ] || mv {part} {place}", complaint)
    return sha256


def get(line: Line, remote: str, local: Path, sha256: str | None, num_bytes: int | None, progress: Progress | None) -> str:
    """Fetch `remote`; see Shell.get. What a killed download left in `LOCAL.part` is kept, piece by piece.

    Pieces that are kept may be another file's, or never have reached the disk: where they don't make up the box's file,
    all of it is fetched once more. Raises HomeFailed where this machine can't take it.
    """
    size = _remote_size(line, remote, num_bytes)
    with at_home(local):
        return _get(line, remote, local, size, sha256, progress)


def _remote_size(line: Line, remote: str, wanted: int | None) -> int:
    """Of a file. Raises TransferFailed for what has no end, such as a device, and for one of another size."""
    complaint = f"{remote} can't be read"
    said = _checked(line, f"stat -L -c '%s %f' {shlex.quote(remote)}", complaint)
    match said.split():
        case [size, mode] if SIZE.fullmatch(size) and MODE.fullmatch(mode):
            num_bytes, is_file = int(size), stat.S_ISREG(int(mode, 16))
        case _:
            raise TransferFailed(f"{complaint} on {line.box.host}: it does not say how long that is.")
    if not is_file:
        raise Spoilt(f"{complaint} on {line.box.host}: it is no file.")
    if num_bytes != (wanted if wanted is not None else num_bytes):
        raise Spoilt(f"{remote} on {line.box.host} has {num_bytes:,} bytes instead of {wanted:,}.")
    return num_bytes


def _get(line: Line, remote: str, local: Path, size: int, sha256: str | None, progress: Progress | None) -> str:
    """As `get`, for a file whose size is known. Raises OSError where this machine can't take it."""
    local.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(FETCHES):
        part = Part(local, size, sha256)
        home, sent = _fetch(line, remote, part, size, progress)
        if home == sent == (sha256 or sent):
            part.finish()
            return home
        part.remove()
        if sha256 and sent != sha256:
            raise Spoilt(f"{remote} is damaged on {line.box.host} (sha256 {sent[:12]}… instead of {sha256:.12}…).")
    raise TransferFailed(f"{remote} came home damaged {FETCHES} times (sha256 {home[:12]}… instead of {sent[:12]}…).")


def _fetch(line: Line, remote: str, part: Part, size: int, progress: Progress | None) -> tuple[str, str]:
    """Fetch the pieces that are missing; the sha256 of what is at home, and of what the box holds."""
    meter = _Meter(size, progress)
    meter.add(sum(length for _, length in part.done))
    missing = [piece for piece in pieces(size) if piece not in part.done]
    with ThreadPoolExecutor(2) as hashers, _stoppable(line, part.abandon) as stop:
        theirs = hashers.submit(sha256_there, line, remote, stop)
        ours = hashers.submit(part.sha256)
        _each_piece(missing, lambda piece: _fetch_piece(line, remote, part, piece, meter, stop), stop)
        return ours.result(), theirs.result()


def _readable_bytes(local: Path) -> int:
    try:
        with local.open("rb") as file:
            return file.seek(0, os.SEEK_END)
    except OSError as error:
        raise TransferFailed(f"{local} can't be read: {error.strerror or error}.") from error


class _Meter:
    """Adds up what several threads have moved."""

    def __init__(self, total_bytes: int, progress: Progress | None) -> None:
        self._lock = threading.Lock()
        self._done_bytes = 0
        self._total_bytes = total_bytes
        self._progress = progress

    def add(self, num_bytes: int) -> None:
        with self._lock:
            self._done_bytes += num_bytes
            if self._progress:
                self._progress(self._done_bytes, self._total_bytes)


@contextmanager
def _stoppable(line: Line, abandon: Callable[[], None] = lambda: None) -> Iterator[threading.Event]:
    """An event that stops all threads of a transfer; a failure or Ctrl-C sets it, and hangs up on those that wait."""
    stop = threading.Event()
    try:
        yield stop
    except BaseException:
        stop.set()
        abandon()
        line.hang_up()
        raise


def _require_wanted(local: Path, stop: threading.Event) -> None:
    if stop.is_set():
        raise TransferFailed(f"{local} was not sent: its transfer was given up.")


def _each_piece(todo: list[Piece], move: Callable[[Piece], None], stop: threading.Event) -> None:
    """Move all pieces, NUM_CHANNELS at a time."""
    pool = ThreadPoolExecutor(NUM_CHANNELS)
    moves: list[Future[None]] = [pool.submit(_persist, lambda piece=piece: move(piece), stop) for piece in todo]
    try:
        for each in moves:
            each.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _persist(act: Callable[[], T], stop: threading.Event | None = None) -> T:
    """Do what may be done again until the line holds. Raises ConnectionFailed when it breaks ATTEMPTS times."""
    attempt = 1
    while True:
        try:
            return act()
        except (WrongHostKey, Unreachable, Flooded):
            raise
        except ConnectionFailed as error:
            if attempt == ATTEMPTS or (stop and stop.is_set()):
                raise ConnectionFailed(f"The connection broke {attempt} times over one piece of work: {error}") from error
        attempt += 1


def _send_piece(line: Line, local: Path, part: str, piece: Piece, meter: _Meter, stop: threading.Event) -> None:
    seek = piece[0] // BLOCK_BYTES
    command = f"dd of={shlex.quote(part)} bs={BLOCK_BYTES} seek={seek} conv=notrunc iflag=fullblock status=none 2>&1"
    with line.session() as channel, local.open("rb") as file, _stalls():
        begin(channel, command, timeout_s=line.answer_s)
        channel.settimeout(STALL_S)
        _feed(channel, read_piece(file, piece), stop)
        if stop.is_set():
            return
        said = channel.recv(CHUNK_BYTES)
        if wait_rc(channel, timeout_s=STALL_S) != 0:
            raise TransferFailed(f"{line.box.host} could not store {part}: {_last_line(said)}.")
    meter.add(piece[1])


def _feed(channel: paramiko.Channel, chunks: Iterator[memoryview], stop: threading.Event) -> None:
    """Send all. A reader that stops reading because it has ended is no lost connection: its rc says why."""
    try:
        for chunk in chunks:
            if stop.is_set():
                return
            channel.sendall(chunk)
        channel.shutdown_write()
    except TimeoutError:
        raise
    except OSError:
        if channel.exit_status <= 0:
            raise


def _fetch_piece(line: Line, remote: str, part: Part, piece: Piece, meter: _Meter, stop: threading.Event) -> None:
    offset, length = piece
    with line.session() as channel, part.path.open("r+b") as file:
        with _stalls():
            begin(channel, f"tail -c +{offset + 1} {shlex.quote(remote)} | head -c {length}", timeout_s=line.answer_s)
            channel.settimeout(STALL_S)
        file.seek(offset)
        got = 0
        for chunk in _received(channel, stop):
            got += len(chunk)
            if got > length:
                raise TransferFailed(f"{line.box.host} sent more of {remote} than was asked for.")
            file.write(chunk)
    if stop.is_set():
        return
    if got != length:
        raise ConnectionFailed(f"a piece of {remote} ended after {got} of {length} bytes.")
    part.add(piece)
    meter.add(length)


def _received(channel: paramiko.Channel, stop: threading.Event) -> Iterator[bytes]:
    """What the box sends. Only its own failures are the line's: whoever stores the chunks fails outside."""
    while not stop.is_set():
        with _stalls():
            chunk = channel.recv(CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


@contextmanager
def _stalls() -> Iterator[None]:
    try:
        with lost_connection("the connection was lost in mid-transfer"):
            yield
    except TimeoutError as error:
        raise ConnectionFailed(f"nothing moved for {STALL_S:.0f} s.") from error


def sha256_there(line: Line, remote: str, stop: threading.Event | None = None) -> str:
    """Of a file, by the box's own tools. Raises TransferFailed where it can't be read, or ConnectionFailed."""
    # openssl first: it uses the CPU's SHA instructions, coreutils mostly doesn't (measured: 600 MB/s against 240).
    place = shlex.quote(remote)
    command = f"openssl dgst -sha256 -r < {place} 2>/dev/null || sha256sum < {place}"
    return _checked(line, command, f"{remote} can't be read", timeout_s=HASH_TIMEOUT_S, stop=stop).split()[0]


def _checked(line: Line, command: str, complaint: str, *, timeout_s: float = 60.0, stop: threading.Event | None = None) -> str:
    """What a command says that may be run again."""
    done = _persist(lambda: line.run(command, timeout_s=timeout_s), stop)
    if done.rc != 0:
        raise TransferFailed(f"{complaint} on {line.box.host}: {_last_line(done.err.encode())}.")
    return done.out


def _last_line(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1].rstrip(".") if lines else "no reason given"
