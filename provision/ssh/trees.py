"""Folders as one tar stream: a file of its own costs three round trips, a tar entry none.

Links travel as what they lead to: the folder of a downloaded model is links into a store that the box does not have.
"""

from __future__ import annotations

import shlex
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from provision.errors import ConnectionFailed, TransferFailed
from provision.ssh.channel import begin, lost_connection, wait_rc
from provision.ssh.line import Line

if TYPE_CHECKING:
    import paramiko


STALL_S = 30.0  # assumed: a stream that moves nothing for so long is dead
BUFFER_BYTES = 1024 * 1024  # assumed: some chunks of the line

LeaveOut = Callable[[Path], bool]


class _Sink(Protocol):
    def write(self, data: bytes, /) -> int: ...


class _Writer:
    """The channel as the file that tarfile writes to."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def write(self, data: bytes) -> int:
        with lost_connection("the connection was lost in mid-transfer"):
            self._channel.sendall(data)
        return len(data)


def put_tree(line: Line, local: Path, remote: str, leave_out: LeaveOut) -> None:
    """Send a folder; see Shell.put_tree."""
    target = shlex.quote(remote)
    with line.session() as channel:
        try:
            begin(channel, f"{{ mkdir -p {target} && tar -xf - -C {target}; }} 2>&1", timeout_s=line.answer_s)
            channel.settimeout(STALL_S)
            _stream(channel, local, leave_out)
            with lost_connection("the connection was lost in mid-transfer"):
                channel.shutdown_write()
                said = channel.recv(BUFFER_BYTES)
                rc = wait_rc(channel, timeout_s=STALL_S)
        except TimeoutError as error:
            raise ConnectionFailed(f"{local} did not reach {line.box.host}: nothing moved for {STALL_S:.0f} s.") from error
    if rc != 0:
        raise TransferFailed(f"{line.box.host} could not unpack {local}: {said.decode(errors='replace').strip()}")


def _stream(channel: paramiko.Channel, local: Path, leave_out: LeaveOut) -> None:
    """Send all. A tar that stops reading because it has ended is no lost connection: its rc says why."""
    try:
        write_tar(_Writer(channel), local, leave_out)
    except ConnectionFailed:
        if channel.exit_status <= 0:
            raise


def write_tar(sink: _Sink, folder: Path, leave_out: LeaveOut = lambda _: False, *, prefix: str = ".", mode: str = "w|") -> None:
    """A folder as a tar stream: names sorted, owners and times dropped, so that equal folders give equal bytes.

    Raises TransferFailed for what can't be read.
    """
    with tarfile.open(mode=mode, fileobj=sink, bufsize=BUFFER_BYTES, dereference=True) as archive:  # type: ignore[call-overload]
        for path in (folder, *walk(folder, leave_out)):
            with _readable(path):
                archive.add(path, arcname=str(Path(prefix, path.relative_to(folder))), recursive=False, filter=_plain)


def walk(folder: Path, leave_out: LeaveOut = lambda _: False, *, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Everything below a folder, links followed, names sorted; what is left out is not entered.

    Raises TransferFailed for what can't be read, and for a link that leads nowhere, or back to a folder that it lies in.
    """
    above |= {folder.resolve()}
    with _readable(folder):
        held = sorted(folder.iterdir())
    for path in held:
        if leave_out(path):
            continue
        if path.is_symlink() and not path.exists():
            raise TransferFailed(f"{path} is a link that leads nowhere: to {path.readlink()}.")
        if path.resolve() in above:
            raise TransferFailed(f"{path} is a link that leads back to a folder that it lies in.")
        yield path
        if path.is_dir():
            yield from walk(path, leave_out, above=above)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    return entry


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except TimeoutError:  # the line's, on which the same statement writes
        raise
    except OSError as error:
        raise TransferFailed(f"{path} can't be read: {error.strerror or error}.") from error
