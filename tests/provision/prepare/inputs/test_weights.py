"""A base that lies here is looked through before anything is rented: its machine would find what is wrong when it is paid."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from catalogs.failure import Failure
from planner.asking.request import Request
from provision.errors import BadInput
from provision.prepare.choosing import KeyQuestion, choose_plan
from provision.prepare.inputs.weights import ANOTHER, PACK_ANEW, require_base_whole
from remote.contract import PACKED_INDEX, PACKED_KEY
from remote.data.byte_tokenizer import byte_tokenizer
from tests.planner.builders import make_request, parsed

HEADER: Final = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "__metadata__": {}}).encode()
TENSORS: Final = len(HEADER).to_bytes(8, "little") + HEADER + bytes(8)  # a safetensors file of one tensor
SHARDS: Final = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
CONFIG: Final[dict[str, Any]] = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip
HOW: Final = {"quant": "nf4", "double_quant": True, "quant_storage": "uint8", "dtype": "float32"}


def plain(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    for name in SHARDS:
        (folder / name).write_bytes(TENSORS)
    return folder


def packed(folder: Path) -> Path:
    """As `rentune quantize` leaves one."""
    plain(folder)
    said = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(CONFIG | {"quantization_config": said, PACKED_KEY: HOW}))
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("config.json", *SHARDS)}
    (folder / PACKED_INDEX).write_text(json.dumps({"base": "b", "how": HOW, "sha256": sums, "whole": True}))
    return folder


def asked(folder: Path) -> Request:
    return make_request(model=str(folder))


@pytest.mark.parametrize("made", [plain, packed])
def test_what_is_whole_is_taken(tmp_path: Path, made: Callable[[Path], Path]) -> None:
    require_base_whole(asked(made(tmp_path / "base")))


@pytest.mark.parametrize("model", ["7b", "owner/name"])
def test_of_what_does_not_lie_here_nothing_is_asked(model: str) -> None:
    require_base_whole(make_request(model=model))


@pytest.mark.parametrize("content", [TENSORS[:-1], TENSORS + b"0", b"", b"version https://git-lfs.github.com/spec/v1"])
def test_weights_that_are_cut_short_are_refused(tmp_path: Path, content: bytes) -> None:
    """A download that broke off, or a pointer in place of the file."""
    (plain(tmp_path / "base") / SHARDS[1]).write_bytes(content)
    with pytest.raises(BadInput, match=f"base is torn: {SHARDS[1]} is no whole safetensors file") as refused:
        require_base_whole(asked(tmp_path / "base"))
    assert (refused.value.hint, refused.value.place) == (ANOTHER, ("model",))


def torn(folder: Path) -> None:
    """In the middle: its length is as it was."""
    (folder / SHARDS[1]).write_bytes(TENSORS[:-8] + b"\0\0\0\1\0\0\0\0")


def gone(folder: Path) -> None:
    (folder / SHARDS[0]).unlink()


def strange(folder: Path) -> None:
    (folder / "more.safetensors").write_bytes(TENSORS)


def of_another_model(folder: Path) -> None:
    said = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(said | {"num_hidden_layers": 3}))


def broken_off(folder: Path) -> None:
    said = json.loads((folder / PACKED_INDEX).read_bytes())
    (folder / PACKED_INDEX).write_text(json.dumps(said | {"whole": False}))


def unreadable(folder: Path) -> None:
    (folder / PACKED_INDEX).write_bytes(b"{")


DAMAGES: Final[dict[Callable[[Path], None], str]] = {
    torn: f"base is not as it was packed: {SHARDS[1]} is torn, was changed, or is of another model.",
    gone: f"base lacks {SHARDS[0]}, which was packed with it.",
    strange: "base holds more.safetensors, which was not packed with it.",
    of_another_model: "base was packed with another config.json than lies there now: one of the two is of another model.",
    broken_off: "base is not packed to its end.",
    unreadable: "base can't be told whole from torn: its packed.json is damaged.",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_packed_and_is_not_as_it_was_is_refused_by_one_sentence(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(packed(tmp_path / "base"))
    with pytest.raises(BadInput) as refused:
        require_base_whole(asked(tmp_path / "base"))
    assert refused.value.message.endswith(DAMAGES[damage])
    assert (refused.value.hint, refused.value.place) == (PACK_ANEW, ("model",))


# ── at run's door ──────────────────────────────────────────────────────────────────────────────────────────────────

OF_RUN: dict[str, Any] = {"assume_price": None, "host_key": None, "keep_box_on_failure": False, "as_json": True}


def at_the_door(folder: Path, where: Path, monkeypatch: pytest.MonkeyPatch, **training: Any) -> Any:
    """What `run` chooses before it rents."""
    byte_tokenizer().save_pretrained(folder)  # it is asked how many tokens the rows are
    job: dict[str, Any] = {"model": str(folder), "data": {"file": "rows.jsonl"}, "where": {"providers": ["local"]}}
    (where / "job.yaml").write_text(json.dumps({"version": 1, **job, "training": {"method": "qlora", **training}}))
    (where / "rows.jsonl").write_text('{"prompt": "What?", "completion": "That."}\n' * 20)
    monkeypatch.chdir(where)
    return choose_plan(parsed("job.yaml") | OF_RUN, KeyQuestion(None, ask=None))


def test_run_takes_a_base_that_was_packed_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = at_the_door(packed(tmp_path / "base"), tmp_path, monkeypatch)
    assert (chosen.plan.strategy.quant, chosen.plan.strategy.double_quant) == ("nf4", True)


@pytest.mark.parametrize("damage", [torn, of_another_model])
def test_run_refuses_one_that_is_torn_or_another_model_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    damage(packed(tmp_path / "base"))
    with pytest.raises(BadInput) as refused:
        at_the_door(tmp_path / "base", tmp_path, monkeypatch)
    assert refused.value.message.endswith(DAMAGES[damage])
    assert refused.value.hint == PACK_ANEW


def test_run_refuses_one_that_is_packed_otherwise_than_the_job_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed(tmp_path / "base")
    with pytest.raises(Failure, match="is packed in nf4 with double_quant true, not in") as refused:
        at_the_door(tmp_path / "base", tmp_path, monkeypatch, method="lora", quant="int8")
    assert "say quant nf4 and double_quant true" in (refused.value.hint or "")
