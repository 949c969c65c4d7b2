"""Every word of the frozen estimate contract, sent through `rentune estimate --from`: answered by its schema, or refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, Final

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from provision.cli import rentune
from tests.planner.builders import TINY_LLAMA

SCHEMA: Final = json.loads((files("planner") / "estimate.schema.json").read_text())
CASE: Final = SCHEMA["$defs"]["case"]["properties"]
ANSWER: Final = Draft202012Validator({**SCHEMA, "$ref": "#/$defs/answer"})
ASKED: Final = Draft202012Validator({**SCHEMA, "$ref": "#/$defs/case"})
MODELS: Final[tuple[dict[str, Any], ...]] = (  # a decoder, one with experts, an encoder; each two blocks of 64
    TINY_LLAMA,
    {
        "model_type": "mixtral",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "vocab_size": 320,
    },
    {
        "model_type": "bert",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "vocab_size": 320,
    },
)
BESIDE: Final = {
    "num_virtual_tokens": 8,
    "trainable_layers": 1,
    "seq_len": 64,
    "gpu": "A100-SXM4-80GB",
    "target_modules": "default",
}


def words_of(rules: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each key that takes words with each of them; of a number its least, of an object each inner word."""
    for key, rule in rules.items():
        for word in rule.get("enum", [True, False] if rule.get("type") == "boolean" else []):
            yield key, word
        if rule.get("type") == "integer":
            yield key, rule.get("minimum", 1)
        if rule.get("type") == "object":
            yield from ((key, {inner: word}) for inner, word in words_of(rule.get("properties", {})))


def methods() -> list[str]:
    """The methods that the contract names, in its own sentence."""
    named = CASE["method"]["description"].partition(", or any other")[0]
    return [word.split()[0] for word in named.replace("(= lora with quant nf4 and double_quant true)", "").split(", ")]


def requests() -> Iterator[dict[str, Any]]:
    """Every word for a decoder and for one of the others. A trace is asked for of a loop that has none: it costs seconds."""
    words = [pair for pair in words_of(CASE) if pair[0] != "engine"] + [("method", name) for name in methods()]
    for number, (key, word) in enumerate(words):
        for model in (MODELS[0], MODELS[1 + number % 2]):
            several = {"num_gpus": 4, "sharding": "ddp"} if key.endswith("_parallel_size") or key == "num_nodes" else {}
            several |= {"num_gpus": 4} if key == "sharding" and word != "none" else {}
            yield {"model": model, "engine": "closed_form", **BESIDE, **several, key: word}
    for engine in CASE["engine"]["enum"]:
        yield {"model": "7b", "engine": engine, "stack": "trl"}


Exchange = tuple[tuple[dict[str, Any], dict[str, Any]], ...]


@pytest.fixture(scope="module", name="exchange")
def exchanged(tmp_path_factory: pytest.TempPathFactory) -> Exchange:
    """All requests in one file, each beside its answer."""
    asked = [{"id": f"{number}", **request} for number, request in enumerate(requests())]
    path = tmp_path_factory.mktemp("contract") / "cases.jsonl"
    path.write_text("\n".join(map(json.dumps, asked)))
    result = CliRunner().invoke(rentune, ["estimate", "--from", str(path)])
    made = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["id"] for one in made] == [request["id"] for request in asked]
    return tuple(zip(asked, made, strict=True))


def test_at_least_two_hundred_requests_use_every_word_of_the_schema(exchange: Exchange) -> None:
    asked = [request for request, _ in exchange]
    assert len(asked) >= 200
    for request in asked:
        ASKED.validate(request)
    for key, word in words_of(CASE):
        assert any(request.get(key) == word for request in asked), (key, word)


def test_each_is_answered_by_the_schema_or_refused_in_a_sentence_that_says_why(exchange: Exchange) -> None:
    for request, made in exchange:
        ANSWER.validate(made)
        if "error" not in made:
            continue
        error = made["error"]
        assert error["key"] in CASE, request
        assert "\n" not in error["message"], request
        assert 10 < len(error["message"]) < 200, request
        assert "can't be answered" not in error["message"], request  # which is how a failure that nobody foresaw is told
        assert error.get("hint"), request


@pytest.mark.parametrize(
    "key", ["quant", "optimizer", "gradient_checkpointing", "attention", "loss", "kernels", "sharding", "offload"]
)
def test_what_an_estimate_is_scored_on_is_answered_for_a_decoder(key: str, exchange: Exchange) -> None:
    """But for what no such base can do: packed experts without experts, an optimizer of whole weights or of LoRA's factors."""
    refused = {
        request[key]
        for request, made in exchange
        if request["model"] == MODELS[0]
        and set(request) - set(BESIDE) - {"id", "model", "engine", "num_gpus"} == {key}
        and "error" in made
    }
    assert refused <= {"mxfp4", "galore_adamw", "lora_fa"}
