"""TensorBoard's own file, written without its library, which is none of the box's packages: frames around protocol buffers.

The format: tensorboard/compat/proto/{event,summary}.proto and TensorFlow's record_writer.cc. A frame is the length, a
checksum of it, the message, a checksum of that; checksums are CRC-32C, turned and shifted, so that frames within frames differ.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

POLYNOMIAL: Final = 0x82F63B78  # derived: CRC-32C (Castagnoli), reflected
MASK: Final = 0xA282EAD8  # derived: kMaskDelta of TensorFlow's crc32c.h
WORD: Final = 0xFFFFFFFF
VERSION: Final = b"brain.Event:2"

# Fields of the messages, and how each is written: a varint, eight bytes, bytes with their length, four bytes.
VARINT, EIGHT, BYTES, FOUR = 0, 1, 2, 5
WALL_TIME, STEP, FILE_VERSION, SUMMARY, SESSION = 1, 2, 3, 5, 7  # of an Event
VALUE, TAG, SIMPLE_VALUE = 1, 1, 2  # of a Summary, and of a value in it
STATUS, START = 1, 1  # of a SessionLog: what was shown of this step and later ones by a start that was killed is dropped


class Board:
    """Guards one file of events below `folder`; every start of a run writes its own."""

    def __init__(self, folder: Path, _run_id: str, step: int, *, clock: Callable[[], float] = time.time) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        number = len(list(folder.iterdir()))  # files are read in the order of their names
        self._file = (folder / f"events.out.tfevents.{int(clock()):010d}.{number:04d}").open("wb")
        self._write(_field(FILE_VERSION, BYTES, VERSION), step=0)
        self._write(_field(SESSION, BYTES, _field(STATUS, VARINT, START)), step=step)

    def show(self, step: int, figures: Mapping[str, float]) -> None:
        values = (
            _field(VALUE, BYTES, _field(TAG, BYTES, tag.encode()) + _field(SIMPLE_VALUE, FOUR, value))
            for tag, value in figures.items()
        )
        self._write(_field(SUMMARY, BYTES, b"".join(values)), step=step)

    def close(self) -> None:
        self._file.close()

    def _write(self, what: bytes, *, step: int) -> None:
        message = _field(WALL_TIME, EIGHT, self._clock()) + (_field(STEP, VARINT, step) if step else b"") + what
        length = struct.pack("<Q", len(message))
        self._file.write(length + _checksum(length) + message + _checksum(message))
        self._file.flush()  # somebody may be looking, and a kill may come


def _field(number: int, kind: int, value: float | bytes) -> bytes:
    return _varint(number << 3 | kind) + _WRITTEN[kind](value)


def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


_WRITTEN: Final[Mapping[int, Callable[..., bytes]]] = {
    VARINT: _varint,
    EIGHT: lambda value: struct.pack("<d", value),
    BYTES: lambda value: _varint(len(value)) + value,
    FOUR: lambda value: struct.pack("<f", value),
}


def _row(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ POLYNOMIAL * (byte & 1)
    return byte


_ROWS: Final = tuple(map(_row, range(256)))


def _checksum(data: bytes) -> bytes:
    crc = WORD
    for byte in data:
        crc = _ROWS[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= WORD
    return struct.pack("<I", ((crc >> 15 | crc << 17) + MASK) & WORD)
