"""What a person types as a model, and the registry behind it."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path
from typing import Any

import pytest

from catalogs.bases.models import (
    ModelUnknown,
    Said,
    TypeNotDescribed,
    hub_id_of,
    is_size,
    outlined,
    packed_copy,
    registry,
    resolve_model,
    row_of,
)

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 1000,
}


def test_the_registry_is_broad_enough() -> None:
    """At least 60 bases with weights on the hub, of every kind, from a hundred million parameters to 671 billion."""
    rows = [row for row in registry() if row.hub]
    assert len(rows) >= 60
    bases = [resolve_model(row.name) for row in rows]
    assert {base.kind for base in bases} == {"decoder", "encoder", "encoder_decoder"}
    assert sum(base.num_experts > 0 for base in bases) >= 8
    sizes = [base.num_params for base in bases]
    assert min(sizes) < 150e6
    assert max(sizes) > 670e9


@pytest.mark.parametrize("row", registry(), ids=lambda row: row.name)
def test_a_row_counts_to_what_the_hub_counts(row: Any) -> None:
    """The config, through its family, gives the published number of parameters exactly."""
    if row.num_params is not None:
        assert resolve_model(row.name).num_params == row.num_params


def test_few_rows_stand_without_a_published_count() -> None:
    """Of a language part alone no count is published, nor of shapes that were trained but not given away."""
    uncounted = {row.name for row in registry() if row.num_params is None and row.hub}
    parts = {row.name for row in registry() if "the language part alone" in row.source}
    unread = {row.name for row in registry() if "no count of parameters was at hand" in row.source}
    granite = {"granite-3.0-3b-a800m", "granite-4.0-tiny-preview", "granite-4.0-h-small"}
    ibm = {"powerlm-3b", "moe-7b-1b-active-shared-experts"}
    assert uncounted - parts - unread == granite | ibm | {"falcon-11b", "falcon-180b", "opt-66b", "mpt-30b"}
    assert len(unread) < len(registry()) / 6


def test_every_row_says_where_and_when() -> None:
    for row in registry():
        assert (row.hub or [row.name])[0] in row.source
        assert (row.confidence == "medium") == ("recalled" in row.source or not row.hub)
        assert dt.date.fromisoformat(row.as_of) <= dt.date(2030, 1, 1)


@pytest.mark.parametrize(
    ("reference", "hub_id", "size"),
    [
        ("7b", "Qwen/Qwen2.5-7B", True),
        ("Qwen2.5-7B", "Qwen/Qwen2.5-7B", False),
        ("qwen/qwen2.5-7b-instruct", "Qwen/Qwen2.5-7B-Instruct", False),
        ("owner/name", None, False),
        ("./folder", None, False),
        ("8.5b", None, True),
    ],
)
def test_the_weights_of_a_name_are_known_by_their_hub_id(reference: str, hub_id: str | None, size: bool) -> None:
    """A size is a shape; the id is of the model that has it."""
    assert (hub_id_of(reference), is_size(reference)) == (hub_id, size)


def test_no_name_means_two_models() -> None:
    names = [word.lower() for row in registry() for word in (row.name, *row.hub, *row.sizes)]
    doubled = {name for name in names if names.count(name) > 1}
    assert doubled <= {row.name for row in registry()}  # a hub id may equal the row's own name: gpt2
    sizes = [word for row in registry() for word in row.sizes]
    assert len(sizes) == len(set(sizes))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("32b", "qwen2.5-32b"),
        ("7B", "qwen2.5-7b"),
        ("350m", "smollm2-360m"),
        ("META-LLAMA/Llama-3.1-8b", "llama-3.1-8b"),
        (" qwen3-14b ", "qwen3-14b"),
        ("bert-base-uncased", "bert-base-uncased"),
    ],
)
def test_names_are_understood_without_a_download(typed: str, meant: str) -> None:
    assert resolve_model(typed).name == meant


@pytest.mark.parametrize(
    ("typed", "meant", "weights"),
    [
        ("somebody/Qwen2.5-7B-Instruct", "qwen2.5-7b", None),
        ("unsloth/llama-3-8b-bnb-4bit", "llama-3-8b", None),
        ("unsloth/Llama-3.3-70B-Instruct-unsloth-bnb-4bit", "llama-3.1-70b", None),
        ("TheBloke/Llama-2-7B-GPTQ", "llama-2-7b", None),
        ("Llama-2-7b-hf", "llama-2-7b", "meta-llama/Llama-2-7b-hf"),
        ("Qwen/Qwen2.5-32B-Instruct-GPTQ-Int4", "qwen2.5-32b", None),
        ("meta-llama/Meta-Llama-3.1-405B-Instruct-FP8", "llama-3.1-405b", None),
        ("deepseek-ai/DeepSeek-V3-0324", "deepseek-v3", None),
        ("THUDM/chatglm2-6b-32k", "chatglm2-6b", None),
        ("Open-Orca/Mistral-7B-OpenOrca", "mistral-7b", None),
        ("llama3.1-70b", "llama-3.1-70b", "meta-llama/Llama-3.1-70B"),
        ("gemma2-9b", "gemma-2-9b", "google/gemma-2-9b"),
        ("stablelm-2-1.6b-chat", "stablelm-2-1.6b", None),
    ],
)
def test_a_copy_by_another_owner_has_the_shape_of_what_it_is_named_for(typed: str, meant: str, weights: str | None) -> None:
    """And says that it was taken so. What it weighs on the hub is its owner's: no other id is put in its place."""
    base = resolve_model(typed)
    assert base.name == meant
    assert f"{typed} is taken for a copy, by its name" in base.source
    assert hub_id_of(typed) == weights


@pytest.mark.parametrize(
    ("typed", "meant", "weights"),
    [
        ("gpt-j", "gpt-j-6b", "EleutherAI/gpt-j-6b"),
        ("GPT-NeoX", "gpt-neox-20b", "EleutherAI/gpt-neox-20b"),
        ("chatglm3", "chatglm3-6b", "THUDM/chatglm3-6b"),
        ("smollm3", "smollm3-3b", "HuggingFaceTB/SmolLM3-3B"),
        ("gpt3", "gpt3-175b", None),
    ],
)
def test_a_family_of_one_size_is_that_and_says_so(typed: str, meant: str, weights: str | None) -> None:
    base = resolve_model(typed)
    assert base.name == meant
    assert f"{typed} is taken for the one size of it that is known" in base.source
    assert hub_id_of(typed) == weights


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("llama2", ("llama-2-7b", "llama-2-13b", "llama-2-70b")),
        ("mistral", ("mistral-7b", "mistral-nemo-12b")),
        ("qwen2.5", ("qwen2.5-0.5b", "qwen2.5-72b")),
        ("bert-base", ("bert-base-uncased", "bert-base-cased")),
        ("phi-3", ("phi-3-mini", "phi-3-medium")),
        ("vicuna-7b", ("lmsys/vicuna-7b-v1.5", "lmsys/vicuna-7b-v1.3")),
        ("llama", ("llama-2-7b", "…")),
    ],
)
def test_a_family_of_several_sizes_is_answered_with_their_names(typed: str, names: tuple[str, ...]) -> None:
    with pytest.raises(ModelUnknown, match=f"{typed} is only the beginning of a name; name the whole: ") as refused:
        resolve_model(typed)
    assert all(name in str(refused.value) for name in names)


def test_what_another_owner_calls_by_a_family_is_none_of_ours() -> None:
    with pytest.raises(ModelUnknown, match="no model somebody/gpt-j"):
        resolve_model("somebody/gpt-j")


@pytest.mark.parametrize(
    "typed",
    [
        "somebody/Llama-3.1-Minitron-4B-Depth-Base",
        "somebody/Mistral-7B-Vision",
        "somebody/Llama-2-7b-MoE-4x",
        "somebody/Qwen2.5-7B-to-3B",
        "somebody/phi-4-what",
        "bloom-800m",
        "opt-13",
    ],
)
def test_a_name_that_says_other_blocks_is_no_copy(typed: str) -> None:
    """What stands behind a size is a tuning, unless it is another size, a mixture, or sees."""
    with pytest.raises(ModelUnknown):
        resolve_model(typed)


def test_a_name_that_shortened_could_be_of_two_bases_is_neither() -> None:
    """Vicuna 1.3 is a Llama, 1.5 a Llama 2."""
    assert resolve_model("lmsys/vicuna-7b-v1.5").name != resolve_model("lmsys/vicuna-7b-v1.3").name
    with pytest.raises(ModelUnknown):
        resolve_model("vicuna-7b")


@pytest.mark.parametrize(
    "typed",
    [
        *("Qwen/Qwen2.5-VL-7B-Instruct", "llava-hf/llava-1.5-7b-hf", "OpenGVLab/InternVL2-8B"),
        *("mistralai/Mistral-Small-3.1-24B-Instruct-2503", "mistralai/Ministral-3-8B-Instruct-2512", "google/gemma-4-E4B-it"),
    ],
)
def test_a_base_that_sees_is_not_estimated_yet(typed: str) -> None:
    with pytest.raises(ModelUnknown, match="sees images, and bases that do are not estimated yet"):
        resolve_model(typed)


@pytest.mark.parametrize(
    ("typed", "how"),
    [
        ("TheBloke/Llama-2-7B-GPTQ", ("gptq", "llama-2-7b")),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8", ("gptq", "qwen2.5-7b")),
        ("somebody/Llama-2-7B-AWQ", ("awq", "llama-2-7b")),
        ("unsloth/llama-3-8b-bnb-4bit", ("bitsandbytes", "llama-3-8b")),
        ("Qwen/Qwen-7B-Chat-Int4", ("4 bits", "qwen-7b")),
        ("somebody/Llama-2-7b-hf", None),
    ],
)
def test_a_copy_says_by_its_name_how_it_is_stored(typed: str, how: tuple[str, str] | None) -> None:
    assert packed_copy(typed) == how


def test_a_base_that_is_outlined_is_known_by_its_names_and_left_to_a_trace() -> None:
    """Its config is what transformers builds; nothing here counts what its blocks hold."""
    names = [name.lower() for row in (*outlined(), *registry()) for name in {row.name, *row.hub}]
    assert len(names) == len(set(names))
    for row in outlined():
        assert row.hub[0] in row.source
        for name in (row.name, *row.hub):
            with pytest.raises(TypeNotDescribed) as found:
                resolve_model(name)
            assert found.value.outline.config == row.config


@pytest.mark.parametrize("typed", ["./llama-2-7b", "~/models/llama-2-7b", "/models/llama-2-7b", "a/b/gpt2", "llama-2-7b/"])
def test_a_path_that_leads_nowhere_is_no_copy(typed: str) -> None:
    with pytest.raises(ModelUnknown, match=r"no model"):
        resolve_model(typed)


def test_a_size_word_names_the_shape_it_takes() -> None:
    assert "typical shape of 32b: qwen2.5-32b" in resolve_model("32b").source


def test_a_config_is_read_from_a_file_a_folder_or_the_case_itself(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    by_file = resolve_model("my-model/config.json", base=tmp_path)
    by_folder = resolve_model("my-model", base=tmp_path)
    inline = resolve_model(LLAMA)
    assert by_file.num_params == by_folder.num_params == inline.num_params
    assert by_file.name == by_folder.name == "my-model"


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("45b", "nearest sizes: 34b, 40b, 47b, 65b"),
        ("qwen2.5-33b", "qwen2.5-32b"),
        ("nobody/nothing", "config.json"),
    ],
)
def test_an_unknown_model_is_answered_with_the_nearest(typed: str, words: str) -> None:
    with pytest.raises(ModelUnknown) as refused:
        resolve_model(typed)
    assert words in str(refused.value)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnknown, match=r"no config\.json and no GGUF file"):
        resolve_model(".", base=tmp_path)
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(ModelUnknown, match="2 GGUF files"):
        resolve_model(".", base=tmp_path)


@pytest.mark.parametrize("content", ["{", "[1, 2]"])
def test_a_broken_config_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelUnknown):
        resolve_model("config.json", base=tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"hidden_size": -64}, "hidden_size is -64"),
        ({"hidden_size": 10**30}, "hidden_size is 1000"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"num_key_value_heads": 0}, "num_key_value_heads is 0"),
        ({"num_key_value_heads": 3}, "4 heads can't share 3 key heads"),
        ({"num_attention_heads": 5}, "a width of 64 can't be cut into 5 heads"),
        ({"model_type": ["llama"]}, "model type"),
        ({"tie_word_embeddings": "maybe"}, "tie_word_embeddings is 'maybe'; tie_word_embeddings must be true or false"),
        ({"mlp_bias": 1}, "mlp_bias is 1; mlp_bias must be true or false"),
        ({"attention_dropout": 7}, "attention_dropout is 7; attention_dropout must be from 0 to 1"),
        ({"attention_dropout": "a"}, "attention_dropout is 'a'"),
        ({"quantization_config": "x"}, "quantization_config is 'x'; quantization_config must be an object"),
        ({"quantization_config": {"quant_method": 4}}, "quantization_config is {'quant_method': 4}"),
        (
            {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 5},
            "each token goes through 5 of 4 experts; num_experts_per_tok must be at most 4",
        ),
    ],
)
def test_a_shape_that_no_model_has_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelUnknown, match=words):
        resolve_model(LLAMA | changes)


def test_a_complaint_about_a_folder_names_the_file_in_it(tmp_path: Path) -> None:
    """Also where the file that says how the weights are packed lies beside the config."""
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA | {"quantization_config": "gptq"}))
    with pytest.raises(ModelUnknown, match=r"^base/config\.json: quantization_config is 'gptq'"):
        resolve_model("base", base=tmp_path)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelUnknown, match=r"^base/config\.json is not a readable"):
        resolve_model("base", base=tmp_path)
    (folder / "config.json").write_text(json.dumps(LLAMA | {"quantization_config": {"quant_method": "awq"}}))
    assert resolve_model("base", base=tmp_path).source == "base/config.json"
    (folder / "config.json").write_text(json.dumps(LLAMA))
    (folder / "quantize_config.json").write_text('{"bits": 4}')
    packed = resolve_model("base", base=tmp_path)
    assert (packed.source, packed.config["quantization_config"]) == ("base/quantize_config.json", {"quant_method": "gptq"})


def test_a_config_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("\ufeff" + json.dumps(LLAMA), encoding="utf-8")
    assert resolve_model("config.json", base=tmp_path).num_layers == 2


@pytest.mark.parametrize("name", ["", "x" * 5_000, "nul\0", "~nobody-of-this-name/x", "deep.json", "pipe", "pipe.gguf", "."])
def test_whatever_is_named_is_answered_in_a_short_sentence(name: str, tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 200_000)
    for pipe in ("pipe", "pipe.gguf"):
        os.mkfifo(tmp_path / pipe)
    with pytest.raises(ModelUnknown) as refused:
        resolve_model(name, base=tmp_path)
    assert len(str(refused.value)) < 1_000


def test_a_config_is_called_by_its_file_and_a_folder_s_config_json_by_its_folder(tmp_path: Path) -> None:
    """A file among others says more than the folder that they lie in."""
    text = json.dumps(LLAMA)
    (tmp_path / "mine").mkdir()
    for place in ("odd.json", "mine/config.json"):
        (tmp_path / place).write_text(text)
    names = [resolve_model(said, base=tmp_path).name for said in ("odd.json", "mine", "mine/config.json")]
    assert names == ["odd", "mine", "mine"]


def test_an_unknown_type_is_answered_with_what_to_write() -> None:
    with pytest.raises(ModelUnknown) as refused:
        resolve_model(LLAMA | {"model_type": "zork"})
    assert str(refused.value.hint).startswith("write the known type whose shape it has as model_type")
    assert "`rentune estimate --engine trace`" in str(refused.value.hint)


def test_a_hub_id_means_its_own_weights_and_not_those_of_a_namesake() -> None:
    """Another owner's copy may be gated, or packed otherwise."""
    known = [hub_id for row in registry() for hub_id in row.hub if "/" in hub_id]
    assert [hub_id_of(hub_id.upper()) for hub_id in known] == known


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("7b", Said.SIZE),
        (" Qwen2.5-7B ", Said.NAME),
        ("qwen/qwen2.5-7b-instruct", Said.NAME),
        ("gpt-j", Said.ONLY_SIZE),
        ("somebody/Qwen2.5-7B-Instruct", Said.COPY),
        ("owner/name", None),
    ],
)
def test_a_row_comes_with_how_it_was_found(typed: str, said: Said | None) -> None:
    """Whoever asks has not to find out once more."""
    meant = row_of(typed)
    assert (meant.said if meant else None) is said
