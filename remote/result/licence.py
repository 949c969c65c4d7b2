"""The licence of the base model, where its files tell one: whoever publishes a result must know it."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from remote.contract import ModelSource

# GGUF, versions 2 and 3, little-endian: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The gguf package reads
# every token of the vocabulary first, which takes 10 s (measured with SmolLM2's 49,152 tokens, 2026-11).
MAGIC: Final = b"GGUF"
KEY: Final = "general.license"
STRING, ARRAY = 8, 9
SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
FRONT_MATTER: Final = re.compile(r"\A---\n(.*?)\n---", re.DOTALL)
LINE: Final = re.compile(r"^license:\s*[\"']?([\w.+-]+)", re.MULTILINE)


def licence_of(source: ModelSource) -> str | None:
    """The word that model hubs use for it, such as "apache-2.0"; None where the files do not say."""
    return _READERS.get(source.kind, _nowhere)(source)


def _nowhere(_source: ModelSource) -> None:
    return None


def _of_folder(source: ModelSource) -> str | None:
    card = Path(source.location) / "README.md"
    front = FRONT_MATTER.match(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else None
    named = LINE.search(front[1]) if front else None
    return named[1] if named else None


def _of_gguf(source: ModelSource) -> str | None:
    """From the head of the file. One that is damaged says nothing: its weights were read by others before."""
    with Path(source.location).open("rb") as file:
        try:
            return _gguf_licence(file)
        except (struct.error, KeyError, UnicodeDecodeError, OverflowError, MemoryError):
            return None


_READERS: Final[Mapping[str, Callable[[ModelSource], str | None]]] = {"folder": _of_folder, "gguf": _of_gguf}


def _gguf_licence(file: BinaryIO) -> str | None:
    if file.read(len(MAGIC)) != MAGIC:
        return None
    _take(file, "I")  # version
    _take(file, "Q")  # tensors
    for _ in range(_take(file, "Q")):
        key, kind = _text(file), _take(file, "I")
        if key == KEY and kind == STRING:
            return _text(file)
        if kind == ARRAY and not key.startswith("general."):
            return None  # what describes the model as a whole stands before the vocabulary
        _skip(file, kind)
    return None


def _skip(file: BinaryIO, kind: int) -> None:
    if kind == STRING:
        _text(file)
    elif kind == ARRAY:
        of, count = _take(file, "I"), _take(file, "Q")
        for _ in range(count):
            _skip(file, of)
    else:
        _take(file, SCALARS[kind])


def _text(file: BinaryIO) -> str:
    return file.read(_take(file, "Q")).decode()


def _take(file: BinaryIO, code: str) -> Any:
    (value,) = struct.unpack("<" + code, file.read(struct.calcsize("<" + code)))
    return value
