"""A file in pieces, and a download that is not whole yet."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from provision.errors import TransferFailed
from provision.ssh.channel import CHUNK_BYTES

PIECE_BYTES = 16 * 1024 * 1024  # assumed: little to send again; a multiple of BLOCK_BYTES
BLOCK_BYTES = 64 * 1024  # assumed: dd's unit on the box

Piece = tuple[int, int]  # offset, length in bytes


def pieces(size_bytes: int) -> list[Piece]:
    """Cut a file: consecutive, complete, none larger than PIECE_BYTES."""
    return [(offset, min(PIECE_BYTES, size_bytes - offset)) for offset in range(0, size_bytes, PIECE_BYTES)]


def read_piece(file: BinaryIO, piece: Piece) -> Iterator[memoryview]:
    """The piece in chunks. Raises TransferFailed when the file has become shorter."""
    offset, left = piece
    file.seek(offset)
    while left:
        chunk = file.read(min(CHUNK_BYTES, left))
        if not chunk:
            raise TransferFailed(f"{file.name} became shorter while it was being read.")
        left -= len(chunk)
        yield memoryview(chunk)


def sha256_of_pieces(path: Path, size_bytes: int, before: Callable[[Piece], None]) -> str:
    """Hash a file piece by piece. `before` each it may wait for the piece, or raise where nobody wants the hash any more."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for piece in pieces(size_bytes):
            before(piece)
            for chunk in read_piece(file, piece):
                digest.update(chunk)
    return digest.hexdigest()


class Part:
    """A download that is not whole yet: `LOCAL.part`, and beside it which file it will be and the pieces that it holds."""

    def __init__(self, local: Path, size_bytes: int, sha256: str | None) -> None:
        self._local = local
        self._size_bytes = size_bytes
        self.path = local.with_name(f"{local.name}.part")
        self._log = local.with_name(f"{local.name}.part.pieces")
        header = f"{size_bytes} {sha256 or 'any'}\n"
        noted = self._log.read_text().splitlines(keepends=True) if self._log.exists() and self.path.exists() else []
        # With its newline: half a number may be the number of another piece.
        self.done = {piece for piece in pieces(size_bytes) if f"{piece[0]}\n" in noted} if noted[:1] == [header] else set()
        self._changed = threading.Condition()
        self._abandoned = False
        if not self.done:
            self._log.write_text(header)
            with self.path.open("wb") as file:
                file.truncate(size_bytes)

    def add(self, piece: Piece) -> None:
        with self._changed:
            with self._log.open("a") as log:
                log.write(f"{piece[0]}\n")
            self.done.add(piece)
            self._changed.notify_all()

    def sha256(self) -> str:
        """Hash the pieces in their order while they arrive. Raises TransferFailed once the download is abandoned."""
        return sha256_of_pieces(self.path, self._size_bytes, self._await)

    def _await(self, piece: Piece) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._abandoned or piece in self.done)
            if self._abandoned:
                raise TransferFailed(f"{self._local} did not come home: its download was abandoned.")

    def abandon(self) -> None:
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    def remove(self) -> None:
        self.path.unlink()
        self._log.unlink()

    def finish(self) -> None:
        self.path.replace(self._local)
        self._log.unlink()
