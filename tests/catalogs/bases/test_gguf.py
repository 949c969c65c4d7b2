"""The head of a GGUF file becomes a config; nothing else of it is read."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from catalogs.bases.gguf import GgufUnreadable, read_gguf_config
from catalogs.bases.models import ModelUnknown, resolve_model

UINT32, FLOAT32, STRING, ARRAY = 4, 6, 8, 9
SMOLLM2: list[tuple[str, int, Any]] = [
    ("general.architecture", STRING, "llama"),
    ("llama.embedding_length", UINT32, 576),
    ("llama.block_count", UINT32, 30),
    ("llama.feed_forward_length", UINT32, 1536),
    ("llama.attention.head_count", UINT32, 9),
    ("llama.attention.head_count_kv", UINT32, 3),
    ("llama.attention.layer_norm_rms_epsilon", FLOAT32, 1e-5),
    ("tokenizer.ggml.tokens", ARRAY, [f"token {i}" for i in range(49152)]),
    ("tokenizer.ggml.token_type", ARRAY, [1, 2, 3]),
    ("llama.context_length", UINT32, 8192),
]


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def _value(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return _text(value)
    if kind != ARRAY:
        return struct.pack({UINT32: "<I", FLOAT32: "<f"}[kind], value)
    inner = STRING if isinstance(value[0], str) else UINT32
    return struct.pack("<IQ", inner, len(value)) + b"".join(_value(inner, item) for item in value)


def write_gguf(path: Path, pairs: list[tuple[str, int, Any]], tensors: tuple[str, ...], *, version: int = 3) -> Path:
    """A GGUF file with a head and a little rubbish where weights would be."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs))
    body = b"".join(_text(key) + struct.pack("<I", kind) + _value(kind, value) for key, kind, value in pairs)
    infos = b"".join(_text(name) + struct.pack("<IQQIQ", 2, 576, 49152, 0, 0) for name in tensors)
    path.write_bytes(head + body + infos + b"\0" * 64)
    return path


def test_a_model_is_read_from_its_head(tmp_path: Path) -> None:
    """Shape and vocabulary give SmolLM2-135M's exact count; no output tensor means a tied head."""
    write_gguf(tmp_path / "small.gguf", SMOLLM2, ("token_embd.weight",))
    architecture = resolve_model("small.gguf", base=tmp_path)
    assert architecture.num_params == 134_515_008
    assert architecture.tied_embeddings
    assert architecture.name == "small"


def test_an_output_tensor_means_a_head_of_its_own(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "untied.gguf", SMOLLM2, ("token_embd.weight", "output.weight"))
    assert read_gguf_config(path)["tie_word_embeddings"] is False


def test_a_file_that_ends_before_its_tensors_is_refused(tmp_path: Path) -> None:
    """Its head alone would be planned, and the box would find out."""
    path = write_gguf(tmp_path / "torn.gguf", SMOLLM2, ("token_embd.weight",))
    path.write_bytes(path.read_bytes()[:-64])
    with pytest.raises(GgufUnreadable, match="it ends before its last tensor"):
        read_gguf_config(path)


def test_a_folder_with_one_gguf_file_is_that_file(tmp_path: Path) -> None:
    write_gguf(tmp_path / "only.gguf", SMOLLM2, ())
    assert resolve_model(".", base=tmp_path).name == "only"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: b"GGML" + data[4:], "does not begin with GGUF"),
        (lambda data: data[:4] + struct.pack("<I", 1) + data[8:], "version 1"),
        (lambda data: data[:200], "cut off or damaged"),
        (lambda data: data.replace(b"llama", b"mamba"), "architecture mamba"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_sentence(tmp_path: Path, damage: Any, words: str) -> None:
    path = write_gguf(tmp_path / "bad.gguf", SMOLLM2, ())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(GgufUnreadable, match=words):
        read_gguf_config(path)
    with pytest.raises(ModelUnknown):
        resolve_model("bad.gguf", base=tmp_path)


def test_lengths_beyond_the_file_are_damage(tmp_path: Path) -> None:
    """A text of 2**64 - 1 bytes is further than any offset reaches."""
    file = tmp_path / "damaged.gguf"
    file.write_bytes(b"GGUF" + struct.pack("<IQQQ", 3, 0, 2, 2**64 - 1))
    with pytest.raises(GgufUnreadable, match="damaged"):
        read_gguf_config(file)
