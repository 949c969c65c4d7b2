"""Configs that nest: the language model of a base that also sees, as its config.json on the hub states it."""

from __future__ import annotations

from typing import Any

import pytest

from catalogs.bases.models import ModelUnknown, resolve_model
from catalogs.bases.nested import TEXT_IS_LOADED, WHOLES

VISION = {"vision_config": {"hidden_size": 1152}}
BLOCKS: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 320,
}


def test_gemma_3_is_read_from_the_file_on_the_hub_which_leaves_out_what_its_class_takes_for_granted() -> None:
    text = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024}
    nested = resolve_model({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", **text}, **VISION})
    known = resolve_model("google/gemma-3-4b-it")
    assert (nested.num_params, nested.parts[1].window, nested.part_of) == (known.num_params, 1024, "gemma3")


@pytest.mark.parametrize(
    ("whole", "text", "family"),
    [
        ("mistral3", {"model_type": "mistral"}, "mistral"),
        ("mistral3", {}, "mistral"),
        ("qwen2_5_vl", {"model_type": "qwen2_5_vl_text"}, "qwen2"),
        ("qwen3_vl", {"model_type": "qwen3_vl_text"}, "qwen3"),
        ("llava", {"model_type": "qwen2"}, "qwen2"),
        ("llama4", {"intermediate_size_mlp": 256, "num_local_experts": 2}, "llama4_text"),
    ],
)
def test_the_text_part_is_the_family_that_it_would_be_alone(whole: str, text: dict[str, Any], family: str) -> None:
    nested = resolve_model({"model_type": whole, "text_config": {**BLOCKS, **text}, **VISION})
    alone = resolve_model({**BLOCKS, **text, "model_type": family})
    assert (nested.model_type, nested.num_params, nested.linears) == (family, alone.num_params, alone.linears)
    assert (nested.part_of, alone.part_of) == (whole, None)


def test_what_is_said_of_the_whole_holds_for_its_text_part() -> None:
    tied = {"model_type": "mistral3", "tie_word_embeddings": True, "text_config": {"model_type": "mistral", **BLOCKS}}
    assert resolve_model(tied).tied_embeddings


def test_a_flat_config_of_before_text_configs_is_read_alike() -> None:
    flat = resolve_model({"model_type": "qwen2_5_vl", **BLOCKS, **VISION})
    assert (flat.model_type, flat.part_of, "vision_config" in flat.config) == ("qwen2", "qwen2_5_vl", False)


@pytest.mark.parametrize("text", [3, "text", ["a"], {}, {"model_type": 7}, {"model_type": ["x"]}])
def test_a_text_part_that_is_none_is_refused_in_a_sentence(text: object) -> None:
    with pytest.raises(ModelUnknown) as refused:
        resolve_model({"model_type": "gemma3" if text == {} else "seer", "text_config": text})
    assert refused.value.hint


def test_of_which_wholes_the_text_part_is_loaded_alone_transformers_says() -> None:
    """By the class that AutoModelForCausalLM has for a config: it reads the text part where that class's own config is one."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    classes = {whole: CONFIG_MAPPING[whole] for whole in WHOLES}
    loaded = {whole: AutoModelForCausalLM._model_mapping.get(kind, None) for whole, kind in classes.items()}
    alone = {
        whole
        for whole, model in loaded.items()
        if model is not None and model.config_class is classes[whole].sub_configs["text_config"]
    }
    assert alone == TEXT_IS_LOADED
