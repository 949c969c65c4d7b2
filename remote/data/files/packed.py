"""A file's bytes, unpacked where its name says that it is packed."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, Final

from remote.data.files.unreadable import UnreadableData

# assumed: as much as is read of a file that isn't packed (catalogs/user_file.py); a few bytes may unpack to terabytes
MAX_UNPACKED_BYTES: Final = 4 * 2**30


def _zstd(path: Path) -> BinaryIO:
    try:
        from pyarrow import input_stream  # it has zstd's own library; Python has it from 3.14 on
    except ImportError as error:
        raise UnreadableData(
            f"{path.name} is packed by zstd, which needs pyarrow, a part of the training stack;"
            " unpack it (`zstd -d`), or pack it by gzip"
        ) from error
    return io.BufferedReader(input_stream(str(path), compression="zstd"))


def _gzip(path: Path) -> BinaryIO:
    return gzip.open(path)  # type: ignore[return-value]


PACKED: Final[Mapping[str, Callable[[Path], BinaryIO]]] = {".gz": _gzip, ".zst": _zstd}


@contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO]:
    """The file, open to be read as bytes. Raises `UnreadableData` for one that is packed otherwise, or torn."""
    opened = PACKED.get(path.suffix.lower())
    if opened is None:
        with path.open("rb") as file:
            yield file
        return
    try:
        with opened(path) as file:
            yield io.BufferedReader(_Bounded(file, path.name))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UnreadableData(f"{path.name}: no whole file of {path.suffix} ({error})") from error


@contextmanager
def text_of(path: Path, *, newline: str | None = None) -> Iterator[IO[str]]:
    """The file as UTF-8 text, without a mark before it. Raises UnicodeDecodeError, where it is none."""
    with unpacked(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline=newline) as text:
        yield text


class _Bounded(io.RawIOBase):
    """Reads on until more came out than any file may hold."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name, self._left_bytes = file, name, MAX_UNPACKED_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, into: bytearray | memoryview, /) -> int:  # type: ignore[override]
        got = self._file.read(len(into))
        self._left_bytes -= len(got)
        if self._left_bytes < 0:
            most = f"{MAX_UNPACKED_BYTES:,} bytes, the most that is read"
            raise UnreadableData(f"{self._name} unpacks to more than {most}; split it, or take a part of it")
        into[: len(got)] = got
        return len(got)
