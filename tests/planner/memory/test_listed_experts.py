"""Adapters on experts that are linears, as every mixture had them before transformers 5."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from catalogs.bases.models import registry, resolve_model
from catalogs.catalog import read_catalog
from planner.estimate import answer
from planner.strategy.as_built import LISTED

CATALOG = read_catalog()
BEFORE_5 = {"transformers": "4.57"}
MIXTRAL = ["q_proj", "k_proj", "v_proj", "o_proj", "w1", "w2", "w3"]


def ask(**said: Any) -> dict[str, Any]:
    case = {"engine": "closed_form", "method": "lora", "rank": 8, "micro_batch_size": 4, "seq_len": 2048, **said}
    answered = answer({"versions": BEFORE_5, **case}, CATALOG, None)
    assert "error" not in answered, answered
    return answered


def small(**changed: Any) -> dict[str, Any]:
    """A Mixtral in small, as a config.json has it."""
    sizes = {"hidden_size": 1024, "intermediate_size": 3584, "num_attention_heads": 16, "num_key_value_heads": 4}
    rest = {"vocab_size": 32000, "num_hidden_layers": 4, "num_local_experts": 8, "num_experts_per_tok": 2}
    return {"model_type": "mixtral", "max_position_embeddings": 4096, **sizes, **rest, **changed}


def old_block(hidden: int, keys: int, width: int, experts: int) -> torch.nn.ModuleDict:
    """A double: the linears of a block of Mixtral as transformers 4.57 named and listed them."""
    linear = partial(torch.nn.Linear, bias=False, device="meta")
    attention = {"q_proj": (hidden, hidden), "k_proj": (hidden, keys), "v_proj": (hidden, keys), "o_proj": (hidden, hidden)}
    expert = {"w1": (hidden, width), "w2": (width, hidden), "w3": (hidden, width)}

    def modules(shapes: dict[str, tuple[int, int]]) -> torch.nn.ModuleDict:
        return torch.nn.ModuleDict({name: linear(*shape) for name, shape in shapes.items()})

    listed = torch.nn.ModuleList(modules(expert) for _ in range(experts))
    mixture = torch.nn.ModuleDict({"gate": linear(hidden, experts), "experts": listed})
    return torch.nn.ModuleDict({"self_attn": modules(attention), "block_sparse_moe": mixture})


@pytest.mark.parametrize("targets", [["w1"], ["w1", "w2", "w3"], [*MIXTRAL, "gate"], ["experts.w2", "q_proj"]])
def test_what_is_trained_is_what_peft_hangs_on_listed_experts(targets: list[str]) -> None:
    blocks = torch.nn.ModuleList(old_block(1024, 256, 3584, 8) for _ in range(4))
    names = [target.rpartition(".")[2] for target in targets]
    wrapped = get_peft_model(torch.nn.ModuleDict({"layers": blocks}), LoraConfig(r=8, target_modules=names))
    said = ask(model=small(), target_modules=targets)
    assert said["trainable_params"] == sum(each.numel() for each in wrapped.parameters() if each.requires_grad)


def test_all_linear_means_routers_too() -> None:
    """8 · (4,096 + 8) in each of 32 blocks, beside what the names of linears reach."""
    named = ask(model="mixtral-8x7b", target_modules=MIXTRAL)["trainable_params"]
    assert ask(model="mixtral-8x7b")["trainable_params"] - named == 32 * 8 * (4096 + 8)


@pytest.mark.parametrize("quant", ["none", "nf4", "int8"])
@pytest.mark.parametrize("method", ["lora", "dora", "adalora"])
def test_more_experts_train_more_and_keep_no_more_of_the_tokens(method: str, quant: str) -> None:
    """Each token meets two of them, however many there are."""
    said = {"method": method, "quant": quant, "gradient_checkpointing": "off", "target_modules": ["w1", "w2", "w3"]}
    few, many = (ask(model=small(num_local_experts=count), **said) for count in (8, 16))
    assert many["trainable_params"] == 2 * few["trainable_params"]
    assert many["vram"]["components"]["activations"] == few["vram"]["components"]["activations"]


def test_a_token_that_meets_more_experts_keeps_more() -> None:
    one, two, three = (
        ask(model=small(num_experts_per_tok=count), gradient_checkpointing="off")["vram"]["components"]["activations"]
        for count in (1, 2, 3)
    )
    assert three - two == pytest.approx(two - one, rel=1e-6)
    assert two - one > 0


def test_one_expert_that_all_tokens_meet_is_a_dense_model() -> None:
    """But for the copies that are routed there and back: two of a hidden state in each block."""
    mixture = ask(model=small(num_local_experts=1, num_experts_per_tok=1), gradient_checkpointing="off")
    dense = ask(model=small(model_type="llama"), gradient_checkpointing="off")
    routed = 4 * 4 * 2048 * 1024 * 4  # blocks, tokens, features and bytes of fp32, of which activations take two or four
    more = mixture["vram"]["components"]["activations"] - dense["vram"]["components"]["activations"]
    assert 0 < more <= 2 * routed


@pytest.mark.parametrize("model", ["mixtral-8x7b", "qwen3-30b-a3b", "deepseek-v3", "microsoft/Phi-3.5-MoE-instruct"])
def test_dropout_is_no_matter_to_experts_that_are_linears(model: str) -> None:
    assert ask(model=model, dropout=0.05)["trainable_params"] == ask(model=model)["trainable_params"]


def test_another_trainer_with_dropout_and_no_release_ran_an_older_one() -> None:
    """On fused experts peft refuses dropout, so whoever had some had linears, which nf4 packs."""
    said = {"model": "mixtral-8x7b", "quant": "nf4", "dropout": 0.05}
    unnamed = ask(**said, stack="axolotl", versions={})
    assert unnamed["trainable_params"] == ask(**said)["trainable_params"]
    assert unnamed["vram"]["components"]["weights"] < 30e9


def test_phi_had_its_experts_packed_before_they_were_fused() -> None:
    said = {"model": "microsoft/Phi-3.5-MoE-instruct", "quant": "nf4", "target_modules": ["q_proj", "v_proj"]}
    assert ask(**said)["vram"]["components"]["weights"] < 27e9
    assert ask(**said, versions={})["vram"]["components"]["weights"] > 75e9


def test_a_plugin_that_packs_experts_makes_linears_of_them() -> None:
    said = {"model": "mixtral-8x7b", "quant": "nf4", "quantized_experts": True, "versions": {}}
    assert ask(**said)["trainable_params"] == ask(**said | {"versions": BEFORE_5})["trainable_params"]


def test_every_mixture_of_linears_says_how_they_were_called() -> None:
    bases = [resolve_model(row.name) for row in registry()]
    assert {base.model_type for base in bases if base.experts_were_linears} <= LISTED.keys()
