"""Biases and norms, counted by the planner and by the trainer's own code on tiny real models of the odd families."""

from __future__ import annotations

from typing import Any

import pytest

from catalogs.bases.models import resolve_model
from planner.estimators.memory.held.weights import trained_of
from planner.methods import total_params, trainable_params
from planner.refusals import CaseError
from remote.adapters import adapt
from remote.contract import Loop, Strategy

pytestmark = pytest.mark.torch

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 320,
    "max_position_embeddings": 128,
}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "bloom, a norm behind its embedding": {
        "model_type": "bloom",
        "hidden_size": 64,
        "n_layer": 2,
        "n_head": 4,
        "vocab_size": 320,
    },
    "mpt, norms without biases": {"model_type": "mpt", "d_model": 64, "n_layers": 2, "n_heads": 4, "vocab_size": 320},
    "opt, no last norm": {
        "model_type": "opt",
        **SIZES,
        "ffn_dim": 96,
        "do_layer_norm_before": False,
        "word_embed_proj_dim": 32,
    },
    "phi, a head with a bias": {"model_type": "phi", **SIZES},
    "phimoe, experts and a head with a bias": {"model_type": "phimoe", **SIZES, **EXPERTS, "lm_head_bias": True},
    "gpt-oss, routers with biases": {"model_type": "gpt_oss", **SIZES, **EXPERTS, "head_dim": 16},
    "granite 4, convolutions with biases": {
        "model_type": "granitemoehybrid",
        **SIZES,
        "num_local_experts": 0,
        "layer_types": ["mamba", "attention"],
        "mamba_n_heads": 8,
        "mamba_d_state": 16,
    },
    "t5, a last norm on each side": {
        "model_type": "t5",
        "d_model": 64,
        "num_layers": 2,
        "num_heads": 4,
        "d_ff": 96,
        "vocab_size": 320,
    },
    "bert, whose language model has no pooler": {"model_type": "bert", "is_decoder": True, **SIZES},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_biases_norms_and_the_whole_are_as_many_as_there_are(name: str) -> None:
    """One count: what an estimate tells, what its memory is of, and what the model itself has."""
    import torch

    from planner.estimators.trace.build import configured
    from planner.estimators.trace.heads import language_maker

    architecture, config = resolve_model(CONFIGS[name]), configured(CONFIGS[name])
    for method in ("bitfit", "ln_tuning", "full"):
        strategy = Strategy(method=method)
        with torch.device("meta"):
            model = language_maker(config).from_config(config, dtype=torch.bfloat16, attn_implementation="eager")
            model.tie_weights()
        assert sum(parameter.numel() for parameter in model.parameters()) == total_params(architecture, "causal_lm")
        try:
            counted = trainable_params(architecture, strategy)
        except CaseError as refusal:
            assert "has none" in refusal.message  # noqa: PT017 - bitfit on a base without biases, and no other
            continue
        assert trained_of(architecture, strategy, task="causal_lm").params == counted
        adapted = adapt(model, strategy, Loop())
        assert sum(each.numel() for each in adapted.parameters() if each.requires_grad) == counted, method


def test_a_task_s_head_trains_beside_an_adapter_in_both_counts() -> None:
    base, strategy = resolve_model("roberta-base"), Strategy(method="lora", rank=8, target_modules=("query", "value"))
    for task in ("classification", "token_classification"):
        assert trained_of(base, strategy, task=task).params == trainable_params(base, strategy, task=task)


def test_norms_without_weights_are_not_tuned() -> None:
    with pytest.raises(CaseError, match="norms without weights"):
        trainable_params(resolve_model("llama-4-scout"), Strategy(method="ln_tuning"))
