"""`rentune quantize`: a base packed at home, before anything is rented."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from provision.cli import call
from provision.errors import BadInput, Exit
from provision.prepare.quantizing import require_base
from tests.remote.quantized.test_quantized import made_base


@pytest.mark.torch
def test_a_base_is_packed_and_what_lies_there_is_not_packed_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said as a job takes it; what can't be packed is refused by the trainer's own sentence."""
    base, into = made_base(tmp_path / "base"), tmp_path / "packed"
    capsys.readouterr()
    assert call(["quantize", str(base), "--into", str(into), "--dtype", "float32"]) == Exit.OK
    said = "a plan takes quant: nf4, double_quant: true and param_dtype: float32 from there."
    assert f"In a job: model: {into}; {said}" in " ".join(capsys.readouterr().out.split())
    assert call(["quantize", str(base), "--into", str(into), "--dtype", "float32", "--json"]) == Exit.OK
    data = json.loads(capsys.readouterr().out)["data"]
    assert (data["folder"], data["packed_now"]) == (str(into), 0)
    assert data["files"] > 2
    assert 0 < data["written_bytes"] < data["read_bytes"]
    assert call(["quantize", str(into), "--into", str(tmp_path / "twice")]) == Exit.REFUSED
    assert "are packed already; name the base that they were made from" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "base", ["TheBloke/Mistral-7B-v0.1-GPTQ", "Qwen/Qwen2.5-7B-Instruct-AWQ", "unsloth/llama-3-8b-bnb-4bit"]
)
def test_a_base_that_is_packed_by_its_name_is_refused_without_the_hub(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadInput, match="is packed already, as its name says") as refused:
        require_base(base)
    assert refused.value.hint == f"name the base that it was made from, or train it as it is: --model {base}"


@pytest.mark.parametrize(
    ("base", "said", "hint"),
    [
        ("base.gguf", "is a GGUF file, which is packed already", "train from it as it is: --model"),
        ("base/config.json", "is a file, and what is packed is a model folder or a hub id", "perhaps"),
        ("empty", "holds no config.json, so it is no model folder", "name the folder that transformers saved"),
        ("bsae", "There is no folder", "did you mean"),
        ("nothing/of/the/kind", "There is no folder", "a model folder, or a hub id as OWNER/NAME"),
    ],
)
def test_what_is_no_base_is_said_in_one_sentence(
    base: str, said: str, hint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before any library is looked for: a trainer's refusal named a hub for a folder that was mistyped."""
    for folder in ("base", "empty"):
        (tmp_path / folder).mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    (tmp_path / "base.gguf").write_bytes(b"GGUF")
    assert call(["quantize", str(tmp_path / base), "--into", str(tmp_path / "packed")]) == Exit.REFUSED
    told = " ".join(capsys.readouterr().err.split())
    assert said in told
    assert f"Hint: {hint}" in told
