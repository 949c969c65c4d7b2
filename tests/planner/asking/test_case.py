"""Case: the frozen contract's keys, read strictly and understood completely."""

from __future__ import annotations

import json
import math
from importlib.resources import files
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from planner.asking.bounds import CASE_BOUNDS
from planner.asking.case import KEYS, Case, effective, example_of, read_case, read_within_reach, stack_of, strategy_of
from planner.asking.mistyped import words_at
from planner.refusals import CaseError, CaseRefused

SCHEMA = json.loads(files("planner").joinpath("estimate.schema.json").read_text())
PROPERTIES = SCHEMA["$defs"]["case"]["properties"]


def test_the_keys_are_the_contract_s() -> None:
    assert set(KEYS) == set(PROPERTIES)


@pytest.mark.parametrize("key", [key for key, rule in PROPERTIES.items() if "default" in rule])
def test_a_default_is_the_contract_s(key: str) -> None:
    assert getattr(Case(model="7b"), key) == PROPERTIES[key]["default"]


@pytest.mark.parametrize("key", [key for key, rule in PROPERTIES.items() if "enum" in rule])
def test_a_key_takes_the_contract_s_words_and_no_others(key: str) -> None:
    assert set(words_at(Case, (key,))) == set(PROPERTIES[key]["enum"])


@pytest.mark.parametrize(
    ("said", "key", "words"),
    [
        ({"modle": "7b"}, "modle", 'did you mean "model"?'),
        ({"model": "7b", "quant": "nf5"}, "quant", 'did you mean "nf4"?'),
        ({"model": "7b", "rank": "many"}, "rank", 'rank must be a whole number, not text ("many"); such as rank 16'),
        ({"model": "7b", "quant": 4}, "quant", "quant must be text, not a whole number (4); one of none, int8, nf4"),
        ({"model": "7b", "rank": 1.5}, "rank", "rank must be a whole number, not a fraction (1.5)"),
        ({"model": "7b", "seq_len": None}, "seq_len", "seq_len must be a whole number, not nothing; such as seq_len 2048"),
        ({"model": 3}, "model", "model must be text or an object, not a whole number (3); such as model 7b"),
        ({"model": "7b", "padded": "yes"}, "padded", 'padded must be true or false, not text ("yes"); such as padded false'),
        ({"model": "7b", "target_modules": [1]}, "target_modules", "target_modules.0 must be text, not a whole number (1)"),
        ({"model": "7b", "versions": {"torch": 2}}, "versions", "versions.torch must be text, not a whole number (2)"),
        ({"model": "7b", "vision": {"tower": "frosen"}}, "vision", 'did you mean "frozen"?'),
        ({"model": "7b", "evaluation": 3}, "evaluation", "evaluation must be an object, not a whole number (3)"),
        ({"model": "7b", "rank": 0}, "rank", "at least 1 and at most 100,000; such as rank 16"),
        ({"model": "7b", "dropout": 1.0}, "dropout", "at least 0 and below 1"),
        ({"model": "7b", "gpu_memory_gib": -1}, "gpu_memory_gib", "above 0"),
        (
            {"model": "7b", "evaluation": {"micro_batch_size": -5}},
            "evaluation",
            "evaluation.micro_batch_size is -5 and must be at",
        ),
        ({"model": "7b", "evaluation": {"seq_len": 0}}, "evaluation", "evaluation.seq_len is 0 and must be at least 1"),
        ({"model": "7b", "evaluation": {"seq_len": 10**12}}, "evaluation", "and must be at least 1 and at most 100,000,000"),
        (
            {"model": "7b", "evaluation": {"generate_tokens": -5}},
            "evaluation",
            "evaluation.generate_tokens is -5 and must be at",
        ),
        ({"model": "7b", "evaluation": {"logit": "dropped"}}, "evaluation", 'has no key "logit"; did you mean "logits"?'),
        ({"model": "7b", "num_gpus": 2}, "sharding", "ddp"),
        ({"model": "7b", "num_gpus": 3, "tensor_parallel_size": 2}, "num_gpus", "groups of 2"),
        (
            {"model": "7b", "method": "qlora", "quant": "int8"},
            "quant",
            "quant nf4, not int8; say method lora with quant int8",
        ),
        ({"model": "7b", "method": "full", "quant": "nf4"}, "quant", "nf4 weights can't be trained; quant none"),
        ({"model": "7b", "method": "bitfit", "quant": "gptq_int4"}, "quant", "gptq_int4 weights can't be trained"),
        ({"model": "7b", "target_modules": []}, "target_modules", 'names no module; say "all-linear"'),
        (
            {"model": "7b", "seq_len": 128, "mean_seq_len": 4096},
            "mean_seq_len",
            "of 128 tokens at most can't have 4096 in the mean",
        ),
        ({"model": "7b", "seq_len": 193, "mean_seq_len": 194.0}, "mean_seq_len", "can't have 194 in the mean"),
        ({}, "model", "names no model"),
        ({"model": 7}, "model", "model"),
    ],
)
def test_a_wrong_case_is_refused_with_its_key_and_what_to_type(said: dict[str, Any], key: str, words: str) -> None:
    with pytest.raises(CaseError) as refused:
        read_case(said)
    assert refused.value.key == key
    assert words in str(refused.value)


def test_a_mean_above_the_longest_by_less_than_a_token_is_answered() -> None:
    """Published lengths are cut to whole tokens, their means are not."""
    assert read_case({"model": "7b", "seq_len": 193, "mean_seq_len": 193.5}).mean_seq_len == 193.5


def test_qlora_is_lora_on_double_quantized_nf4() -> None:
    strategy = strategy_of(read_case({"model": "7b", "method": "qlora"}))
    assert (strategy.method, strategy.quant, strategy.double_quant) == ("lora", "nf4", True)
    assert strategy.kbit_upcast == "full"


@pytest.mark.parametrize(
    ("said", "start"),
    [({"rank": 16}, 24), ({"rank": 12}, 18), ({"rank": 16, "method_options": {"init_r": 17}}, 17), ({"rank": 8}, None)],
)
def test_adalora_starts_above_the_rank_that_it_keeps(said: dict[str, Any], start: int | None) -> None:
    """With half as many more, as peft's own 12 are of its 8; below those, peft's default holds."""
    assert strategy_of(read_case({"model": "7b", "method": "adalora", **said})).method_options.get("init_r") == start


def test_auto_and_an_unknown_method_are_refused() -> None:
    with pytest.raises(CaseError, match="auto"):
        strategy_of(read_case({"model": "7b", "method": "auto"}))
    with pytest.raises(CaseError, match="there is no method QLORRA") as refused:
        strategy_of(read_case({"model": "7b", "method": "QLORRA"}))
    assert refused.value.hint == 'did you mean "qlora"?'


@pytest.mark.parametrize("quant", ["none", "nf4", "fp4", "int8", "gptq_int4"])
def test_bitsandbytes_bases_are_prepared_in_fp32_unless_said_otherwise(quant: str) -> None:
    strategy = strategy_of(read_case({"model": "7b", "quant": quant}))
    assert (strategy.kbit_upcast == "full") == (quant in ("nf4", "fp4", "int8"))


def test_a_single_target_is_a_list_of_one() -> None:
    assert strategy_of(read_case({"model": "7b", "target_modules": "q_proj"})).target_modules == ("q_proj",)
    assert strategy_of(read_case({"model": "7b", "target_modules": "default"})).target_modules == "default"


@pytest.mark.parametrize(
    "said",
    [
        {"model": "7b"},
        {"model": "7b", "method": "qlora", "rank": 8, "seq_len": 512},
        {"model": "7b", "method": "full", "gpu": "T4", "versions": {"torch": "2.4"}},
        {"model": {"model_type": "llama"}, "evaluation": {"generate_tokens": 4}},
    ],
)
def test_what_was_understood_is_a_case_that_means_the_same(said: dict[str, Any]) -> None:
    """`effective` satisfies the schema, reads back, and leaves nothing open."""
    case = read_case(said)
    understood = effective(case)
    Draft202012Validator({**SCHEMA, "$ref": "#/$defs/case"}).validate(understood)
    again = read_case(understood)
    assert strategy_of(again) == strategy_of(case)
    assert stack_of(again) == stack_of(case)
    assert effective(again) == understood


def test_every_refusal_is_of_one_kind() -> None:
    """Callers catch CaseRefused, and get the key, the sentence and the hint."""
    with pytest.raises(CaseRefused) as refused:
        read_case({"model": "7b", "sharding": "fdsp"})
    assert (refused.value.key, refused.value.hint) == ("sharding", 'did you mean "fsdp"?')


@pytest.mark.parametrize("key", CASE_BOUNDS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -1, 10**300])
def test_no_key_takes_a_number_beyond_its_bounds(key: str, value: float) -> None:
    """A number of the wrong type is told by its type, one of the right type by its bounds."""
    with pytest.raises(CaseError) as refused:
        read_case({"model": "7b", key: value})
    assert refused.value.key == key


@pytest.mark.parametrize("key", [key for key in KEYS if not words_at(Case, (key,))])
def test_the_example_of_a_key_is_one_that_it_takes(key: str) -> None:
    """What is told to be typed must work when it is typed."""
    said = example_of(key).removeprefix(f"such as {key} ")
    try:
        value = json.loads(said)
    except json.JSONDecodeError:
        value = said
    read_case({"model": "7b", key: value})


def test_a_whole_number_may_be_written_as_json_admits_it() -> None:
    """JSON Schema's integers are numbers without a fraction, 16.0 and 1e3 among them."""
    case = read_case({"model": "8b", "rank": 16.0, "seq_len": 1e3, "method_options": {"init_r": 12.0}})
    assert (case.rank, case.seq_len, case.method_options) == (16, 1000, {"init_r": 12})
    with pytest.raises(CaseError):
        read_case({"model": "8b", "rank": 16.5})


@pytest.mark.parametrize(
    ("option", "key"), [("r", "rank"), ("target_modules", "target_modules"), ("exclude_modules", "target_modules")]
)
def test_an_option_that_has_a_key_of_its_own_is_refused_by_that(option: str, key: str) -> None:
    """The trace left it out without a word, or took it while a warning said that it moved nothing."""
    with pytest.raises(CaseError, match=f"{option} is no option of lora: {key} says it"):
        read_case({"model": "8b", "method_options": {option: 4}, "engine": "trace"})


UNDESCRIBED = {
    "model_type": "gpt_neo",
    "max_position_embeddings": 256,
    "hidden_size": 8,
    "num_layers": 1,
    "num_heads": 1,
    "vocab_size": 8,
}


@pytest.mark.parametrize(
    ("said", "seq_len"),
    [
        ({"model": "bert-base-uncased"}, 512),
        ({"model": "gpt2"}, 1024),
        ({"model": "7b"}, 2048),
        ({"model": "bert-base-uncased", "seq_len": 1024}, 1024),
        ({"model": "bert-base-uncased", "mean_seq_len": 100}, 512),
        ({"model": "bert-base-uncased", "mean_seq_len": 600}, 2048),
        ({"model": "nobody/knows-it"}, 2048),
        ({"model": UNDESCRIBED}, 256),
    ],
    ids=["short", "half", "long", "said", "a mean within", "a mean beyond", "unknown", "not described"],
)
def test_a_length_that_nobody_said_is_no_longer_than_the_model_reads(said: dict[str, Any], seq_len: int) -> None:
    """One that was said stays, and is warned of."""
    assert read_within_reach(said).seq_len == seq_len
