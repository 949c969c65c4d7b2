"""A file that a person names -> its bytes, text or JSON. Whatever lies there, the answer is a value or one sentence."""

from __future__ import annotations

import codecs
import errno
import stat
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

MIB: Final = 2**20
MAX_DATA_BYTES: Final = 4_096 * MIB  # assumed: a corpus above it is not read whole on the machine that plans
MAX_CONFIG_BYTES: Final = 16 * MIB  # assumed: a config.json has kilobytes; the longest known label maps stay below one MiB
MAX_CASES_BYTES: Final = 256 * MIB  # assumed: half a million estimate cases of half a kilobyte
MAX_JOB_BYTES: Final = 128 * 1024  # assumed: a job file has a page, and YAML is read at 100 kB/s
MAX_PLAN_BYTES: Final = 4 * MIB  # assumed: a saved plan has some kilobytes, `plan --json` of 500 offers a megabyte


class FileUnusable(Exception):
    """The file can't be used; `str(error)` follows the file's name: "is a folder"."""


class TooDeep(ValueError):
    """JSON nested beyond what any reader follows."""


def require_regular(path: Path) -> int:
    """The size of the file at `path` in bytes. Raises FileUnusable for what is no regular file: a pipe would never end."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise FileUnusable(f"can't be read: {reason_words(error)}") from None
    if stat.S_ISDIR(found.st_mode):
        raise FileUnusable("can't be read: it is a folder")
    if not stat.S_ISREG(found.st_mode):
        raise FileUnusable("can't be read: it is no regular file")
    return found.st_size


def reason_words(error: OSError | ValueError) -> str:
    """Why a file can't be read, without its name: of an OSError the system's words, but for a link in a circle."""
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return "it is a link that leads back to itself"
    return getattr(error, "strerror", None) or str(error)


def absent_words(path: Path) -> str:
    """What lies in the place of a file that is not there: nothing, or a link that leads nowhere."""
    try:
        path.stat()
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ELOOP:
            return "is a link that leads back to itself"
        if isinstance(error, FileNotFoundError) and is_link(path):
            return f"is a link to {shortened(str(path.readlink()))}, which is not there"
    return "is not there"


def read_bytes(path: Path, *, max_bytes: int) -> bytes:
    """The whole file. Raises FileUnusable."""
    num_bytes = require_regular(path)
    if num_bytes > max_bytes:
        raise FileUnusable(f"is too large: {num_bytes:,} bytes, at most {max_bytes:,} are read")
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileUnusable(f"can't be read: {error.strerror}") from None


def read_text(path: Path, *, max_bytes: int) -> str:
    """The whole file as UTF-8, without the mark that some editors put before it. Raises FileUnusable."""
    try:
        return require_no_wide_text(read_bytes(path, max_bytes=max_bytes)).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileUnusable(f"is not UTF-8 text (byte {error.start})") from None


WIDE_START_BYTES: Final = 64  # assumed: as many tell it
# Byte-order marks (The Unicode Standard 16, section 23.8); the longer ones first, since they begin like the shorter
WIDE_MARKS: Final = ((b"\xff\xfe\0\0", "UTF-32"), (b"\0\0\xfe\xff", "UTF-32"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))
WIDE_UNMARKED: Final = ("UTF-32LE", "UTF-32BE", "UTF-16LE", "UTF-16BE")
CONTROLS_IN_TEXT: Final = frozenset("\t\n\v\f\r\x1a\x1b")  # what ends lines and pages, ends a file, sets colours


def require_no_wide_text(content: bytes) -> bytes:
    """The same bytes. Raises FileUnusable for UTF-16 and UTF-32, as some shells save text: line by line it is noise. A binary
    file is none of these.
    """
    if wide_encoding(content) is not None:
        raise FileUnusable("is UTF-16 or UTF-32 text; save it as UTF-8")
    return content


def wide_encoding(content: bytes) -> str | None:
    """As which of UTF-16 and UTF-32 the first bytes are text, by their mark or else by the zeros in them. The box has the same
    rule, `remote.data.files.encodings.wide_encoding`.
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


def read_stream(stream: BinaryIO, *, max_bytes: int) -> bytes:
    """All that a pipe holds. Raises FileUnusable as soon as it is more than `max_bytes`: it may never end."""
    try:
        content = stream.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        raise FileUnusable(f"can't be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > max_bytes:
        raise FileUnusable(f"is too large: at most {max_bytes:,} bytes are read")
    return content


def decode_json(text: str | bytes) -> Any:
    """What a JSON text says. Raises ValueError with a sentence, for endless nesting, too."""
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise TooDeep("it is nested too deep") from None


def decode_object(text: str | bytes) -> Any:
    """The same, of text in which no object says a key twice: of two values one would be dropped in silence."""
    import json  # only where cases are read: it costs start-up time

    value = decode_json(text)
    json.loads(text, object_pairs_hook=_unique)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for key, value in pairs:
        if key in read:
            raise ValueError(f'it says "{shortened(key)}" twice')
        read[key] = value
    return read


def exists(path: Path) -> bool:
    """Whether anything lies at `path`; a name that no file can have is no file."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_link(path: Path) -> bool:
    """Whether a link lies at `path`, wherever it leads; a name that no file can have is none."""
    try:
        return path.is_symlink()
    except (OSError, ValueError):
        return False


def expanded(name: str) -> Path:
    """The path that a person wrote, with "~" as the home folder where there is one."""
    try:
        return Path(name).expanduser()
    except RuntimeError:  # a home folder that nobody has
        return Path(name)


MAX_SHOWN: Final = 120


def shortened(name: str) -> str:
    """A name as a sentence can hold it: not too long, and what can't be printed by its number."""
    shown = printable(name[:MAX_SHOWN])
    return shown if len(name) <= MAX_SHOWN else f"{shown}…"


def as_said(name: str) -> str:
    """A name that somebody typed, as a sentence can hold it; an empty one in quotes, for nothing would stand there."""
    return shortened(name) or "''"


def printable(text: str) -> str:
    """What can't be printed by its number: a terminal obeys an escape, and a new line looks like another sentence."""
    return text if text.isprintable() else "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
