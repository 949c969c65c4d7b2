"""The base model on the disk of the box: a bare configuration gets random weights, and the tokenizer that lies beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from remote.bases.base import check_stored, load_tokenizer, prepare_base
from remote.contract import EndReason, ModelSource, Quant, Strategy
from remote.data.byte_tokenizer import byte_tokenizer
from remote.ends import Ended
from tests.remote.conftest import CONFIG

pytestmark = pytest.mark.torch


@pytest.fixture
def shape(tmp_path: Path) -> Path:
    """A folder with a configuration and no weights."""
    folder = tmp_path / "shape"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def prepared(shape: Path) -> str:
    return prepare_base(ModelSource(kind="config", location=str(shape)), cache=shape.parent / "cache", dtype="float32", seed=1)


def with_words(shape: Path, *words: str) -> int:
    """Save a tokenizer of its own beside the configuration; returns how many tokens it has."""
    own = byte_tokenizer()
    own.add_tokens(list(words))
    own.save_pretrained(shape)
    return len(own)


def test_random_weights_are_trained_by_the_tokenizer_beside_their_shape(shape: Path) -> None:
    """Else over bytes: so a plan, which counts by what lies there, says what the trainer will say. Each is made once."""
    bytewise = prepared(shape)
    assert len(load_tokenizer(bytewise)) == len(byte_tokenizer())
    num_tokens = with_words(shape, "rentune")
    own = prepared(shape)
    assert own != bytewise
    assert len(load_tokenizer(own)) == num_tokens
    assert prepared(shape) == own


def test_what_an_earlier_run_made_is_taken_only_as_it_was_made(shape: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A volume that is kept may come from a machine that was cut off: a file of it is cut, altered or gone."""
    made = Path(prepared(shape))
    weights, before = made / "model.safetensors", (made / "model.safetensors").read_bytes()
    inode = made.stat().st_ino
    assert prepared(shape) == str(made)
    assert (made.stat().st_ino, caplog.messages) == (inode, []), "one that is whole is not made again"
    for damage in (
        lambda: weights.write_bytes(before[:100]),
        lambda: weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1])),
        weights.unlink,
        (made / "SHA256SUMS").unlink,
    ):
        damage()
        caplog.clear()
        assert prepared(shape) == str(made)
        assert "is not as an earlier run made it" in caplog.text
        assert weights.read_bytes() == before


def test_a_vocabulary_too_small_for_the_tokenizer_is_refused(shape: Path) -> None:
    with_words(shape, *(f"word{number}" for number in range(100)))
    with pytest.raises(Ended, match="has a vocabulary of 320; its tokenizer needs at least 359"):
        prepared(shape)


@pytest.mark.parametrize(
    ("how", "quant", "sentence"),
    [
        ("gptq", "none", "stored in gptq, and what reads them is not installed here: optimum and gptqmodel;"),
        ("awq", "none", "not installed here: gptqmodel;"),
        ("hqq", "none", "not installed here: hqq;"),
        ("bitsandbytes", "nf4", "stored in bitsandbytes, and quant nf4 packs them again"),
    ],
)
def test_weights_that_are_stored_packed_are_refused_where_nothing_reads_them(
    shape: Path, monkeypatch: pytest.MonkeyPatch, how: str, quant: Quant, sentence: str
) -> None:
    monkeypatch.setattr("remote.bases.base.find_spec", lambda _name: None)
    (shape / "config.json").write_text(json.dumps(CONFIG | {"quantization_config": {"quant_method": how}}))
    with pytest.raises(Ended, match=sentence) as refused:
        check_stored(str(shape), Strategy(method="lora", quant=quant))
    assert refused.value.reason == EndReason.BAD_JOB


def test_weights_that_are_stored_packed_are_taken_where_their_package_is(shape: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remote.bases.base.find_spec", lambda name: name)
    (shape / "config.json").write_text(json.dumps(CONFIG | {"quantization_config": {"quant_method": "gptq"}}))
    check_stored(str(shape), Strategy(method="lora"))
