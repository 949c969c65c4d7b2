"""Our tags at clouds whose labels take fewer characters than AWS's tags: written so that they can be read back.

A byte that a cloud does not take becomes an underscore and its two hexadecimal digits; so does the underscore.
"""

from __future__ import annotations

import string
import urllib.parse
from typing import Final

from provision.errors import Refused

LETTERS: Final = string.ascii_letters + string.digits
SMALL_LETTERS: Final = string.ascii_lowercase + string.digits
BEFORE: Final = "0__"  # two underscores side by side stand in no escaped text
BEHIND: Final = "__0"


def escaped(text: str, plain: str) -> str:
    """The text in the letters of `plain` and underscores."""
    return "".join(letter if letter in plain else "".join(f"_{byte:02x}" for byte in letter.encode()) for letter in text)


def unescaped(text: str) -> str:
    """What `escaped` was given. Whatever somebody's hand wrote is read as well as it can be."""
    return urllib.parse.unquote(text.replace("_", "%"), errors="replace")


def label(text: str) -> str:
    """As Kubernetes and those after it take a label: up to 63 characters, a letter or digit first and last.

    Raises Refused for what is too long.
    """
    written = escaped(text, LETTERS + "-.")
    written = (BEFORE if written and written[0] not in LETTERS else "") + written
    written += BEHIND if written and written[-1] not in LETTERS else ""
    return shorter_than(64, written, text)


def from_label(written: str) -> str:
    """What `label` was given."""
    return unescaped(written.removeprefix(BEFORE).removesuffix(BEHIND))


def shorter_than(length: int, written: str, text: str) -> str:
    """The written text. Raises Refused where it is as long as that."""
    if len(written) < length:
        return written
    raise Refused(f"{text!r} is too long for a tag at this cloud.", hint=f"Written out it may have {length - 1} characters.")
