"""A file of lines that is only appended to: what is made of them is made on with those that are new.

One that was put in its place, cut off or written over is read anew, and so is one with a line that belongs before others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Generic, TypeVar

T = TypeVar("T")

TAIL_BYTES: Final = 4096  # assumed: what was written over the file differs there, for each line says its run and its moment


@dataclass(frozen=True)
class Read(Generic[T]):
    """What was made of a file's lines up to a place in it."""

    made: T
    file: tuple[int, int] | None = None  # device and inode; None = there was none
    num_bytes: int = 0
    tail: bytes = b""  # of these bytes the last ones, by which a file that was written over is known


class Grown(Generic[T]):
    """Guards what was made so far. Threads may look at once: each goes on from a value that is whole.

    `nothing`: what no line makes. `more`: the same with further lines; None where one of them belongs before one that is in it,
    which never is where all lines are new to `nothing`.
    """

    def __init__(self, path: Path, nothing: T, more: Callable[[T, Sequence[bytes]], T | None]) -> None:
        self._path = path
        self._nothing = nothing
        self._more = more
        self._whole = Read(nothing)  # up to the last line that is whole
        self._all = Read(nothing)  # with what stands behind that

    def look(self) -> T:
        """What the file's lines make now. Raises OSError."""
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return self._nothing
        seen = self._all
        if seen.file == _number_of(there) and seen.num_bytes == there.st_size:
            return seen.made
        with self._path.open("rb") as file:
            return self._read_on(file).made

    def _read_on(self, file: BinaryIO) -> Read[T]:
        known, number = self._whole, _number_of(os.fstat(file.fileno()))
        read = self._after(known, file) if _has_grown(file, known, number) else None
        self._whole, self._all = read or self._from_the_beginning(number, file)
        return self._all

    def _after(self, known: Read[T], file: BinaryIO) -> tuple[Read[T], Read[T]] | None:
        """Up to the last line that is whole, and with what stands behind it; None where a line is out of its place."""
        lines, rest = _parted(file, known.num_bytes)
        whole = self._with(known, lines)
        seen = self._with(whole, rest) if whole else None
        return (whole, seen) if whole and seen else None

    def _from_the_beginning(self, number: tuple[int, int], file: BinaryIO) -> tuple[Read[T], Read[T]]:
        lines, rest = _parted(file, 0)
        nothing = Read(self._nothing, file=number)
        whole = self._with(nothing, lines) or nothing
        return whole, self._with(nothing, lines + rest) or whole if rest else whole

    def _with(self, known: Read[T], text: bytes) -> Read[T] | None:
        made = self._more(known.made, tuple(filter(None, text.split(b"\n"))))
        if made is None:
            return None
        tail = (known.tail + text[-TAIL_BYTES:])[-TAIL_BYTES:]
        return Read(made, file=known.file, num_bytes=known.num_bytes + len(text), tail=tail)


def _parted(file: BinaryIO, begins_at: int) -> tuple[bytes, bytes]:
    """From there on, lines that are whole, and what stands behind the last of them."""
    file.seek(begins_at)
    lines, newline, rest = file.read().rpartition(b"\n")
    return lines + newline, rest


def _number_of(there: os.stat_result) -> tuple[int, int]:
    return there.st_dev, there.st_ino


def _has_grown(file: BinaryIO, known: Read[T], number: tuple[int, int]) -> bool:
    """Whether it is the same file, and what was read of it stands there."""
    begins_at = known.num_bytes - len(known.tail)
    return known.file == number and os.pread(file.fileno(), len(known.tail), begins_at) == known.tail
