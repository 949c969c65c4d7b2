"""Bases whose blocks nobody has described here: `estimate` traces them, and counts their parameters in the trace."""

from __future__ import annotations

from typing import Any

import pytest

from catalogs.bases.models import ModelRow, ModelUnknown, TypeNotDescribed, outlined, resolve_model
from catalogs.catalog import read_catalog
from planner.asking.case import read_case, strategy_of
from planner.estimate import answer, estimate
from planner.estimators.trace.build import configured, skeleton
from planner.estimators.trace.recorder import Recorder

SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
    "vocab_size": 320, "max_position_embeddings": 256,
}  # fmt: skip
BASES: dict[str, dict[str, Any]] = {
    "bart": {
        "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "vocab_size": 320, "max_position_embeddings": 256,
    },
    "olmo": SIZES,
    "olmoe": SIZES | {"num_experts": 4, "num_experts_per_tok": 2},
    "deepseek_v2": SIZES | {
        "moe_intermediate_size": 48, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "kv_lora_rank": 16,
        "q_lora_rank": None, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "first_k_dense_replace": 1,
        "n_group": 1, "topk_group": 1,
    },
    "cohere": SIZES,
    "cohere2": SIZES,
    "gpt_neo": {
        "hidden_size": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 320, "max_position_embeddings": 256,
        "attention_types": [[["global", "local"], 1]],
    },
    "modernbert": SIZES | {
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2,
    },
    "bamba": SIZES | {"attn_layer_indices": [1], "mamba_n_heads": 4, "mamba_d_state": 16, "mamba_d_head": 32},
}  # fmt: skip
CATALOG = read_catalog()
ASKED = {"method": "lora", "rank": 4, "micro_batch_size": 2, "seq_len": 64}


def config_of(model_type: str) -> dict[str, Any]:
    return {"model_type": model_type} | BASES[model_type]


@pytest.mark.torch
@pytest.mark.parametrize("model_type", BASES)
def test_a_base_without_a_row_is_traced_and_counted(model_type: str) -> None:
    """Both counts are of the model that was built: nothing else knows them."""
    catalog = CATALOG
    lora = estimate(read_case({"model": config_of(model_type), **ASKED}), catalog)
    full = estimate(read_case({"model": config_of(model_type), **ASKED, "method": "full"}), catalog)
    assert {lora.engine, full.engine} == {"trace"}
    assert any(f"traced, because model type {model_type} has no closed form" in warning for warning in lora.warnings)
    assert 0 < lora.trainable_params < lora.total_params == full.total_params == full.trainable_params
    assert lora.host.disk_components["base"] == 2 * lora.total_params


@pytest.mark.torch
@pytest.mark.parametrize("row", [row for row in outlined() if 0 < (row.num_params or 0) < 10e9], ids=lambda row: row.name)
def test_a_base_that_is_known_by_name_alone_has_the_parameters_that_are_published(row: ModelRow) -> None:
    recorder = Recorder(device_type="meta", vocabulary=1, tokens=1)
    skeleton(configured(row.config), strategy_of(read_case({"model": "1b", "attention": "eager"})), recorder)
    assert recorder.num_base == row.num_params


@pytest.mark.torch
def test_both_stacks_of_an_encoder_with_a_decoder_are_there() -> None:
    """Of BART transformers has a decoder alone as well, of half the size."""
    made = estimate(read_case({"model": config_of("bart"), **ASKED}), CATALOG)
    positions, vocabulary = 2 * (256 + 2) * 64, 320 * 64
    attention, feed_forward, norm = 4 * (64 * 64 + 64), 64 * 96 + 96 + 96 * 64 + 64, 2 * 64
    blocks = 2 * (attention + feed_forward + 2 * norm) + 2 * (2 * attention + feed_forward + 3 * norm)
    assert made.total_params == positions + vocabulary + blocks + 2 * norm


@pytest.mark.torch
def test_what_has_eager_attention_alone_is_traced_so_and_it_is_said() -> None:
    made = estimate(read_case({"model": config_of("gpt_neo"), **ASKED}), CATALOG)
    assert any("no fused attention for gpt_neo: eager attention is estimated" in warning for warning in made.warnings)


def test_a_closed_form_that_is_asked_for_is_refused_with_the_trace_as_a_way() -> None:
    told = answer({"model": config_of("olmo"), **ASKED, "engine": "closed_form"}, CATALOG, None)
    assert "olmo has no closed form" in told["error"]["message"]
    assert told["error"]["hint"].endswith("or engine trace")


def test_a_type_that_nobody_knows_names_both_reasons() -> None:
    told = answer({"model": SIZES | {"model_type": "unheard_of"}, **ASKED}, CATALOG, None)
    assert "unheard_of has no closed form" in told["error"]["message"]


def test_an_outline_needs_width_depth_heads_and_vocabulary() -> None:
    """What lacks one of them is unknown as before; what has them is told as such."""
    with pytest.raises(TypeNotDescribed) as told:
        resolve_model(config_of("olmo"))
    assert (told.value.outline.depth, told.value.outline.hidden_size, told.value.outline.linears) == (2, 64, ())
    with pytest.raises(ModelUnknown) as bare:
        resolve_model({"model_type": "olmo"})
    assert not isinstance(bare.value, TypeNotDescribed)
