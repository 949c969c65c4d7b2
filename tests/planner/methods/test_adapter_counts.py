"""What a method hangs on linears, counted by the planner and by peft itself: every such method on tiny real models."""

from __future__ import annotations

import json
from typing import Any

import pytest

from catalogs.bases.models import resolve_model
from planner.asking.case import read_case, strategy_of
from planner.methods import METHODS, require_layers, trainable_params
from planner.methods.targets import DEFAULT_TARGETS
from planner.refusals import CaseError, Unsupported
from remote.adapters import ADAPTERS, adapt
from remote.contract import Loop
from remote.ends import Ended

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::UserWarning"),  # peft about block sizes that it adjusts, torch about missing compilers
]

GATED: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 192,
    "vocab_size": 320,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", **GATED},
    "qwen2": {"model_type": "qwen2", **GATED},
    "gpt2": {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 320, "n_positions": 128},
    "bert": {"model_type": "bert", "is_decoder": True, **GATED},
}
EXPERTS = {
    "num_local_experts": 8,
    "num_experts": 8,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 48,
}
LATENT = {"q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16}
MIXTURES: dict[str, dict[str, Any]] = {
    "mixtral": {"model_type": "mixtral", **GATED, **EXPERTS},
    "qwen3_moe": {"model_type": "qwen3_moe", **GATED, **EXPERTS, "head_dim": 16},
    "deepseek_v3": {  # one dense block, whose linears have the names of experts
        "model_type": "deepseek_v3",
        **GATED,
        **EXPERTS,
        **LATENT,
        "num_key_value_heads": 4,
        "first_k_dense_replace": 1,
        "n_group": 2,
        "topk_group": 1,
    },
}
SPECIAL_TOKENS = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0)
HUNG = tuple(name for name, row in METHODS.items() if row.adapter is not None and name in ADAPTERS)


def counted_by_peft(config: dict[str, Any], said: dict[str, Any]) -> int:
    from transformers import AutoConfig, AutoModelForCausalLM

    base = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config, **SPECIAL_TOKENS))
    model = adapt(base, strategy_of(read_case({"model": config, **said})), Loop())
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def counted_by_us(config: dict[str, Any], said: dict[str, Any]) -> int:
    return trainable_params(resolve_model(config, base=None), strategy_of(read_case({"model": config, **said})))


@pytest.mark.parametrize("targets", ["all-linear", "default"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", HUNG)
def test_peft_trains_as_many(method: str, family: str, targets: str) -> None:
    """Where peft refuses the base, the planner does, too."""
    _both_agree(FAMILIES[family], {"method": method, "target_modules": targets})


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"target_modules": "default"},
        {"target_modules": ["o_proj"]},
        {"dropout": 0.1},
        {"method": "dora"},
        {"method": "rslora"},
        {"method": "lokr"},
        {"method": "lora_prompt", "num_virtual_tokens": 4},
        {"optimizer": "lora_fa"},
    ],
    ids=str,
)
@pytest.mark.parametrize("family", MIXTURES)
def test_peft_adapts_as_much_of_a_mixture(family: str, said: dict[str, Any]) -> None:
    """Where it refuses, the planner does, too."""
    _both_agree(MIXTURES[family], {"method": "lora", **said})


@pytest.mark.parametrize(
    ("family", "targets"),
    [
        ("mixtral", ["o_proj", "w1", "w2", "w3"]),
        ("mixtral", ["o_proj", "w1"]),
        ("mixtral", ["gate"]),
        ("qwen3_moe", ["o_proj", "gate_proj", "up_proj", "down_proj"]),
        ("deepseek_v3", ["mlp.down_proj"]),
        ("deepseek_v3", ["o_proj", "gate_proj"]),
    ],
)
def test_names_of_linears_that_were_fused_mean_experts(family: str, targets: list[str]) -> None:
    """One half of a fused pair is refused by both."""
    _both_agree(MIXTURES[family], {"method": "lora", "target_modules": targets})


def _both_agree(config: dict[str, Any], asked: dict[str, Any]) -> None:
    try:
        ours = counted_by_us(config, asked)
    except CaseError:
        with pytest.raises(Ended):
            counted_by_peft(config, asked)
    else:
        assert ours == counted_by_peft(config, asked)


@pytest.mark.parametrize(
    "said",
    [
        {"method": "lokr", "rank": 2},
        {"method": "lokr", "rank": 2, "method_options": {"decompose_both": True, "decompose_factor": 4}},
        {"method": "adalora", "rank": 3, "method_options": {"init_r": 5}},
        {"method": "lora", "optimizer": "lora_fa"},
        {"method": "loha", "rank": 3},
        {"method": "oft", "rank": 4},
        {"method": "oft", "method_options": {"oft_block_size": 16, "block_share": True}},
        {"method": "oft", "method_options": {"oft_block_size": 20}},
        {"method": "boft", "method_options": {"boft_block_num": 8}},
        {"method": "vera", "rank": 5},
        {"method": "fourierft", "method_options": {"n_frequency": 300}},
    ],
    ids=str,
)
def test_peft_sizes_them_by_the_same_options(said: dict[str, Any]) -> None:
    assert counted_by_us(FAMILIES["llama"], said) == counted_by_peft(FAMILIES["llama"], said)


MIDDLE = {"layers_to_transform": [1]}
CHOOSING = tuple(name for name, row in METHODS.items() if row.trainable and name in ADAPTERS and name != "full")


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
@pytest.mark.parametrize("method", CHOOSING)
def test_peft_trains_as_many_in_chosen_blocks(method: str, family: str) -> None:
    """The middle one of three; whoever can't choose blocks is refused by both."""
    config = FAMILIES[family] | {"num_hidden_layers": 3, "n_layer": 3}
    asked = {"method": method, "method_options": MIDDLE, "num_virtual_tokens": 4, "gradient_checkpointing": "off"}
    _both_agree(config, asked | ({"rank": 4} if METHODS[method].has_rank else {}))


def test_a_block_that_is_not_there_is_refused_with_those_that_are() -> None:
    beyond = strategy_of(read_case({"model": "7b", "method_options": {"layers_to_transform": [0, 5]}}))
    with pytest.raises(CaseError, match="has blocks 0 to 1, and no 5") as refused:
        require_layers(resolve_model(FAMILIES["llama"], base=None), beyond)
    assert refused.value.hint == "layers_to_transform [0]"


OPTION_VALUES: dict[str, dict[str, list[Any]]] = {
    "fourierft": {"n_frequency": [-1, 0, 1, 2048, 2049, 4096, 100_000, 1.5, True, "x"]},
    "boft": {"boft_block_size": [-1, 0, 1, 2, 3, 5, 16, 64, 128], "boft_block_num": [-1, 0, 1, 3, 4, 64, 128]},
    "oft": {"oft_block_size": [-1, 0, 1, 3, 16, 20, 64, 1000]},
    "adalora": {"init_r": [-1, 0, 1, 8, 9, 64, "x"], "total_step": [0, 1], "tinit": [-1, 0, 5]},
    "lora": {"cast_input_dtype": [True, False, 1, "no"]},
    "lokr": {"decompose_factor": [-2, -1, 0, 1, 3, 64, 1000]},
}


@pytest.mark.parametrize(
    ("method", "option", "value"),
    [(method, option, value) for method, row in OPTION_VALUES.items() for option, some in row.items() for value in some],
)
def test_values_that_peft_refuses_are_refused_with_one_that_it_takes(method: str, option: str, value: Any) -> None:
    """The planner's word is that of peft's own constructors; what its hint says is trained, as many as it says."""
    config, said = FAMILIES["llama"], {"method": method, "method_options": {option: value}}
    try:
        ours = counted_by_us(config, said)
    except CaseError as refusal:
        with pytest.raises((Ended, RuntimeError, TypeError)):
            counted_by_peft(config, said)
        said = {"method": method, "method_options": json.loads(str(refusal.hint).removeprefix("method_options "))}
        ours = counted_by_us(config, said)
    assert ours == counted_by_peft(config, said)


@pytest.mark.parametrize("family", MIXTURES)
def test_ia3_is_hung_where_peft_does_not_know_the_feed_forward_modules(family: str) -> None:
    """Qwen3-MoE has none beside its experts."""
    _both_agree(MIXTURES[family], {"method": "ia3"})


def test_an_option_without_a_closed_form_is_no_guess() -> None:
    with pytest.raises(Unsupported, match="rank_pattern"):
        counted_by_us(FAMILIES["llama"], {"method": "lora", "method_options": {"rank_pattern": {"q_proj": 4}}})


@pytest.mark.parametrize("method", DEFAULT_TARGETS)
def test_default_targets_are_peft_s(method: str) -> None:
    """Of every model type in our table; one that peft lacks is not in it."""
    from peft.utils import constants

    kind = method if hasattr(constants, f"TRANSFORMERS_MODELS_TO_{method.upper()}_TARGET_MODULES_MAPPING") else "lora"
    theirs = getattr(constants, f"TRANSFORMERS_MODELS_TO_{kind.upper()}_TARGET_MODULES_MAPPING")
    for model_type, suffixes in DEFAULT_TARGETS[method].items():
        assert set(suffixes) == set(theirs[model_type]), model_type
