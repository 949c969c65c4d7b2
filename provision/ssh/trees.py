"""Folders as one tar stream: a file of its own costs three round trips, a tar entry none."""

from __future__ import annotations

import fnmatch
import shlex
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from provision.errors import ConnectionFailed, TransferFailed
from provision.ssh.channel import begin, lost_connection, wait_rc

if TYPE_CHECKING:
    import paramiko

    from provision.ssh.shell import Shell

STALL_S = 30.0  # assumed: a stream that moves nothing for so long is dead
BUFFER_BYTES = 1024 * 1024


class _Sink(Protocol):
    def write(self, data: bytes, /) -> int: ...


class _Writer:
    """The channel as the file that tarfile writes to."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def write(self, data: bytes) -> int:
        self._channel.sendall(data)
        return len(data)


class _Reader:
    """The channel as the file that tarfile reads from."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def read(self, size: int) -> bytes:
        return bytes(self._channel.recv(size))


def put_tree(shell: Shell, local: Path, remote: str, exclude: Sequence[str]) -> None:
    """Send a folder; see Shell.put_tree."""
    target = shlex.quote(remote)
    with shell.session() as channel:
        try:
            with lost_connection("the connection was lost in mid-transfer"):
                begin(channel, f"mkdir -p {target} && tar -xf - -C {target} 2>&1", timeout_s=shell.answer_s)
                channel.settimeout(STALL_S)
                write_tar(_Writer(channel), local, exclude)
                channel.shutdown_write()
                said = channel.recv(BUFFER_BYTES)
                rc = wait_rc(channel, timeout_s=STALL_S)
        except (TimeoutError, ConnectionFailed) as error:
            raise TransferFailed(f"{local} did not reach {shell.box.host}: {_reason(error)}") from error
    if rc != 0:
        raise TransferFailed(f"{shell.box.host} could not unpack {local}: {said.decode(errors='replace').strip()}")


def get_tree(shell: Shell, remote: str, local: Path) -> None:
    """Bring a folder home; see Shell.get_tree."""
    local.mkdir(parents=True, exist_ok=True)
    with shell.session() as channel:
        try:
            with lost_connection("the connection was lost in mid-transfer"):
                begin(channel, f"tar -cf - -C {shlex.quote(remote)} .", timeout_s=shell.answer_s)
                channel.settimeout(STALL_S)
                with tarfile.open(mode="r|", fileobj=_Reader(channel), bufsize=BUFFER_BYTES) as archive:  # type: ignore[call-overload]
                    archive.extractall(local, filter="data")  # refuses what would leave the folder
                rc = wait_rc(channel, timeout_s=STALL_S)
        except (TimeoutError, ConnectionFailed, tarfile.TarError) as error:
            raise TransferFailed(f"{remote} did not come home from {shell.box.host}: {_reason(error)}") from error
    if rc != 0:
        raise TransferFailed(f"{shell.box.host} could not read all of {remote} (tar ended with {rc}).")


def _reason(error: Exception) -> str:
    return str(error) or f"nothing moved for {STALL_S:.0f} s."


def write_tar(sink: _Sink, folder: Path, exclude: Sequence[str] = (), *, prefix: str = ".", mode: str = "w|") -> None:
    """A folder as a tar stream: names sorted, owners and times dropped, so that equal folders give equal bytes."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if any(fnmatch.fnmatch(Path(entry.name).name, pattern) for pattern in exclude):
            return None
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mtime = 0
        return entry

    with tarfile.open(mode=mode, fileobj=sink, bufsize=BUFFER_BYTES) as archive:  # type: ignore[call-overload]
        archive.add(folder, arcname=prefix, filter=plain)  # tarfile sorts names
