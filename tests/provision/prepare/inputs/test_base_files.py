"""Which files of a model folder travel, and which folder is refused before anything is rented."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from planner.units import GIB, MIB
from provision.errors import BadInput
from provision.prepare.inputs import find_base
from provision.prepare.inputs.base_files import read_files

WHOLE = {"config.json": 1, "tokenizer.json": 40 * MIB, "model-00001-of-00002.safetensors": GIB, "merges.txt": 1}


def folder(at: Path, sizes: dict[str, int]) -> Path:
    """Of files that take no room on the disk."""
    for name, num_bytes in sizes.items():
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).touch()
        os.truncate(at / name, num_bytes)
    return at


def names(at: Path) -> set[str]:
    return {str(path.relative_to(at)) for path in read_files(at)}


@pytest.mark.parametrize(
    "unread",
    [
        ".git/lfs/objects/ab/cd",  # a clone of a hub's holds each weight twice
        ".cache/huggingface/download/a.lock",
        "optimizer.pt",  # a folder that was trained in
        "checkpoint-500/model.safetensors",
        "original/consolidated.00.pth",  # as Meta hands out its own
        "consolidated.safetensors",  # as Mistral does
        "pytorch_model-00001-of-00002.bin",
        "model.Q8_0.gguf",
        "onnx/model.onnx_data",
        "tf_model.h5",
    ],
)
def test_what_nobody_reads_there_stays_at_home(tmp_path: Path, unread: str) -> None:
    """Gigabytes of it are hours of a machine that is paid for."""
    assert names(folder(tmp_path, {**WHOLE, unread: GIB})) == set(WHOLE)


@pytest.mark.parametrize("small", ["README.md", "tokenizer.model", "additional_chat_templates/tools.jinja", "odd.tiktoken"])
def test_what_is_small_travels_whatever_it_is(tmp_path: Path, small: str) -> None:
    assert names(folder(tmp_path, {**WHOLE, small: MIB})) == {*WHOLE, small}


def test_pickled_weights_alone_are_refused_with_the_way_to_safe_ones(tmp_path: Path) -> None:
    """Reading a pickle can run whatever its maker put there."""
    folder(tmp_path, {"config.json": 1, "vocab.json": 1, "merges.txt": 1, "pytorch_model.bin": GIB})
    with pytest.raises(BadInput, match="holds its weights as pickles") as refused:
        find_base(str(tmp_path))
    assert f'K.from_pretrained("{tmp_path}").save_pretrained("{tmp_path}-safe")' in str(refused.value.hint)


@pytest.mark.parametrize(
    ("lacks", "said"),
    [("config.json", "config.json"), ("tokenizer.json", "tokenizer: none of tokenizer.json, tokenizer.model, vocab.json")],
)
def test_a_folder_that_no_model_can_be_loaded_from_is_no_base(tmp_path: Path, lacks: str, said: str) -> None:
    """The trainer would say so on a machine that is paid for."""
    folder(tmp_path, {name: size for name, size in WHOLE.items() if name != lacks})
    with pytest.raises(BadInput, match=f"has no {said}") as refused:
        find_base(str(tmp_path))
    assert "save_pretrained" in str(refused.value.hint)


def test_a_folder_with_gguf_files_alone_says_to_name_one(tmp_path: Path) -> None:
    """Transformers reads none of a folder by itself."""
    folder(tmp_path, {"config.json": 1, "tokenizer.json": 1, "a b.gguf": GIB})
    with pytest.raises(BadInput, match=r"has no \*\.safetensors") as refused:
        find_base(str(tmp_path))
    assert str(refused.value.hint) == f"Name a file of it: '{tmp_path / 'a b.gguf'}'"
