"""Answers of `rentune estimate`: the frozen contract, held for every pair of words."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from jsonschema import Draft202012Validator

from catalogs.bases.models import resolve_model
from catalogs.catalog import read_catalog
from planner.estimate import answer, answers
from planner.methods import supported_methods
from remote.contract import PACKED_KEY
from tests.planner.builders import TINY_LLAMA

CATALOG = read_catalog()
SCHEMA = json.loads((files("planner") / "estimate.schema.json").read_text())
PROPERTIES = SCHEMA["$defs"]["case"]["properties"]
ANSWER = Draft202012Validator({**SCHEMA, "$ref": "#/$defs/answer"})

# Every key that takes words, with its words. The engine is left to tests/planner/trace/test_trace.py: "trace" needs torch.
WORDS: dict[str, list[Any]] = {
    key: rule.get("enum", [True, False])
    for key, rule in PROPERTIES.items()
    if ("enum" in rule or rule.get("type") == "boolean") and key != "engine"
} | {"method": ["qlora", "auto", "no_such_method", "miss", *supported_methods()]}


def ask(**said: Any) -> dict[str, Any]:
    return answer({"engine": "closed_form", **said}, CATALOG, None)


def check(made: dict[str, Any]) -> None:
    """The schema, and what a schema can't say: parts sum, kinds nest, ranges are ordered."""
    ANSWER.validate(made)
    if "error" in made:
        assert made["error"]["message"]
        return
    vram = made["vram"]
    assert sum(vram["components"].values()) == vram["allocated_peak_bytes"]
    assert 0 < vram["allocated_peak_bytes"] <= vram["reserved_peak_bytes"] <= vram["process_peak_bytes"]
    for name in ("tokens_per_s", "step_s"):
        span = made["time"][name]
        assert 0 < span["p10"] <= span["p50"] <= span["p90"]


def pairs_with(key: str) -> Iterator[dict[str, Any]]:
    """Every word of `key` beside every word of every later key."""
    later = list(WORDS)[list(WORDS).index(key) + 1 :]
    for word, other in itertools.product(WORDS[key], later):
        for value in WORDS[other]:
            case = {"model": TINY_LLAMA, key: word, other: value, "gpu": "A100-SXM4-80GB"}
            case |= {"num_virtual_tokens": 8, "trainable_layers": 1, "seq_len": 64}
            yield case | ({"num_gpus": 4} if case.get("sharding", "none") != "none" else {})


@pytest.mark.parametrize("key", WORDS)
def test_every_pair_of_words_is_answered_or_refused(key: str) -> None:
    """An estimate or a typed refusal with a sentence, never a crash, never a breach of the schema."""
    for case in pairs_with(key):
        check(ask(**case))


@pytest.mark.parametrize(
    "model", ["7b", "gpt2", "bert-base-uncased", "gemma-2-2b", "mixtral-8x7b", "qwen3-30b-a3b", "opt-125m"]
)
@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_families_are_answered_by_every_main_method(model: str, method: str) -> None:
    made = ask(model=model, method=method, gpu="H100 SXM5")
    check(made)
    assert "error" not in made


@pytest.mark.parametrize("sharding", ["none", "ddp", "fsdp", "zero1", "zero2", "zero3", "device_map"])
@pytest.mark.parametrize("quant", ["none", "nf4", "int8"])
def test_quants_meet_shardings(quant: str, sharding: str) -> None:
    """All but int8 in shards, which bitsandbytes can't cut."""
    made = ask(model="7b", quant=quant, sharding=sharding, gpu="A100-SXM4-80GB", num_gpus=1 if sharding == "none" else 4)
    check(made)
    assert ("error" in made) == (quant == "int8" and sharding in ("fsdp", "zero3"))


@pytest.mark.parametrize("task", ["classification", "token_classification", "embedding"])
def test_encoders_are_answered_for_their_tasks(task: str) -> None:
    made = ask(model="roberta-large", task=task, target_modules=["query", "value"], gpu="T4", seq_len=256)
    check(made)
    assert "error" not in made


def test_lines_are_answered_in_order_and_blank_ones_skipped() -> None:
    lines = [
        '{"id": "a", "model": "7b"}',
        "",
        "not json",
        '{"id": "b", "model": "nobody/nothing"}',
        "[1]",
        '{"id": "c", "model": "7b"}',
    ]
    made = list(answers([line.encode() for line in lines], CATALOG, None))
    assert [one.get("id") for one in made] == ["a", None, "b", None, "c"]
    assert ["error" in one for one in made] == [False, True, True, True, False]
    assert made[2]["error"]["key"] == "model"
    for one in made:
        ANSWER.validate(one)


def test_the_question_of_the_front_page() -> None:
    """32B by QLoRA on 16 GB: the weights alone are beyond it, and the answer says what would do."""
    made = ask(model="32b", method="qlora", gpu_memory_gib=16)
    assert made["fits"]["verdict"] == "does_not_fit"
    assert made["fits"]["margin_bytes"] < 0
    assert "GiB" in made["fits"]["reason"]
    assert "qwen2.5-32b" in made["warnings"][0]
    assert "time" not in made


def test_a_tight_job_is_told_the_nearest_change() -> None:
    made = ask(model="7b", gpu="A10G", micro_batch_size=4)
    assert made["fits"]["verdict"] == "does_not_fit"
    change = made["fits"]["reason"].partition("; ")[2].partition("; ")[2].removesuffix(" would fit")
    assert change == "loss liger" or change.startswith(("micro_batch_size", "quant"))


IN_FP16: Final[dict[str, Any]] = {"param_dtype": "float16", "autocast": "float16"}  # in bf16 a T4 writes its scores out


def test_what_loses_nothing_is_named_before_what_is_learned_from_is_cut() -> None:
    """No one of them is enough; together they are, and shorter sequences, which would do alone, are not advised."""
    asked: dict[str, Any] = {"model": "8b", "quant": "nf4", "kbit_upcast": "none", "gpu": "T4", "seq_len": 5000}
    asked |= IN_FP16 | {"micro_batch_size": 4, "gradient_accumulation_steps": 4}
    kept = {"loss": "liger"}, {"micro_batch_size": 2, "gradient_accumulation_steps": 8}
    assert [ask(**asked | one)["fits"]["verdict"] for one in (*kept, {"seq_len": 512})] == ["does_not_fit"] * 2 + ["fits"]
    reason = ask(**asked)["fits"]["reason"]
    assert reason.endswith("; loss liger and micro_batch_size 2 with gradient_accumulation_steps 8 together would fit")
    assert ask(**asked | kept[0] | kept[1])["fits"]["verdict"] == "fits"


@pytest.mark.parametrize("model", ["32b", "70b"])
@pytest.mark.parametrize("gpu", ["T4", "RTX 4090", "A100-SXM4-80GB"])
def test_changes_that_would_fit_together_do_when_they_are_typed(model: str, gpu: str) -> None:
    """Each of them is needed: what is left out of such a list was of no use."""
    asked: dict[str, Any] = {"model": model, "gpu": gpu, "seq_len": 8192, "micro_batch_size": 4}
    asked |= IN_FP16 if gpu == "T4" else {}
    words = ask(**asked)["fits"]["reason"].rpartition("; ")[2].removesuffix(" would fit").removesuffix(" together")
    parts = [part.split(" ") for part in re.split(r", | and ", words.replace(" with ", ", "))]
    changes = {key: int(said[0]) if said[:1] and said[0].isdigit() else said[0] if said else True for key, *said in parts}
    assert "loss" in changes
    assert ask(**asked | changes)["fits"]["verdict"] == "fits", words
    for key in changes.keys() & {"loss", "micro_batch_size", "optimizer", "offload", "seq_len"}:
        fewer = {name: value for name, value in changes.items() if name != key}
        assert ask(**asked | fewer)["fits"]["verdict"] != "fits", (key, words)


@pytest.mark.parametrize(
    "asked",
    [
        {"model": "32b", "method": "full", "offload": "params"},
        {"model": "14b", "method": "full", "offload": "optimizer"},
        {"model": "405b", "quant": "nf4", "kbit_upcast": "norms", "offload": "stream"},
    ],
    ids=lambda asked: str(asked["offload"]),
)
def test_what_waits_in_ram_takes_of_a_card_whose_memory_that_is(asked: dict[str, Any]) -> None:
    """571 GiB of RAM beside a GB10 were called a fit: the whole machine has 128."""
    made = ask(**asked, gpu="GB10")
    assert made["fits"]["verdict"] == "does_not_fit"
    assert "what is kept in RAM takes" in made["fits"]["reason"]
    alone = ask(**asked, gpu_memory_gib=116.5)
    assert alone["fits"]["verdict"] == "fits"  # whoever has RAM beside the card


def test_a_base_of_8_bits_is_told_the_checkpoint_that_lets_go_of_what_its_linears_keep() -> None:
    """81 GiB, and 27 with the other kind: a smaller micro-batch was named."""
    asked = {"model": "llama-3.1-8b", "quant": "int8", "kbit_upcast": "none", "loss": "liger", "gpu": "A100-SXM4-80GB"}
    made = ask(**asked, micro_batch_size=16)
    assert made["fits"]["reason"].endswith("; gradient_checkpointing reentrant would fit")
    other = ask(**asked, micro_batch_size=16, gradient_checkpointing="reentrant")
    assert other["vram"]["required_bytes"] < 0.4 * made["vram"]["required_bytes"]


def test_a_card_without_ram_beside_it_is_not_told_to_use_some() -> None:
    """Neither as what would fit nor among the levers."""
    asked = {"model": "70b", "gpu": "AGX Orin 32GB", "quant": "nf4", "kbit_upcast": "norms"}
    assert "offload" not in ask(**asked)["fits"]["reason"]
    assert "offload stream" in ask(**asked | {"gpu": "RTX 4090"})["fits"]["reason"]


def test_an_evaluation_that_does_not_fit_is_judged_by_its_own_peak() -> None:
    """And named, with what of evaluation would fit."""
    made = ask(model="qwen3-0.6b", gpu="T4", evaluation={"micro_batch_size": 32})
    assert made["vram"]["evaluation_peak_bytes"] > 6 * made["vram"]["allocated_peak_bytes"]
    assert made["fits"]["verdict"] == "does_not_fit"
    assert made["fits"]["reason"].startswith("evaluation takes ")
    remedy = made["fits"]["reason"].rpartition("; ")[2]
    size = int(remedy.removeprefix("evaluation micro_batch_size ").removesuffix(" would fit"))
    assert ask(model="qwen3-0.6b", gpu="T4", evaluation={"micro_batch_size": size})["fits"]["verdict"] == "fits"


@pytest.mark.parametrize("micro_batch_size", [1, 2, 3, 5])
def test_the_gpu_that_would_do_does_when_its_figure_is_typed(micro_batch_size: int) -> None:
    asked: dict[str, Any] = {"model": "falcon-7b", "quant": "int8", "seq_len": 64, "micro_batch_size": micro_batch_size}
    asked |= {"gradient_checkpointing": "off", "gpu": "T4", "gpu_memory_gib": 4}
    refused = ask(**asked)["fits"]["reason"]
    told = re.search(r"a GPU with ([\d.]+) GiB would", refused)
    assert told is not None, refused
    assert ask(**asked | {"gpu_memory_gib": float(told[1])})["fits"]["verdict"] == "fits"


def test_an_encoder_with_a_decoder_is_answered_and_both_sides_count() -> None:
    """T5: a token that is read meets the encoder, a token that is written the decoder, and each is kept."""
    made = ask(model="flan-t5-base", task="seq2seq", seq_len=512, gradient_checkpointing="off")
    assert made["total_params"] == 247_577_856
    assert made["engine"] == "closed_form"
    shorter = ask(model="flan-t5-base", task="seq2seq", seq_len=256, gradient_checkpointing="off")
    assert made["vram"]["components"]["activations"] > 2 * shorter["vram"]["components"]["activations"]


def test_a_rank_as_wide_as_the_model_is_answered_and_said() -> None:
    assert any("rank 768 is not below the width" in warning for warning in ask(model="gpt2", rank=768)["warnings"])
    assert not any("width of gpt2" in warning for warning in ask(model="gpt2", rank=64)["warnings"])


@pytest.mark.parametrize("method", [*supported_methods()])
def test_a_method_is_answered_by_its_name_alone(method: str) -> None:
    """Every key of the contract but `model` has a default, and what is taken for two of them is said."""
    made = ask(model="opt-125m", method=method, gpu="A100-SXM4-80GB")
    check(made)
    assert "error" not in made
    for key in ("num_virtual_tokens", "trainable_layers"):
        said = any(warning.startswith(f"{key} ") for warning in made["warnings"])
        assert said == (key in made["effective"])


@pytest.mark.parametrize(
    ("said", "gpu", "words"),
    [
        ({"quant": "nf4"}, "Gaudi2", "Gaudi2: bitsandbytes support is partial; quant none needs none"),
        ({"attention": "flash_attention_2"}, "T4", "FlashAttention-2 does not run on T4: attention sdpa is what to run"),
        ({"param_dtype": "bfloat16"}, "V100-SXM2-16GB", "does not compute in bfloat16; float16 needs the same memory"),
        ({"quant": "nf4"}, "M40 24GB", "bitsandbytes does not run on M40 24GB: quant none, or another card"),
        ({"seq_len": 512}, "GB10", "GB10 shares its machine's memory: what the system holds is not taken off"),
        ({"matmul_dtype": "fp8"}, "A100-SXM4-80GB", "does not multiply in fp8"),
        ({"matmul_dtype": "nvfp4"}, "H100 SXM5", "does not multiply in nvfp4"),
    ],
)
def test_what_a_card_cannot_do_is_said_with_what_it_can(said: dict[str, Any], gpu: str, words: str) -> None:
    """An estimate all the same: the bytes are those of a card that can."""
    warnings = ask(model="opt-125m", gpu=gpu, **said)["warnings"]
    assert any(words in warning for warning in warnings)
    assert not any(words in warning for warning in ask(model="opt-125m", gpu="B200", **said)["warnings"])


@pytest.mark.parametrize(("key", "value", "meant"), [("double_quant", False, "true"), ("quant", "none", "nf4")])
def test_what_qlora_overrules_is_said(key: str, value: Any, meant: str) -> None:
    warnings = ask(model="7b", method="qlora", **{key: value})["warnings"]
    assert any(f"method qlora means {key} {meant}" in warning for warning in warnings)
    assert not any("overruled" in warning for warning in ask(model="7b", method="qlora", double_quant=True)["warnings"])


def test_no_component_is_less_than_nothing() -> None:
    """A block whose backward has freed more than it has made is fewer activations, no negative scratch."""
    asked: dict[str, Any] = {"model": "llama-3.1-70b", "method": "freeze", "trainable_layers": 2, "attention": "eager"}
    vram = ask(**asked, gradient_checkpointing="off", seq_len=512)["vram"]
    assert min(vram["components"].values()) >= 0
    assert sum(vram["components"].values()) == vram["allocated_peak_bytes"]


@pytest.mark.parametrize("names", [["lm_head", "lm_head"], ["embed_tokens"], ["embed_tokens", "model.embed_tokens"]])
def test_a_matrix_that_is_saved_counts_once_however_often_it_is_named(names: list[str]) -> None:
    one = ask(model="llama-3.1-8b", modules_to_save=["lm_head"])["trainable_params"]
    assert ask(model="llama-3.1-8b", modules_to_save=names)["trainable_params"] == one


@pytest.mark.parametrize("key", ["modules_to_save", "target_modules"])
@pytest.mark.parametrize(
    ("model", "name", "own"),
    [("llama-3.1-8b", "wte", "embed_tokens and lm_head"), ("pythia-1.4b", "embed_out", "embed_in and lm_head")],
)
def test_a_vocabulary_matrix_of_another_family_is_refused_with_the_names_of_this_one(
    key: str, model: str, name: str, own: str
) -> None:
    """Peft passes over it in silence and trains nothing by it; it was counted as trained."""
    refused = ask(model=model, **{key: [name]})["error"]
    assert (refused["key"], refused["hint"]) == (key, f"it has {own}")
    assert refused["message"].endswith(f"has no module {name}")


def test_a_module_that_a_method_does_not_save_is_said_to_be_in_vain() -> None:
    bare = ask(model="llama-3.1-8b", method="prompt_tuning", num_virtual_tokens=8)
    said = ask(model="llama-3.1-8b", method="prompt_tuning", num_virtual_tokens=8, modules_to_save=["lm_head"])
    assert said["trainable_params"] == bare["trainable_params"]
    assert any("modules_to_save has no effect" in warning for warning in said["warnings"])


def test_an_option_that_moves_memory_is_not_called_vain() -> None:
    some = ask(model="qwen3-0.6b", method="fourierft", method_options={"n_frequency": 1000})
    more = ask(model="qwen3-0.6b", method="fourierft", method_options={"n_frequency": 4000})
    assert more["trainable_params"] == 4 * some["trainable_params"]
    assert not any("method_options has no effect" in warning for warning in more["warnings"])


def test_experts_that_are_split_for_bitsandbytes_have_no_closed_form() -> None:
    refused = ask(model="llama-4-scout", method="qlora", engine="closed_form")["error"]
    assert (refused["key"], refused["hint"]) == ("quant", "quant none; or engine trace")


@pytest.mark.parametrize(
    ("said", "key", "hint"),
    [
        ({"model": "bloom-560m", "attention": "flash_attention_2"}, "attention", "attention eager"),
        ({"model": "gpt-oss-20b", "attention": "flash_attention_2"}, "attention", "attention eager"),
        ({"model": "flan-t5-base", "attention": "flash_attention_2"}, "attention", "attention sdpa"),
        ({"pipeline_parallel_size": 64, "num_gpus": 64}, "pipeline_parallel_size", "pipeline_parallel_size 32"),
        ({"tensor_parallel_size": 6, "num_gpus": 6}, "tensor_parallel_size", "tensor_parallel_size 2"),
        ({"tensor_parallel_size": 64, "num_gpus": 64}, "tensor_parallel_size", "tensor_parallel_size 32"),
        ({"context_parallel_size": 4, "num_gpus": 4, "seq_len": 6}, "context_parallel_size", "context_parallel_size 3 at most"),
        ({"expert_parallel_size": 4}, "expert_parallel_size", "expert_parallel_size 1"),
        ({"model": "mixtral-8x7b", "expert_parallel_size": 4}, "expert_parallel_size", "expert_parallel_size 1"),
        ({"vision": {}}, "vision", "leave vision out: the language model alone has one"),
    ],
)
def test_what_a_base_does_not_do_or_can_t_be_cut_into_is_refused_with_what_would_do(
    said: dict[str, Any], key: str, hint: str
) -> None:
    said = {"model": "8b"} | said
    refused = ask(**said)["error"]
    assert (refused["key"], refused["hint"]) == (key, hint)
    if hint.startswith(f"{key} ") and key != "expert_parallel_size":
        value: Any = hint.split()[1]
        number = int(value) if value.isdigit() else 0
        changed = {key: number, "num_gpus": number} if number else {key: value}
        assert "vram" in ask(**said | changed)


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ({"method": "dora", "quant": "fp8"}, "method lora has one"),  # the closed form's own way out
        ({"method": "miss", "quant": "fp8"}, "another quant, or a method that has a closed form, such as lora"),
    ],
)
@pytest.mark.parametrize("engine", ["trace", "auto"])
def test_no_hint_names_an_engine_that_can_t_answer_either(said: dict[str, Any], hint: str, engine: str) -> None:
    refused = ask(**{"model": TINY_LLAMA, "engine": engine} | said)["error"]
    assert refused["hint"] == hint


@pytest.mark.torch
def test_a_shape_that_has_no_closed_form_is_traced() -> None:
    """Of a type that has one otherwise; who wants no trace is told what would have a closed form."""
    said = {"model": {**TINY_LLAMA, "model_type": "phi", "qk_layernorm": True}}
    found = ask(**said, engine="auto")
    assert found["engine"] == "trace"
    refused = ask(**said, engine="closed_form")["error"]
    assert refused["message"].endswith("Phi with norms on queries and keys has no closed form")
    assert refused["hint"] == "qk_layernorm false, or name another base; or engine trace"


def test_the_text_part_alone_is_estimated_and_that_is_said() -> None:
    nested = {"model_type": "mistral3", "text_config": {**TINY_LLAMA, "model_type": "mistral"}, "vision_config": {}}
    assert any("without its vision tower" in warning for warning in ask(model=nested)["warnings"])


def test_a_prefix_is_estimated_without_checkpointing_and_effective_shows_it() -> None:
    """Where nothing was said of it; what is said all the same is refused."""
    prefix = {"model": TINY_LLAMA, "method": "prefix_tuning", "num_virtual_tokens": 8}
    assert ask(**prefix)["effective"]["gradient_checkpointing"] == "off"
    assert ask(**prefix, gradient_checkpointing="non_reentrant")["error"]["key"] == "gradient_checkpointing"


def test_a_shorter_sequence_that_would_fit_is_one_that_the_case_can_be_typed_with() -> None:
    """Rows of 3,000 tokens in the mean can't be in sequences of 2,048: both are named, and both are accepted."""
    small: dict[str, Any] = {"rank": 1, "target_modules": ["q_proj"], "adapter_dtype": "bfloat16", "loss": "chunked"}
    small |= {"gradient_checkpointing": "offloaded", "offload": "optimizer", "optimizer": "paged_adamw_8bit"}
    asked = {"model": "8b", "quant": "nf4", "kbit_upcast": "none", "seq_len": 4096, "mean_seq_len": 3000.0} | small
    reason = ask(**asked, gpu_memory_gib=7)["fits"]["reason"]
    assert reason.endswith("; seq_len 2048 with mean_seq_len 2048 would fit")
    assert ask(**asked | {"seq_len": 2048, "mean_seq_len": 2048.0}, gpu_memory_gib=7)["fits"]["verdict"] == "fits"


def test_host_ram_gets_a_verdict_of_its_own() -> None:
    assert ask(model="7b", host_ram_gib=64)["ram"]["verdict"] == "fits"
    assert ask(model="7b", host_ram_gib=4)["ram"]["verdict"] == "does_not_fit"
    assert "verdict" not in ask(model="7b")["ram"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"alpha": 32}, "alpha has no effect"),
        ({"rank": 8, "method": "full"}, "rank has no effect"),
        ({"alpha": 8, "method": "full"}, "the method has no rank that it would scale"),
        ({"target_modules": "q_proj", "method": "full"}, "target_modules has no effect"),
        ({"dropout": 0.1, "method": "full"}, "dropout has no effect"),
        ({"double_quant": True}, "double_quant has no effect"),
        ({"mean_seq_len": 100}, "mean_seq_len has no effect"),
        ({"seq_len": 100_000}, "longer than"),
        ({"gpu": "A100"}, "names several cards"),
        ({"gpu": "T4"}, "float16"),
        ({"quant": "nf4", "sharding": "fsdp", "num_gpus": 2}, "quant_storage bfloat16"),
        ({"model": "gemma-2-2b"}, "eager attention"),
        ({"model": "bloom-560m"}, "no fused attention for bloom"),
        ({"model": "falcon-7b", "method": "qlora"}, "transformers 5 leaves falcon's linears unquantized"),
        ({"model": "chatglm3-6b"}, "comes with its weights"),
        ({"gpu": "MI250", "quant": "fp8"}, "unpacks FP8 weights to 16 bits on MI250"),
        ({"gpu": "H100 SXM5", "matmul_dtype": "nvfp4"}, "H100 SXM5 does not multiply in nvfp4"),
        ({"gpu": "H100 SXM5", "num_gpus": 4, "sharding": "ddp", "pipeline_parallel_size": 4}, "a pipeline's stages wait"),
    ],
)
def test_what_is_said_in_vain_or_assumed_is_told(said: dict[str, Any], words: str) -> None:
    made = ask(**{"model": "7b", **said})
    assert any(words in warning for warning in made["warnings"])


def test_a_plain_case_warns_of_nothing_but_its_model() -> None:
    assert len(ask(model="qwen2.5-7b", gpu="L4", rank=8)["warnings"]) == 1


def test_a_wrong_gpu_is_answered_with_the_nearest() -> None:
    error = ask(model="7b", gpu="A1OO-SXM4-80GB")["error"]
    assert error["key"] == "gpu"
    assert "A100" in error["message"]


@pytest.mark.parametrize(
    "line",
    [
        "[" * 200_000,
        '{"model": ' + "[" * 200_000,
        json.dumps({"model": "x" * 3_000_000}),
        json.dumps({"model": "nul\0"}),
        json.dumps({"model": {"model_type": ["llama"]}}),
        json.dumps({"model": "7b", "seq_len": 10**40}),
        json.dumps({"model": "7b", "versions": {"a": 1}}),
        json.dumps({"model": "7b", "id": 3}),
        "{",
        "\0",
    ],
    ids=range(10),
)
def test_one_bad_line_is_one_error_and_the_rest_go_on(line: str, tmp_path: Path) -> None:
    good = b'{"model": "7b"}'
    first, bad, last = answers([b"\xef\xbb\xbf" + good, line.encode(), good], CATALOG, tmp_path)
    assert "error" in bad
    assert len(json.dumps(bad)) < 2_000
    assert first == last
    assert "vram" in first


def test_a_line_that_is_no_text_is_one_error_and_says_which() -> None:
    first, bad, last = answers([b'{"model": "7b"}', b'{"model": "\xff7b"}', b'{"model": "7b"}'], CATALOG, None)
    assert bad["error"]["message"].startswith("line 2 is not UTF-8 text")
    assert first == last
    assert "vram" in first


STORED_IN_GPTQ = {**resolve_model("7b").config, "quantization_config": {"quant_method": "gptq", "bits": 4}}


@pytest.mark.parametrize("quant", ["none", "nf4", "fp4", "int8"])
@pytest.mark.parametrize("engine", ["auto", "closed_form", "trace"])
def test_weights_that_are_stored_quantized_are_not_taken_for_plain_ones(quant: str, engine: str) -> None:
    error = ask(model=STORED_IN_GPTQ, quant=quant, engine=engine)["error"]
    assert error["key"] == "model"
    assert f"is stored in gptq_int4, not in {quant}" in error["message"]
    assert "name the base that it was made from" in error["hint"]


def test_a_base_that_was_packed_on_the_disk_is_estimated_as_it_is_packed() -> None:
    packed = {**STORED_IN_GPTQ, "quantization_config": {"quant_method": "bitsandbytes"}}
    packed |= {PACKED_KEY: {"quant": "nf4", "double_quant": True}}
    assert "vram" in ask(model=packed, quant="nf4", double_quant=True)
    assert "is packed in nf4 with double_quant true, not in nf4" in ask(model=packed, quant="nf4")["error"]["message"]


def test_a_case_may_say_the_quantization_that_is_stored_or_leave_it_to_the_base() -> None:
    said, unsaid = ask(model=STORED_IN_GPTQ, quant="gptq_int4"), ask(model=STORED_IN_GPTQ)
    assert said["vram"] == unsaid["vram"]
    assert unsaid["vram"]["components"]["weights"] < 0.5 * ask(model="7b")["vram"]["components"]["weights"]
    refused = ask(model=STORED_IN_GPTQ, method="full")["error"]
    assert "is stored in gptq_int4, not in none" in refused["message"]


def test_a_failure_that_nobody_foresaw_stays_in_its_line() -> None:
    """Whatever breaks, the other lines keep their answers."""
    broken = msgspec.structs.replace(CATALOG, gpu_words=None)
    bad, good = answers([b'{"model": "7b", "gpu": "L4", "id": "mine"}', b'{"model": "7b"}'], broken, None)
    assert bad["id"] == "mine"
    assert bad["error"]["message"].startswith("line 1: it can't be answered")
    assert "vram" in good


def test_a_card_with_less_than_the_process_takes_may_do_and_that_is_said() -> None:
    """Where spare cache makes the difference, and only there."""
    told = []
    for said in ({"model": "7b", "method": "qlora"}, {"model": "13b"}):
        made = ask(**said)
        below = made["vram"]["required_bytes"] < made["vram"]["process_peak_bytes"]
        told.append(any("spare cache" in warning for warning in made["warnings"]))
        assert told[-1] == below
    assert told == [True, False]


# ── evaluation that nobody spoke of ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "warned"),
    [
        ({"stack": "trl"}, True),
        ({"stack": "trl", "evaluation": {"micro_batch_size": 8}}, False),  # it decides, then
        ({"stack": "trl", "gpu": "H200 SXM"}, False),  # there is room for it
        ({"stack": "axolotl"}, False),  # takes training's batch
        ({}, False),  # our own trainer does as well
    ],
)
def test_a_trainer_s_own_batch_of_evaluation_is_warned_of_where_it_would_not_fit(said: dict[str, Any], warned: bool) -> None:
    case = {"model": "1b", "seq_len": 4096, "gpu": "T4", "autocast": "float16", "param_dtype": "float16"} | said
    made = answer(case, CATALOG, None)
    words = [each for each in made["warnings"] if each.startswith("evaluation:")]
    assert bool(words) == warned
    if warned:
        assert made["fits"]["verdict"] == "fits"
        outright = answer(case | {"evaluation": {"micro_batch_size": 8}}, CATALOG, None)
        assert outright["fits"]["verdict"] == "does_not_fit"
        assert f"{outright['vram']['required_bytes'] / 2**30:.1f} GiB" in words[0]


@pytest.mark.parametrize("asked", [{}, {"seq_len": 2048}])
@pytest.mark.parametrize("stack", ["trl", "unsloth", "llamafactory"])
def test_evaluation_takes_the_trainer_s_own_batch_where_none_is_said(stack: str, asked: dict[str, Any]) -> None:
    """Asking for evaluation must not promise a fit of the batch that would then not run."""
    case = {"model": "llama-3.1-8b", "stack": stack, "gpu": "4090"}
    told = answer(case | {"evaluation": asked}, CATALOG, None)
    eight = answer(case | {"evaluation": asked | {"micro_batch_size": 8}}, CATALOG, None)
    assert told["vram"] == eight["vram"]
    assert told["fits"]["verdict"] == "does_not_fit"
    assert told["effective"]["evaluation"]["micro_batch_size"] == 8
    said = (
        f"evaluation: no micro_batch_size is said, and 8 sequences at a time are taken, as {stack} does unless told otherwise"
    )
    assert said in told["warnings"]
    assert said not in eight["warnings"]


@pytest.mark.parametrize("stack", ["transformers", "axolotl"])
def test_evaluation_takes_training_s_batch_where_the_trainer_does(stack: str) -> None:
    case = {"model": "llama-3.1-8b", "stack": stack, "gpu": "4090", "micro_batch_size": 2}
    told = answer(case | {"evaluation": {}}, CATALOG, None)
    two = answer(case | {"evaluation": {"micro_batch_size": 2}}, CATALOG, None)
    assert told["vram"] == two["vram"]
    assert not any(each.startswith("evaluation:") for each in told["warnings"])


def test_two_16_bit_types_in_one_job_have_no_closed_form() -> None:
    """By sizes they look like one; each frozen weight is cast at each use and its copy kept, a third of the memory."""
    case = {"model": "1b", "seq_len": 512, "param_dtype": "float16", "engine": "closed_form"}
    told = answer(case, CATALOG, None)
    assert "mix float16 and bfloat16" in told["error"]["message"]
    assert "float16" in told["error"]["hint"]
    assert "vram" in answer(case | {"autocast": "float16"}, CATALOG, None)


@pytest.mark.parametrize(
    ("said", "warned"),
    [
        ({"gpu_memory_gib": 24}, True),
        ({"gpu_memory_gib": 22.2}, False),
        ({"gpu_memory_gib": 24, "gpu": "L4"}, False),  # a card is named: the figure says what of it the job may have
    ],
)
def test_a_size_that_cards_are_sold_with_is_said_to_be_more_than_they_leave(said: dict[str, Any], warned: bool) -> None:
    words = [each for each in answer({"model": "1b", **said}, CATALOG, None)["warnings"] if each.startswith("gpu_memory_gib:")]
    assert bool(words) == warned
    assert not warned or "leave it 21.8 GiB to 23.7 GiB" in words[0]


def test_what_the_default_of_a_quantized_base_stands_for_is_said_where_it_was_not() -> None:
    """A plan of the same words needs less: its trainer casts the norms alone."""
    said = {"model": "8b", "quant": "nf4"}
    full, norms = (ask(**said, **more) for more in ({}, {"kbit_upcast": "norms"}))
    [note] = [note for note in full["warnings"] if note.startswith("kbit_upcast: ")]
    assert "prepare_model_for_kbit_training" in note
    assert "say kbit_upcast norms" in note
    assert full["vram"]["required_bytes"] > norms["vram"]["required_bytes"] + 2**30
    for quiet in (norms, ask(model="8b")):
        assert not any(note.startswith("kbit_upcast: ") for note in quiet["warnings"])


# ── what a card has no kernels for ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ({"gpu": "K80", "optimizer": "adamw_8bit"}, "bitsandbytes, whose adamw_8bit is, does not run on K80"),
        ({"gpu": "M40 24GB", "optimizer": "paged_adamw_32bit"}, "bitsandbytes, whose paged_adamw_32bit is"),
        ({"gpu": "Gaudi2", "optimizer": "lion_8bit"}, "bitsandbytes support is partial; optimizer adamw_torch needs none"),
        ({"gpu": "P100 16GB", "stack": "trl", "loss": "liger"}, "loss liger needs Triton"),
        ({"gpu": "P100 16GB", "kernels": "compiled"}, "kernels compiled needs Triton"),
    ],
)
def test_kernels_that_a_card_lacks_are_told(said: dict[str, Any], word: str) -> None:
    case = {"model": "1b", "seq_len": 512, "autocast": "float16", "param_dtype": "float16"} | said
    assert any(word in each for each in answer(case, CATALOG, None)["warnings"])


@pytest.mark.parametrize(
    "said",
    [
        {"gpu": "T4", "stack": "trl", "loss": "liger"},
        {"gpu": "P100 16GB", "loss": "liger"},  # our own trainer's is torch's own operations
        {"gpu": "K80", "optimizer": "adamw_torch"},
    ],
)
def test_kernels_that_a_card_has_or_nobody_asks_for_are_not_told(said: dict[str, Any]) -> None:
    case = {"model": "1b", "seq_len": 512, "autocast": "float16", "param_dtype": "float16"} | said
    assert not any("Triton" in each or "bitsandbytes" in each for each in answer(case, CATALOG, None)["warnings"])


def test_what_a_card_has_no_kernels_for_is_not_what_would_fit() -> None:
    case = {
        "model": "1b",
        "method": "full",
        "stack": "trl",
        "seq_len": 2048,
        "gpu": "K80",
        "param_dtype": "float32",
        "autocast": "float16",
    }
    reason = answer(case, CATALOG, None)["fits"]["reason"]
    assert not {"liger", "8bit", "nf4"} & set(reason.replace("_", " ").replace(";", " ").split())


@pytest.mark.parametrize(
    "said",
    [{"method": "full", "param_dtype": "float16"}, {"method": "lora", "adapter_dtype": "float16", "param_dtype": "float16"}],
)
def test_float16_weights_do_not_train_under_a_float16_autocast(said: dict[str, Any]) -> None:
    told = answer({"model": "1b", "autocast": "float16", "engine": "closed_form"} | said, CATALOG, None)["warnings"]
    assert any("refuses to unscale gradients of float16 weights" in each for each in told)
