"""The head of a GGUF file -> the keys of a transformers config. Weights are not read.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any, Final

from catalogs.user_file import FileUnusable, require_regular

MAGIC: Final = b"GGUF"
# what lengths beyond the file and numbers of another kind lead to
DAMAGE: Final = (struct.error, KeyError, ValueError, IndexError, OverflowError, TypeError, ZeroDivisionError)
ALIGNMENT: Final = 32  # bytes, of where tensors begin; the format's default
_STRING, _ARRAY = 8, 9
_SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

MODEL_TYPES: Final[dict[str, str]] = {  # general.architecture -> transformers' model_type
    "llama": "llama",
    "mistral": "mistral",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
    "phi3": "phi3",
    "granite": "granite",
    "olmo2": "olmo2",
    "smollm3": "smollm3",
}
CONFIG_KEYS: Final[dict[str, str]] = {  # after "<architecture>." -> key of a transformers config
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "context_length": "max_position_embeddings",
    "vocab_size": "vocab_size",
}


class GgufUnreadable(Exception):
    """Not a GGUF file, or one whose architecture has no transformers counterpart here."""


class _Cursor:
    """A place in the mapped file that moves on as values are read."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0

    def take(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def skip(self, num_bytes: int) -> None:
        self.at += num_bytes

    def text(self) -> str:
        length = self.take("Q")
        self.skip(length)
        return self.data[self.at - length : self.at].decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        """A scalar, a string, or the length of an array, whose items are skipped."""
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.take(_SCALARS[kind])
        item, count = self.take("I"), self.take("Q")
        if item == _STRING:
            for _ in range(count):
                self.skip(self.take("Q"))
        else:
            self.skip(count * struct.calcsize("<" + _SCALARS[item]))
        return count


def _read_head(data: mmap.mmap) -> tuple[dict[str, Any], set[str]]:
    """Metadata (arrays as their lengths) and the names of the tensors. The last of these must begin within the file."""
    cursor = _Cursor(data)
    cursor.skip(len(MAGIC))
    if (version := cursor.take("I")) not in (2, 3):
        raise GgufUnreadable(f"GGUF version {version} is not known (2 and 3 are)")
    num_tensors, num_keys = cursor.take("Q"), cursor.take("Q")
    metadata = {cursor.text(): cursor.value(cursor.take("I")) for _ in range(num_keys)}
    tensors, last_at = set(), -1
    for _ in range(num_tensors):
        tensors.add(cursor.text())
        cursor.skip(8 * cursor.take("I") + 4)  # dimensions, type
        last_at = max(last_at, cursor.take("Q"))
    alignment = metadata.get("general.alignment", ALIGNMENT)
    if -(-cursor.at // alignment) * alignment + last_at >= len(data):
        raise GgufUnreadable("the file is cut off: it ends before its last tensor")
    return metadata, tensors


def read_gguf_config(path: Path) -> dict[str, Any]:
    """The config of the model in a GGUF file. Raises `GgufUnreadable` with one sentence."""
    try:
        require_regular(path)
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[: len(MAGIC)] != MAGIC:
                raise GgufUnreadable("the file does not begin with GGUF")
            metadata, tensors = _read_head(data)
    except FileUnusable as error:
        raise GgufUnreadable(str(error)) from None
    except DAMAGE as error:  # lengths beyond the file
        raise GgufUnreadable("the file is cut off or damaged") from error
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str) or architecture not in MODEL_TYPES:
        raise GgufUnreadable(f"architecture {architecture} is not one of {', '.join(MODEL_TYPES)}")
    found = {ours: metadata.get(f"{architecture}.{theirs}") for theirs, ours in CONFIG_KEYS.items()}
    config = {key: value for key, value in found.items() if value is not None}
    config.setdefault("vocab_size", metadata.get("tokenizer.ggml.tokens"))
    return config | {"model_type": MODEL_TYPES[architecture], "tie_word_embeddings": "output.weight" not in tensors}
