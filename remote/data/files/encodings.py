"""What a file is that is not UTF-8: told, never guessed at."""

from __future__ import annotations

import codecs
from typing import BinaryIO, Final

NEW_LINE: Final = b"\n"
START_BYTES: Final = 4096  # assumed: what a binary file has at its start tells it
BLOCK_BYTES: Final = 2**20
WIDE_START_BYTES: Final = 64  # assumed: as many tell it
# Byte-order marks (The Unicode Standard 16, section 23.8); the longer ones first, since they begin like the shorter
WIDE_MARKS: Final = ((b"\xff\xfe\0\0", "UTF-32"), (b"\0\0\xfe\xff", "UTF-32"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))
WIDE_UNMARKED: Final = ("UTF-32LE", "UTF-32BE", "UTF-16LE", "UTF-16BE")
# What files that are no rows begin with, as `file` tells them (PDF: ISO 32000-1, 7.5.2; ZIP: APPNOTE 4.3.7; ELF: System V gABI)
KINDS: Final = {
    b"%PDF-": "a PDF",
    b"PK\x03\x04": "a ZIP, as .docx and .xlsx are",
    b"\xd0\xcf\x11\xe0": "an Office document of before 2007, as .doc and .xls are",
    b"\x7fELF": "a program",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"SQLite format 3": "a SQLite database",
    b"\x1f\x8b": "packed by gzip, so its name ends with .gz",
    b"\x28\xb5\x2f\xfd": "packed by zstd, so its name ends with .zst",
    b"PAR1": "Parquet, so its name ends with .parquet",
    b"GGUF": "a base in GGUF",
}
CONTROLS_IN_TEXT: Final = frozenset("\t\n\v\f\r\x1a\x1b")  # what ends lines and pages, ends a file, sets colours


def wide_encoding(content: bytes) -> str | None:
    """As which of UTF-16 and UTF-32 the first bytes are text, by their mark or else by the zeros in them. The same rule is
    `catalogs.user_file.wide_encoding`.
    """
    first = content[:WIDE_START_BYTES]
    marked = [encoding for mark, encoding in WIDE_MARKS if first.startswith(mark)]
    return next((each for each in marked or WIDE_UNMARKED if (marked or b"\0" in first) and _reads_as(each, first)), None)


def _reads_as(encoding: str, start: bytes) -> bool:
    """Where a mark tells the encoding no control character stands there; else printed letters alone, the first in ASCII."""
    is_marked = encoding not in WIDE_UNMARKED
    text = codecs.getincrementaldecoder(encoding)("replace").decode(start)  # what is cut off at the end is left out

    def is_letter(letter: str) -> bool:
        return letter in CONTROLS_IN_TEXT or (letter >= " " if is_marked else letter.isprintable())

    return bool(text) and (is_marked or text[0].isascii()) and "\ufffd" not in text and all(map(is_letter, text))


def is_binary(start: bytes) -> bool:
    """Whether the first bytes of a file are no text's: byte by byte they hold control characters."""
    return any(letter < " " and letter not in CONTROLS_IN_TEXT for letter in start.decode("latin-1"))


def wide_words(name: str, encoding: str) -> str:
    """One sentence on a file in UTF-16 or UTF-32."""
    told_by = "the zeros in it say" if encoding in WIDE_UNMARKED else "its byte-order mark says"
    return f"{name} is {encoding}, as {told_by}; save it as UTF-8 (`iconv -f {encoding} -t UTF-8`)"


def what_it_is(name: str, file: BinaryIO) -> str:
    """One sentence on a file that could not be read as UTF-8: its encoding where that shows, else which byte is none."""
    start = file.read(START_BYTES)
    if (kind := next((kind for first, kind in KINDS.items() if start.startswith(first)), None)) is not None:
        return f"{name} is a binary file and no text: by its first bytes it is {kind}"
    if (encoding := wide_encoding(start)) is not None:
        return wide_words(name, encoding)
    if is_binary(start):
        return f"{name} is a binary file and no text"
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
