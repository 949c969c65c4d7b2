"""What a file is that is not UTF-8: told, never guessed at."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from typing import BinaryIO, Final

NEW_LINE: Final = b"\n"
START_BYTES: Final = 4096  # assumed: what a binary file has at its start tells it
BLOCK_BYTES: Final = 2**20
# Byte-order marks (The Unicode Standard 16, section 23.8); the longer ones first, since they begin like the shorter.
MARKS: Final[Mapping[bytes, str]] = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


LINE_ENDS: Final = frozenset("\t\n\v\f\r\x1a\x1b")  # below a blank, and in texts all the same


def is_binary(start: bytes) -> bool:
    """Whether the first bytes of a file are no text's: read by its mark, else byte by byte, they hold control characters. So
    does text in UTF-16 without a mark, which can't be told from that.
    """
    encoding = next((encoding for mark, encoding in MARKS.items() if start.startswith(mark)), "latin-1")
    text = start[: len(start) // 4 * 4].decode(encoding, errors="replace")
    return "\ufffd" in text or any(letter < " " and letter not in LINE_ENDS for letter in text)


def what_it_is(name: str, file: BinaryIO) -> str:
    """One sentence on a file that could not be read as UTF-8: its encoding by its mark, else the first byte that is none."""
    start = file.read(START_BYTES)
    if is_binary(start):
        return f"{name} is a binary file and no text, or UTF-16 without a byte-order mark, which is saved as UTF-8"
    for mark, encoding in MARKS.items():
        if start.startswith(mark):
            return f"{name} is {encoding}, as its byte-order mark says; save it as UTF-8 (`iconv -f {encoding} -t UTF-8`)"
    line, byte = _first_that_is_none(start, file)
    where = f"{name}:{line}" if line else name  # the file has changed since
    return (
        f"{where}: not UTF-8 text{byte}; save it as UTF-8"
        " (`iconv -f ENCODING -t UTF-8`; spreadsheets on Windows write WINDOWS-1252)"
    )


def _first_that_is_none(start: bytes, file: BinaryIO) -> tuple[int | None, str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    line, block, ended = 1, start, False
    while not ended:
        ended = not block
        kept = decoder.getstate()[0]
        try:
            decoder.decode(block, final=ended)
        except UnicodeDecodeError as error:
            whole = kept + block
            return line + whole[: error.start].count(NEW_LINE), f" (byte {whole[error.start]:#04x})"
        line += block.count(NEW_LINE)
        block = file.read(BLOCK_BYTES)
    return None, ""
