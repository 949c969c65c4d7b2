"""What is known of a base before anything is rented: `plan`, `check` and `run` say it alike."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from planner.asking.data import DataFile
from planner.asking.request import RequestError
from provision.cli import call
from provision.prepare.inputs.counting import measured
from provision.prepare.inputs.foreseen import foreseen, lacks_own_template
from remote.contract import NO_TEMPLATE, Reading
from tests.planner.builders import make_request

CHAT = '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}\n'
TINY = {
    "model_type": "llama",
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def told(model: str, *, chats: bool = True, chat_template: str | None = None) -> str:
    request = make_request(model=model)
    data = msgspec.structs.replace(request.data, chats=chats, reading=Reading(chat_template=chat_template))
    return " ".join(foreseen(msgspec.structs.replace(request, data=data)))


def test_conversations_on_a_base_without_a_template_are_told_with_what_to_type() -> None:
    llama = told("8b")
    assert "the data are conversations, and meta-llama/Llama-3.1-8B has, by its name, no chat template" in llama
    assert "--model meta-llama/Llama-3.1-8B-Instruct has one" in llama
    assert "`chat_template: plain`" in llama
    assert "--model" not in told("gpt2")
    assert told("8b", chats=False) == told("8b", chat_template="plain") == told("7b") == ""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with conversations and a bare configuration."""
    (tmp_path / "chats.jsonl").write_text(CHAT * 40)
    (tmp_path / "config.json").write_text(json.dumps(TINY | {"max_position_embeddings": 512}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_plan_of_random_weights_says_so_at_its_end_too(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where it is agreed to: the note above stands forty lines before that."""
    assert call(["plan", "--model", "config.json", "--data", "chats.jsonl", "--provider", "runpod"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "has no weights: random ones are trained; unless that is all of them, it is a rehearsal without a use" in out
    assert "; the base has no weights: random ones are trained): rentune run --model config.json" in out
    assert call(["plan", "--model", "7b", "--data", "chats.jsonl", "--provider", "runpod"]) == 0
    assert "random ones are trained" not in capsys.readouterr().out


def test_conversations_are_known_from_the_file(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["plan", "--model", "8b", "--data", "chats.jsonl", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert any("Llama-3.1-8B-Instruct" in note for note in answer["data"]["warnings"])
    assert answer["data"]["rehearsal"] is False


@pytest.mark.parametrize(
    ("files", "lacks"),
    [
        ({"tokenizer_config.json": "{}"}, True),
        ({"tokenizer_config.json": '{"chat_template": "{{ messages }}"}'}, False),
        ({"tokenizer_config.json": "{}", "chat_template.jinja": "{{ messages }}"}, False),
        ({}, False),  # nobody knows
    ],
)
def test_a_folder_says_whether_it_has_a_template_without_the_training_stack(
    files: dict[str, str], lacks: bool, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The light install reads no tokenizer; that none of its files holds a template is seen all the same."""
    monkeypatch.setattr("provision.prepare.inputs.counting.has_stack", lambda: False)
    base = home / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(TINY))
    (base / "model.safetensors").touch()
    (base / "tokenizer.json").touch()
    for name, text in files.items():
        (base / name).write_text(text)
    assert lacks_own_template(base) is lacks
    file = DataFile(path=str(home / "chats.jsonl"), model=str(base))
    if not lacks:
        assert measured(file, cache=home / "cache", say=lambda _: None).chats
        return
    with pytest.raises(RequestError, match=NO_TEMPLATE):
        measured(file, cache=home / "cache", say=lambda _: None)
    plain = msgspec.structs.replace(file, reading=Reading(chat_template="plain"))
    assert measured(plain, cache=home / "cache", say=lambda _: None).chats
