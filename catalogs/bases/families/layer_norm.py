"""Decoders with layer norms and plain MLPs: GPT-2 and what came before Llama."""

from __future__ import annotations

from catalogs.bases.architectures import Activation
from catalogs.bases.config import Config, Fields, Undescribed, activation, flag, grid, linears, share, size


def gpt2_like(config: Config, *, kv: int, default_activation: Activation) -> Fields:
    shape = grid(config)
    hidden = shape["hidden_size"]
    ffn = size(config, "n_inner", default=4 * hidden)
    return shape | {
        "kind": "decoder",
        "embedding_name": "wte",
        "intermediate_size": ffn,
        "tied_embeddings": flag(config, "tie_word_embeddings", default=True),
        "norm_params_per_block": 4 * hidden,
        "other_params": shape["max_positions"] * hidden + 2 * hidden,
        "gated_mlp": False,
        "activation": activation(config, "activation_function", default=default_activation),
        "norm": "layer",
        "rotary": False,
        "hidden_dropout": share(config, "resid_pdrop", default=0.1),
        "attention_dropout": share(config, "attn_pdrop", default=0.1),
        "linears": linears(
            ("attn.c_attn", hidden, hidden + 2 * kv, True, "qkv"),
            ("attn.c_proj", hidden, hidden, True, "output"),
            ("mlp.c_fc", hidden, ffn, True, "up"),
            ("mlp.c_proj", ffn, hidden, True, "down"),
        ),
    }


def gpt2(config: Config) -> Fields:
    fields = gpt2_like(config, kv=size(config, "n_embd", "hidden_size"), default_activation="gelu_new")
    return fields | {"transposed_linears": True, "scores": "as_values"}


def gpt_bigcode(config: Config) -> Fields:
    hidden, heads = size(config, "n_embd", "hidden_size"), size(config, "n_head", "num_attention_heads")
    kv_heads = 1 if flag(config, "multi_query", default=True) else heads
    fields = gpt2_like(config, kv=kv_heads * (hidden // heads), default_activation="gelu_tanh")
    return fields | {"num_kv_heads": kv_heads}


def opt(config: Config) -> Fields:
    if not (flag(config, "enable_bias", default=True) and flag(config, "layer_norm_elementwise_affine", default=True)):
        raise Undescribed("OPT without biases, or with norms that learn nothing, has no closed form", "name another base")
    shape = grid(config)
    hidden, ffn = shape["hidden_size"], size(config, "ffn_dim")
    before = flag(config, "do_layer_norm_before", default=True)
    embedded = size(config, "word_embed_proj_dim", default=hidden)
    around = (("project_in", embedded, hidden, False, "outer"), ("project_out", hidden, embedded, False, "outer"))
    outer = linears(*(around if embedded != hidden else ()))
    return shape | {
        "kind": "decoder",
        "intermediate_size": ffn,
        "tied_embeddings": flag(config, "tie_word_embeddings", default=True),
        "norm_params_per_block": 4 * hidden,
        "embedding_size": embedded,
        "outer_linears": outer,
        "other_params": (shape["max_positions"] + 2 + 2 * before) * hidden + sum(linear.num_params for linear in outer),
        "outer_norms": int(before),
        "layout": "pre" if before else "post",
        "gated_mlp": False,
        "activation": activation(config, "activation_function", default="relu"),
        "norm": "layer",
        "rotary": False,
        "hidden_dropout": share(config, "dropout", default=0.1),
        "attention_dropout": share(config, "attention_dropout", default=0.0),
        "linears": linears(
            ("self_attn.k_proj", hidden, hidden, True, "key"),
            ("self_attn.v_proj", hidden, hidden, True, "value"),
            ("self_attn.q_proj", hidden, hidden, True, "query"),
            ("self_attn.out_proj", hidden, hidden, True, "output"),
            ("fc1", hidden, ffn, True, "up"),
            ("fc2", ffn, hidden, True, "down"),
        ),
    }


def gpt_neox(config: Config) -> Fields:
    shape = grid(config)
    hidden, ffn = shape["hidden_size"], size(config, "intermediate_size")
    bias = flag(config, "attention_bias", default=True)
    return shape | {
        "kind": "decoder",
        "embedding_name": "embed_in",
        "intermediate_size": ffn,
        "tied_embeddings": flag(config, "tie_word_embeddings", default=False),
        "norm_params_per_block": 4 * hidden,
        "other_params": 2 * hidden,
        "gated_mlp": False,
        "activation": activation(config, "hidden_act", default="gelu"),
        "norm": "layer",
        "joined_rotary": True,
        "layout": "parallel" if flag(config, "use_parallel_residual", default=True) else "pre",
        "hidden_dropout": share(config, "hidden_dropout", default=0.0),
        "attention_dropout": share(config, "attention_dropout", default=0.0),
        "linears": linears(
            ("attention.query_key_value", hidden, 3 * hidden, bias, "qkv"),
            ("attention.dense", hidden, hidden, bias, "output"),
            ("mlp.dense_h_to_4h", hidden, ffn, True, "up"),
            ("mlp.dense_4h_to_h", ffn, hidden, True, "down"),
        ),
    }


def phi(config: Config) -> Fields:
    shape = grid(config)
    hidden, ffn = shape["hidden_size"], size(config, "intermediate_size")
    kv = shape["num_kv_heads"] * shape["head_dim"]
    if flag(config, "qk_layernorm", default=False):
        raise Undescribed("Phi with norms on queries and keys has no closed form", "qk_layernorm false, or name another base")
    return shape | {
        "kind": "decoder",
        "intermediate_size": ffn,
        "tied_embeddings": flag(config, "tie_word_embeddings", default=False),
        "norm_params_per_block": 2 * hidden,
        "other_params": 2 * hidden + shape["vocab_size"],
        "outer_biases": shape["vocab_size"],
        "gated_mlp": False,
        "activation": activation(config, "hidden_act", default="gelu_new"),
        "norm": "layer",
        "layout": "parallel_shared",
        "rotary_share": share(config, "partial_rotary_factor", default=0.5),
        "joined_rotary": True,
        "hidden_dropout": share(config, "resid_pdrop", default=0.0),
        "attention_dropout": share(config, "attention_dropout", default=0.0),
        "linears": linears(
            ("self_attn.q_proj", hidden, hidden, True, "query"),
            ("self_attn.k_proj", hidden, kv, True, "key"),
            ("self_attn.v_proj", hidden, kv, True, "value"),
            ("self_attn.dense", hidden, hidden, True, "output"),
            ("mlp.fc1", hidden, ffn, True, "up"),
            ("mlp.fc2", ffn, hidden, True, "down"),
        ),
    }


def gptj(config: Config) -> Fields:
    shape = grid(config)
    hidden, ffn = shape["hidden_size"], size(config, "n_inner", default=4 * shape["hidden_size"])
    return shape | {
        "kind": "decoder",
        "embedding_name": "wte",
        "intermediate_size": ffn,
        "tied_embeddings": flag(config, "tie_word_embeddings", default=False),
        "norm_params_per_block": 2 * hidden,
        "other_params": 2 * hidden + shape["vocab_size"],
        "outer_biases": shape["vocab_size"],
        "gated_mlp": False,
        "activation": activation(config, "activation_function", default="gelu_new"),
        "norm": "layer",
        "layout": "parallel_shared",
        "rotary_share": min(1.0, size(config, "rotary_dim", default=64) / shape["head_dim"]),
        "joined_rotary": True,
        "hidden_dropout": share(config, "resid_pdrop", default=0.0),
        "attention_dropout": share(config, "attn_pdrop", default=0.0),
        "linears": linears(
            ("attn.k_proj", hidden, hidden, False, "key"),
            ("attn.v_proj", hidden, hidden, False, "value"),
            ("attn.q_proj", hidden, hidden, False, "query"),
            ("attn.out_proj", hidden, hidden, False, "output"),
            ("mlp.fc_in", hidden, ffn, True, "up"),
            ("mlp.fc_out", ffn, hidden, True, "down"),
        ),
    }


def falcon(config: Config) -> Fields:
    shape = grid(config)
    hidden, newer = shape["hidden_size"], flag(config, "new_decoder_architecture", default=False)
    several = newer or not flag(config, "multi_query", default=True)
    kv_heads = size(config, "num_kv_heads", default=shape["num_heads"]) if newer else shape["num_heads"] if several else 1
    ffn, bias = size(config, "ffn_hidden_size", default=4 * hidden), flag(config, "bias", default=False)
    norms = size(config, "num_ln_in_parallel_attn", default=2 if newer else 1)
    parallel, alibi = flag(config, "parallel_attn", default=True), flag(config, "alibi", default=False)
    layout = "pre" if not parallel and not newer else "parallel" if newer and norms == 2 else "parallel_shared"
    return shape | {
        "kind": "decoder",
        "embedding_name": "word_embeddings",
        "num_kv_heads": kv_heads,
        "intermediate_size": ffn,
        "tied_embeddings": flag(config, "tie_word_embeddings", default=True),
        "norm_params_per_block": (2 if layout == "parallel_shared" else 4) * hidden,
        "other_params": 2 * hidden,
        "gated_mlp": False,
        "activation": activation(config, "activation", default="gelu"),
        "norm": "layer",
        "layout": layout,
        "rotary": not alibi,
        "scores": "alibi_summed" if alibi else "summed",
        "returns_weights": True,
        "shared_kv_broadcast": not several,
        "expands_kv": newer,
        "caches_expanded": newer,
        "own_linears": True,
        "hidden_dropout": share(config, "hidden_dropout", default=0.0),
        "attention_dropout": share(config, "attention_dropout", default=0.0),
        "linears": linears(
            ("self_attention.query_key_value", hidden, hidden + 2 * kv_heads * shape["head_dim"], bias, "qkv"),
            ("self_attention.dense", hidden, hidden, bias, "output"),
            ("mlp.dense_h_to_4h", hidden, ffn, bias, "up"),
            ("mlp.dense_4h_to_h", ffn, hidden, bias, "down"),
        ),
    }


def bloom(config: Config) -> Fields:
    shape = grid(config)
    hidden = shape["hidden_size"]
    return shape | {
        "kind": "decoder",
        "embedding_name": "word_embeddings",
        "intermediate_size": 4 * hidden,
        "tied_embeddings": flag(config, "tie_word_embeddings", default=True),
        "norm_params_per_block": 4 * hidden,
        "other_params": 4 * hidden,  # a norm follows the embedding
        "outer_norms": 2,
        "gated_mlp": False,
        "activation": "gelu_bloom",
        "norm": "layer",
        "rotary": False,
        "scores": "alibi",
        "normed_embeddings": True,
        "returns_weights": True,
        "fused_attention": False,
        "flash_attention_2": False,
        "hidden_dropout": share(config, "hidden_dropout", default=0.0),
        "attention_dropout": share(config, "attention_dropout", default=0.0),
        "linears": linears(
            ("self_attention.query_key_value", hidden, 3 * hidden, True, "qkv"),
            ("self_attention.dense", hidden, hidden, True, "output"),
            ("mlp.dense_h_to_4h", hidden, 4 * hidden, True, "up"),
            ("mlp.dense_4h_to_h", 4 * hidden, hidden, True, "down"),
        ),
    }


def mpt(config: Config) -> Fields:
    shape = grid(config)
    hidden = shape["hidden_size"]
    return shape | {
        "kind": "decoder",
        "embedding_name": "wte",
        "intermediate_size": 4 * hidden,
        "tied_embeddings": flag(config, "tie_word_embeddings", default=True),
        "norm_params_per_block": 2 * hidden,
        "norms_have_biases": False,
        "other_params": hidden,
        "gated_mlp": False,
        "activation": "gelu",
        "norm": "layer",
        "rotary": False,
        "scores": "alibi_wide",
        "returns_weights": True,
        "fused_attention": False,
        "flash_attention_2": False,
        "linears": linears(
            ("attn.Wqkv", hidden, 3 * hidden, False, "qkv"),
            ("attn.out_proj", hidden, hidden, False, "output"),
            ("ffn.up_proj", hidden, 4 * hidden, False, "up"),
            ("ffn.down_proj", 4 * hidden, hidden, False, "down"),
        ),
    }
