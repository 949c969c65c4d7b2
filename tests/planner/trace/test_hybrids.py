"""Granite 4's hybrids and Phi-3.5-MoE, by both engines: Mamba 2 written out, experts behind layer norms, bare routers."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from catalogs.bases.models import resolve_model
from planner.estimators.memory import estimate_vram
from planner.estimators.trace import trace_vram
from planner.methods import adapter_params
from planner.refusals import CaseError
from planner.strategy.stack import Stack
from remote.contract import Loop, Strategy

GRANITE: dict[str, Any] = {
    "model_type": "granitemoehybrid",
    "hidden_size": 256,
    "intermediate_size": 128,
    "shared_intermediate_size": 192,
    "num_hidden_layers": 2,
    "layer_types": ["mamba", "attention"],
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
    "mamba_n_heads": 8,
    "mamba_d_state": 64,
    "vocab_size": 512,
    "tie_word_embeddings": True,
}
PHI: dict[str, Any] = {
    "model_type": "phimoe",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
    "vocab_size": 4096,
    "input_jitter_noise": 0.01,
}
LORA = Strategy(method="lora", rank=8, micro_batch_size=2, seq_len=512, gradient_checkpointing="off")


@pytest.mark.torch
@pytest.mark.parametrize("config", [GRANITE, PHI], ids=["granite", "phi"])
def test_closed_form_and_trace_agree(config: dict[str, Any]) -> None:
    traced = trace_vram(config, LORA).allocated_peak_bytes
    assert estimate_vram(resolve_model(config), LORA).allocated_peak_bytes == pytest.approx(traced, rel=0.02)


@pytest.mark.torch
def test_targets_may_lie_in_blocks_of_one_kind_alone() -> None:
    """A Mamba's linears are in no block with attention."""
    strategy = replace(LORA, target_modules=("in_proj",))
    traced = trace_vram(GRANITE, strategy).allocated_peak_bytes
    assert estimate_vram(resolve_model(GRANITE), strategy).allocated_peak_bytes == pytest.approx(traced, rel=0.03)


def test_attention_of_a_hybrid_is_a_tenth_of_its_blocks() -> None:
    """Four of forty: as many factors as those have, and never more memory than with every linear adapted."""
    hybrid, attention = (
        resolve_model("granite-4.0-h-tiny"),
        replace(LORA, target_modules=("q_proj", "k_proj", "v_proj", "o_proj")),
    )
    assert adapter_params(hybrid, attention) == 4 * 8 * (2 * (1536 + 1536) + 2 * (1536 + 512))
    frozen, some, every = (
        estimate_vram(hybrid, strategy).allocated_peak_bytes
        for strategy in (replace(LORA, rank=1, target_modules=("q_proj",)), attention, LORA)
    )
    assert frozen < some < every


def test_targets_that_no_block_has_are_refused_of_a_hybrid_too() -> None:
    with pytest.raises(CaseError, match="no module c_attn"):
        estimate_vram(resolve_model(GRANITE), replace(LORA, target_modules=("c_attn",)))


@pytest.mark.torch
def test_a_router_carries_no_adapter() -> None:
    """A wrapper of peft reads one tensor, and a router gives three: the trainer leaves it out, and the plan does too."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from remote.adapters import adapt

    said = {key: value for key, value in PHI.items() if key != "model_type"}
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(AutoConfig.for_model("phimoe", **said))
        adapted = adapt(base, LORA, Loop())
    trained = [(name, each.numel()) for name, each in adapted.named_parameters() if each.requires_grad]
    assert not [name for name, _ in trained if "router" in name]
    assert sum(count for _, count in trained) == adapter_params(resolve_model(PHI), LORA)


def test_kernels_for_mamba_keep_a_fraction() -> None:
    """Other loops are taken to have mamba_ssm: what is written out holds a score for every pair of positions of a chunk."""
    hybrid = resolve_model("granite-4.0-h-tiny")
    ours, theirs = (
        estimate_vram(hybrid, LORA, stack=stack).components["activations"] for stack in (Stack(), Stack(name="trl"))
    )
    assert theirs < ours / 3
