"""Methods that hang nothing on linears: what they train, against the real thing, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from catalogs.bases.models import resolve_model
from planner.asking.case import read_case, strategy_of
from planner.methods import trainable_params
from planner.refusals import CaseRefused

QWEN: dict[str, Any] = {
    "model_type": "qwen2", "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 96, "vocab_size": 320,
}  # fmt: skip
LLAMA = QWEN | {"model_type": "llama"}
GPT2: dict[str, Any] = {"model_type": "gpt2", "n_embd": 32, "n_layer": 3, "n_head": 4, "vocab_size": 320, "n_positions": 64}
BERT: dict[str, Any] = {
    "model_type": "bert", "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64,
    "vocab_size": 320, "max_position_embeddings": 64,
}  # fmt: skip
FAMILIES = {"llama": LLAMA, "qwen2": QWEN, "gpt2": GPT2, "bert": BERT}

TOKENS = {"num_virtual_tokens": 7}
METHODS: dict[str, dict[str, Any]] = {
    "prompt": {"method": "prompt_tuning", **TOKENS},
    "p-tuning, MLP": {"method": "p_tuning", **TOKENS},
    "p-tuning, narrow MLP": {"method": "p_tuning", **TOKENS, "method_options": {"encoder_hidden_size": 24}},
    "p-tuning, LSTM": {"method": "p_tuning", **TOKENS, "method_options": {"encoder_reparameterization_type": "LSTM"}},
    "p-tuning, deep LSTM": {
        "method": "p_tuning", **TOKENS,
        "method_options": {"encoder_reparameterization_type": "LSTM", "encoder_num_layers": 3, "encoder_hidden_size": 16},
    },
    "prefix": {"method": "prefix_tuning", **TOKENS},
    "prefix, projected": {"method": "prefix_tuning", **TOKENS, "method_options": {"prefix_projection": True}},
    "prefix, projected wide": {
        "method": "prefix_tuning", **TOKENS, "method_options": {"prefix_projection": True, "encoder_hidden_size": 40}
    },
    "LoRA and prompt": {"method": "lora_prompt", "rank": 4, **TOKENS},
    "bottleneck": {"method": "bottleneck", "rank": 8},
    "bottleneck, attention": {"method": "bottleneck", "rank": 8, "method_options": {"after": ["attention"]}},
    "norms": {"method": "ln_tuning"},
    "biases": {"method": "bitfit"},
    "top blocks": {"method": "freeze", "trainable_layers": 2},
}  # fmt: skip
HAS_NO_BIAS = {("llama", "biases")}


def strategy(model: dict[str, Any], **said: Any) -> Any:
    return strategy_of(read_case({"model": model, "gradient_checkpointing": "off", "autocast": "none", **said}))


@pytest.mark.torch
@pytest.mark.parametrize("family", FAMILIES)
def test_counts_equal_the_real_thing(family: str) -> None:
    """The trainer's own adapters on transformers' own model, without values."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from remote.adapters import adapt
    from remote.contract import Loop

    config = FAMILIES[family]
    for name, said in METHODS.items():
        if (family, name) in HAS_NO_BIAS:
            continue
        made = strategy(config, **said)
        with torch.device("meta"):
            fields = dict(config)
            base = AutoConfig.for_model(fields.pop("model_type"), **fields)
            model = adapt(AutoModelForCausalLM.from_config(base), made, Loop())
        counted = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        assert (name, trainable_params(resolve_model(config), made)) == (name, counted)


@pytest.mark.parametrize(
    ("said", "key", "words"),
    [
        ({"method": "prefix_tuning", **TOKENS, "gradient_checkpointing": "non_reentrant"}, "gradient_checkpointing", "twice"),
        ({"method": "p_tuning", **TOKENS, "method_options": {"hidden": 3}}, "method_options", "no option hidden"),
        ({"method": "p_tuning", **TOKENS, "method_options": {"encoder_hidden_size": 0}}, "method_options", "from 1 on"),
        ({"method": "prefix_tuning", **TOKENS, "method_options": {"prefix_projection": 1}}, "method_options", "true or false"),
        ({"method": "bottleneck", "method_options": {"after": ["head"]}}, "method_options", "after can't be 'head'"),
        ({"method": "bottleneck", "method_options": {"after": []}}, "method_options", "list of words"),
        ({"method": "bottleneck", "method_options": {"non_linearity": "sine"}}, "method_options", "can't be 'sine'"),
        ({"method": "freeze", "trainable_layers": 1, "method_options": {"modules": ["attn2"]}}, "method_options", "no linear"),
        ({"method": "bitfit"}, "method", "has none"),
        ({"method": "ln_tuning", "target_modules": ["norm"]}, "target_modules", "no closed form"),
    ],
)
def test_what_a_method_cannot_do_is_said_in_a_sentence(said: dict[str, Any], key: str, words: str) -> None:
    with pytest.raises(CaseRefused, match=words) as refused:
        trainable_params(resolve_model(LLAMA), strategy(LLAMA, **said))
    assert refused.value.key == key


@pytest.mark.parametrize(
    ("base", "held"), [("falcon-7b", "one key head"), ("deepseek-v3", "one narrow state"), ("granite-4.0-h-tiny", "a scan")]
)
def test_a_cache_that_holds_no_keys_of_every_head_takes_no_prefix(base: str, held: str) -> None:
    """A prefix of peft's fails there in the first forward pass, so nothing is estimated."""
    architecture = resolve_model(base, base=None)
    with pytest.raises(CaseRefused, match=f"holds .*{held}.*prompt_tuning") as refused:
        trainable_params(architecture, strategy(architecture.config, method="prefix_tuning", **TOKENS))
    assert refused.value.key == "method"


def test_falcon_11b_caches_keys_of_every_query_head() -> None:
    """Its 8 key heads are expanded to 32 before the cache, and so wide is a prefix: 4,096 keys and values a block."""
    architecture = resolve_model("falcon-11b", base=None)
    made = strategy(architecture.config, method="prefix_tuning", num_virtual_tokens=20)
    assert trainable_params(architecture, made) == 20 * 2 * architecture.num_layers * 4096


def test_named_modules_of_the_top_blocks() -> None:
    """Two blocks' feed-forward: three matrices of 64 × 96 each."""
    made = strategy(LLAMA, method="freeze", trainable_layers=2, method_options={"modules": ["mlp"]})
    assert trainable_params(resolve_model(LLAMA), made) == 2 * 3 * 64 * 96
