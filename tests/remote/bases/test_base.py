"""The base model on the disk of the box: a bare configuration gets random weights, and the tokenizer that lies beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from remote.bases.base import load_base
from remote.bases.heads import ClassHead, load_classifier
from remote.bases.on_disk import prepare_base
from remote.bases.stored import READERS, check_stored, read_stored
from remote.bases.tokenizer import load_tokenizer
from remote.contract import EndReason, ModelSource, Quant, Strategy
from remote.data.byte_tokenizer import byte_tokenizer
from remote.ends import Ended
from tests.remote.conftest import CONFIG, STRATEGY

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
    """A volume that is kept may come from a machine that was cut off: a file of it is cut, altered, gone or no text."""
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
        lambda: (made / "SHA256SUMS").write_bytes(b"\xff\xfe"),
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
        ("hqq", "none", "stored in hqq, and what reads them is not installed here: hqq;"),
        ("aqlm", "none", "stored in aqlm, which this trainer can't read; name the base that it was made from"),
        ("compressed-tensors", "none", "stored in compressed-tensors, which this trainer can't read"),
        ("bitsandbytes", "nf4", "stored in bitsandbytes, and quant nf4 packs them again"),
    ],
)
def test_weights_that_are_stored_packed_are_refused_where_nothing_reads_them(
    shape: Path, monkeypatch: pytest.MonkeyPatch, how: str, quant: Quant, sentence: str
) -> None:
    monkeypatch.setattr("remote.bases.stored.find_spec", lambda _name: None)
    (shape / "config.json").write_text(json.dumps(CONFIG | {"quantization_config": {"quant_method": how}}))
    with pytest.raises(Ended, match=sentence) as refused:
        check_stored(str(shape), Strategy(method="lora", quant=quant))
    assert refused.value.reason == EndReason.BAD_JOB


def test_weights_that_are_stored_packed_are_taken_where_their_package_is(shape: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remote.bases.stored.find_spec", lambda name: name)
    (shape / "config.json").write_text(json.dumps(CONFIG | {"quantization_config": {"quant_method": "gptq"}}))
    check_stored(str(shape), Strategy(method="lora"))
    check_stored(str(shape), Strategy(method="lora", quant="gptq_int4"))
    with pytest.raises(Ended, match="stored in gptq, and quant awq_int4 packs them again"):
        check_stored(str(shape), Strategy(method="lora", quant="awq_int4"))
    with pytest.raises(Ended, match="method full was not tried on weights stored in gptq; use lora or rslora"):
        check_stored(str(shape), Strategy(method="full"))
    with pytest.raises(Ended, match='weights stored in gptq can\'t be streamed; use offload "none"'):
        check_stored(str(shape), Strategy(method="lora", offload="stream"))


def test_a_plan_for_packed_weights_is_not_carried_out_over_others(shape: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain ones, or those of another width."""
    monkeypatch.setattr("remote.bases.stored.find_spec", lambda name: name)
    with pytest.raises(Ended, match="the base's weights are not stored in gptq, as quant gptq_int4 says"):
        check_stored(str(shape), Strategy(method="lora", quant="gptq_int4"))
    (shape / "config.json").write_text(json.dumps(CONFIG | {"quantization_config": {"quant_method": "gptq", "bits": 8}}))
    check_stored(str(shape), Strategy(method="lora", quant="gptq_int8"))
    with pytest.raises(Ended, match="stored in 8 bits, and the job says quant gptq_int4"):
        check_stored(str(shape), Strategy(method="lora", quant="gptq_int4"))


def test_weights_that_hqq_wrote_are_known_by_their_names_and_read_for_text_alone(
    shape: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own writer says nothing of them in config.json, and transformers would draw all linears at random."""
    monkeypatch.setattr("remote.bases.stored.find_spec", lambda name: name)
    save_file({"model.layers.0.mlp.up_proj.W_q": torch.zeros(1, dtype=torch.uint8)}, shape / "model.safetensors")
    assert read_stored(str(shape)).how == "hqq"
    check_stored(str(shape), Strategy(method="lora"))
    with pytest.raises(Ended, match="task classification was not tried on weights stored in hqq; use causal_lm"):
        check_stored(str(shape), Strategy(method="lora"), "classification")


@pytest.mark.parametrize("how", READERS)
def test_what_was_tried_in_a_way_of_packing_is_one_row(how: str, shape: Path) -> None:
    """Where other packages read the weights, it says which methods were tried over them, and what these tell to train."""
    reader = READERS[how]
    assert bool(reader.packages) == bool(reader.methods)
    (shape / "config.json").write_text(json.dumps(CONFIG | {"quantization_config": {"quant_method": how, "bits": 4}}))
    for device in ("cpu", "cuda"):
        told = {"quant_method": how, "bits": 4, **reader.told.get(device, {})}
        assert read_stored(str(shape)).to_train(f"{device}:0") == (told if reader.told else None)


def test_a_base_that_bitsandbytes_packed_elsewhere_is_trained_as_it_is_stored(shape: Path, tmp_path: Path) -> None:
    """It was taken for plain weights, as one in GPTQ or AWQ was, whose linears were then drawn at random."""
    packed = tmp_path / "packed"
    load_base(prepared(shape), PACKED, "cpu").save_pretrained(packed)
    plain = msgspec.structs.replace(STRATEGY, quant="none", param_dtype="bfloat16")
    check_stored(str(packed), plain)
    model = load_base(str(packed), plain, "cpu")
    assert type(model.model.layers[0].mlp.up_proj).__name__ == "Linear4bit"


PACKED = msgspec.structs.replace(STRATEGY, quant="nf4", param_dtype="bfloat16")
HEAD = ClassHead(names=("fruit", "metal"), pad_token_id=0, seed=1)


LOADERS: dict[str, Callable[[str, Strategy], Any]] = {
    "base": lambda base, strategy: load_base(base, strategy, "cpu"),
    "classifier": lambda base, strategy: load_classifier(base, strategy, "cpu", HEAD).model,
}


@pytest.mark.parametrize("loader", LOADERS)
def test_a_base_whose_files_lack_a_weight_is_no_base(shape: Path, loader: str) -> None:
    """It would be drawn at random: so were all linears of a checkpoint stored in a way that transformers does not know."""
    made = Path(prepared(shape))
    file = made / "model.safetensors"
    held = load_file(file)
    save_file({name: held[name] for name in held if "layers.1.mlp" not in name}, file, metadata={"format": "pt"})
    with pytest.raises(Ended, match="hold no weights for ") as refused:
        LOADERS[loader](str(made), STRATEGY)
    assert refused.value.reason == EndReason.BAD_JOB


@pytest.mark.parametrize(
    "load",
    [lambda base: LOADERS["base"](base, PACKED), lambda base: LOADERS["classifier"](base, PACKED)],
    ids=["base", "classifier"],
)
def test_judging_a_packed_base_changes_no_gradient_of_the_steps_after_it(shape: Path, load: Callable[[str], Any]) -> None:
    """On cores with AVX512 in bf16 bitsandbytes lays weights out anew where a model only answers, and leaves them so: no later
    gradient got past a linear.
    """
    import torch

    model, rows = load(prepared(shape)), torch.arange(12).reshape(1, 12)

    def gradient() -> torch.Tensor:
        inputs = model.get_input_embeddings()(rows).detach().requires_grad_()
        model.train()(inputs_embeds=inputs).logits.float().square().sum().backward()
        assert inputs.grad is not None
        return inputs.grad

    before = gradient()
    with torch.no_grad():
        model.eval()(input_ids=rows)
    assert gradient().equal(before)
