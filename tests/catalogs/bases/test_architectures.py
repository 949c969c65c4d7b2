"""Architectures are counted to the parameter, and every family is what transformers builds."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from catalogs.bases.config import ConfigUnusable
from catalogs.bases.families import FAMILIES, architecture_of
from catalogs.bases.models import registry, resolve_model

SMALL: dict[str, Any] = {
    "vocab_size": 1000,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
GROUPED = SMALL | {"num_key_value_heads": 2}
GPT2 = {"vocab_size": 1000, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 128}
FALCON = {key: SMALL[key] for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")}
LATENT = SMALL | {
    "num_key_value_heads": 4,
    "moe_intermediate_size": 32,
    "n_routed_experts": 8,
    "n_group": 2,
    "topk_group": 1,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
}
T5 = {"vocab_size": 1000, "d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 3, "num_heads": 4}
LLAMA4 = GROUPED | {"head_dim": 16, "num_local_experts": 4, "intermediate_size_mlp": 128}
HYBRID = GROUPED | {
    "layer_types": ["mamba", "attention", "mamba"],
    "num_local_experts": 4,
    "shared_intermediate_size": 48,
    "mamba_n_heads": 8,
    "mamba_d_state": 16,
    "mamba_n_groups": 2,
}
CONFIGS: dict[str, dict[str, Any]] = dict.fromkeys(FAMILIES, GROUPED) | {
    "gpt2": GPT2,
    "gpt_bigcode": GPT2,
    "opt": {key: SMALL[key] for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")}
    | {"ffn_dim": 96, "word_embed_proj_dim": 64},
    "gpt_neox": SMALL,
    "gptj": GPT2 | {"rotary_dim": 8},
    "bert": SMALL,
    "roberta": SMALL,
    "xlm-roberta": SMALL,
    "electra": SMALL | {"embedding_size": 64},
    "distilbert": {"vocab_size": 1000, "dim": 64, "n_layers": 3, "n_heads": 4, "hidden_dim": 96},
    "qwen3_moe": GROUPED | {"moe_intermediate_size": 32, "num_experts": 8},
    "granitemoeshared": GROUPED | {"shared_intermediate_size": 48},
    "granitemoehybrid": HYBRID,
    "phimoe": GROUPED | {"num_local_experts": 4, "lm_head_bias": True, "attention_bias": True},
    "falcon": FALCON,
    "bloom": {"vocab_size": 1000, "hidden_size": 64, "n_layer": 3, "n_head": 4},
    "mpt": {"vocab_size": 1000, "d_model": 64, "n_layers": 3, "n_heads": 4},
    "qwen2_moe": GROUPED | {"moe_intermediate_size": 32, "num_experts": 8, "shared_expert_intermediate_size": 48},
    "deepseek_v3": LATENT,
    "gpt_oss": GROUPED | {"head_dim": 16, "num_local_experts": 4},
    "llama4_text": LLAMA4,
    "t5": T5,
    "mt5": T5,
    "deberta-v2": SMALL
    | {"relative_attention": True, "position_buckets": 16, "share_att_key": True, "pos_att_type": ["p2c", "c2p"]},
}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    (
        "granitemoehybrid",
        HYBRID | {"num_local_experts": 0, "layer_types": ["attention"] * 3, "position_embedding_type": "rope"},
    ),
    ("granitemoehybrid", HYBRID | {"layer_types": ["mamba"] * 3, "mamba_conv_bias": False, "mamba_proj_bias": True}),
    ("stablelm", GROUPED | {"use_parallel_residual": True, "use_qkv_bias": True}),
    ("falcon", FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2}),
    ("falcon", FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1}),
    ("falcon", FALCON | {"alibi": True, "multi_query": False, "parallel_attn": False, "bias": True}),
    ("opt", CONFIGS["opt"] | {"word_embed_proj_dim": 32, "do_layer_norm_before": False}),
    ("deepseek_v3", LATENT | {"q_lora_rank": None}),
    ("llama4_text", LLAMA4 | {"interleave_moe_layer_step": 2, "num_hidden_layers": 8}),
    ("t5", T5 | {"num_decoder_layers": 2, "feed_forward_proj": "gated-gelu"}),
    ("gemma3_text", GROUPED | {"num_hidden_layers": 7, "sliding_window": 64}),
]
# their code comes with their weights; counted against published rows
REMOTE_CODE = {"qwen", "baichuan", "chatglm", "internlm2", "xverse", "aquila", "minicpm"}
ENCODER_DECODERS = {"t5", "mt5"}
BUILT = sorted(FAMILIES.keys() - REMOTE_CODE)
BLOCK_PATH = re.compile(r"(?:layers?|h|blocks|block|transformer\.layer)\.\d+\.(.+)$")


@pytest.mark.torch
@pytest.mark.parametrize("case", [(name, CONFIGS[name]) for name in BUILT] + VARIANTS, ids=lambda case: case[0])
def test_a_family_has_the_parameters_and_linears_that_transformers_builds(case: tuple[str, dict[str, Any]]) -> None:
    """Total count, and name, shape, bias and number of every linear in the blocks, on the meta device."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM
    from transformers.pytorch_utils import Conv1D

    model_type, said = case
    config = AutoConfig.for_model(model_type, **said)
    ours = architecture_of({**config.to_dict(), "model_type": model_type}, name=model_type, source="test")
    builders = {"encoder": AutoModel, "decoder": AutoModelForCausalLM, "encoder_decoder": AutoModelForSeq2SeqLM}
    builder = builders[ours.kind]
    with torch.device("meta"):
        model = builder.from_config(config)
    theirs: Counter[tuple[str, tuple[int, ...], bool]] = Counter()
    for name, module in model.named_modules():
        if (place := BLOCK_PATH.search(name)) and isinstance(module, torch.nn.Linear | Conv1D):
            shape = tuple(module.weight.shape)
            theirs[place[1], shape if isinstance(module, Conv1D) else shape[::-1], module.bias is not None] += 1
    blocks: Counter[tuple[str, tuple[int, ...], bool]] = Counter()
    for part in ours.parts:
        for linear in part.linears:
            blocks[linear.name, (linear.in_features, linear.out_features), linear.bias] += part.num_layers
    assert ours.num_params == sum(parameter.numel() for parameter in model.parameters())
    assert blocks == theirs


@pytest.mark.torch
@pytest.mark.parametrize("model_type", BUILT)
def test_the_vocabulary_s_matrices_are_named_as_transformers_names_them(model_type: str) -> None:
    """So that a name of another family's, which peft passes over in silence, is told from this one's."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    config = AutoConfig.for_model(model_type, **CONFIGS[model_type])
    ours = architecture_of({**config.to_dict(), "model_type": model_type}, name=model_type, source="test")
    builders = {"encoder": AutoModel, "decoder": AutoModelForCausalLM, "encoder_decoder": AutoModelForSeq2SeqLM}
    with torch.device("meta"):
        model = builders[ours.kind].from_config(config)
    last = {path.rpartition(".")[2]: module for path, module in model.named_modules(remove_duplicate=False)}
    words = last[ours.embedding_name]
    assert isinstance(words, torch.nn.Embedding)
    assert words.num_embeddings == ours.vocab_size
    if ours.head_name is not None:
        assert last[ours.head_name] is model.get_output_embeddings()


@pytest.mark.torch
@pytest.mark.parametrize("model_type", [name for name in BUILT if name not in ENCODER_DECODERS])
def test_a_family_is_eager_only_where_transformers_refuses_sdpa(model_type: str) -> None:
    """A job that asked for what the model does not have would stop on the paid box."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    config = AutoConfig.for_model(model_type, **CONFIGS[model_type])
    ours = architecture_of({**config.to_dict(), "model_type": model_type}, name=model_type, source="test")
    builder = AutoModel if ours.kind == "encoder" else AutoModelForCausalLM
    with torch.device("meta"):
        if not ours.eager_only:
            builder.from_config(config, attn_implementation="sdpa")
            return
        with pytest.raises(ValueError, match="does not support an attention implementation"):
            builder.from_config(config, attn_implementation="sdpa")


def test_remote_code_is_counted_against_what_was_published() -> None:
    """A family that transformers can't build has at least two rows whose count is the published one."""
    counted = Counter(row.config["model_type"] for row in registry() if row.num_params is not None)
    assert {name for name in REMOTE_CODE if counted[name] >= 2} == REMOTE_CODE


def test_blocks_of_several_kinds_make_one_stack() -> None:
    """DeepSeek-V3: three dense blocks, 58 with experts, of which a token meets eight and the shared one."""
    deepseek = resolve_model("deepseek-v3")
    assert [(part.num_layers, part.num_experts) for part in deepseek.parts] == [(58, 256), (3, 0)]
    assert deepseek.depth == 61
    assert deepseek.active_params == pytest.approx(37.5e9, rel=0.01)  # 37B as its report states it (arXiv:2412.19437)


def test_counts_add_up_by_hand() -> None:
    """Llama's formula, written out: 4 projections, 3 of the MLP, 2 norms a block; embedding, head, last norm."""
    config = {"model_type": "llama", **GROUPED}
    architecture = architecture_of(config, name="tiny", source="test")
    block = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96 + 2 * 64
    assert architecture.block_params == block
    assert architecture.num_params == 2 * 1000 * 64 + 3 * block + 64


def test_a_mixture_meets_only_its_routed_experts() -> None:
    mixtral = resolve_model("mixtral-8x7b")
    assert mixtral.active_params == pytest.approx(12.9e9, rel=0.01)  # as Mistral's paper states it (arXiv:2401.04088)
    assert resolve_model("7b").active_params == resolve_model("7b").num_params


def test_a_target_is_a_path_or_its_end() -> None:
    up, down = (linear for linear in resolve_model("gpt2").linears if linear.name.startswith("mlp"))
    assert down.matches("c_proj")
    assert down.matches("mlp.c_proj")
    assert not down.matches("attn.c_proj")
    assert not up.matches("proj")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"hidden_size": 64}, "without model_type"),
        ({"model_type": "mamba2"}, "mamba2"),
        ({"model_type": "llama", "hidden_size": 64}, "lacks num_attention_heads"),
        ({"model_type": "llama", **GROUPED, "hidden_size": "wide"}, "hidden_size is 'wide'"),
        ({"model_type": "llama", **GROUPED, "hidden_act": "snake"}, "activation snake"),
        ({"model_type": "qwen3_moe", **CONFIGS["qwen3_moe"], "mlp_only_layers": [0]}, "dense blocks"),
    ],
)
def test_a_config_that_cannot_be_read_says_why(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigUnusable, match=words):
        architecture_of(config, name="x", source="test")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_act": [1]}, "hidden_act is [1]"),
        ({"head_dim": {"a": 1}}, "head_dim is"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_and_no_word_of_python_s_is_told(changes: dict[str, Any], said: str) -> None:
    """Which one it is shows by leaving each out."""
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 1000}
    with pytest.raises(ConfigUnusable) as refused:
        architecture_of({**config, "intermediate_size": 128, **changes}, name="made up", source="made up")
    assert said in refused.value.message
    assert "unhashable" not in refused.value.message
