"""What every value that crosses the border has: a frozen base, bounds for what is told, one way in and out of JSON."""

from __future__ import annotations

from typing import Annotated, Final, TypeVar

import msgspec

SCHEMA_VERSION: Final = 1


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every value that crosses a border: immutable, named fields, unknown fields ignored on reading."""


# Whoever reads what a box says adds it up, makes whole numbers of it and writes it down again: none of that fails within these.
MOST: Final = 2**53  # derived: as far as a float tells each whole number from the next; 9 PB, or 285 million years
Count = Annotated[int, msgspec.Meta(ge=0, le=MOST)]
Measure = Annotated[float, msgspec.Meta(ge=0, le=MOST)]
Signed = Annotated[float, msgspec.Meta(ge=-MOST, le=MOST)]
# Of a file, relative to a folder, and in it.
PathBelow = Annotated[
    str, msgspec.Meta(pattern=r"^(?!/)(?!(?:.*/)?\.{1,2}(?:/|$))[^\x00-\x1f\x7f]+(?![\s\S])", max_length=1024)
]

T = TypeVar("T")

_encoder = msgspec.json.Encoder()


def encode(value: Value) -> bytes:
    """One line of JSON, without the newline."""
    return _encoder.encode(value)


def decode(data: bytes | str, kind: type[T]) -> T:
    """Read a value: the one door for bytes that may be damaged.

    Raises `msgspec.DecodeError` whatever is wrong with them; as `msgspec.ValidationError` with the path (`$.strategy.rank`).
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(f"no JSON that can be read: {error}") from None
