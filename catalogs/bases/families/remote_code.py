"""Bases whose code comes with their weights: transformers does not have it, so shapes follow the published code.

Sources: modeling_qwen.py of Qwen/Qwen-7B, modeling_baichuan.py of baichuan-inc/Baichuan2-7B-Base and -13B-Base,
modeling_chatglm.py of THUDM/chatglm-6b, chatglm2-6b, chatglm3-6b and glm-4-9b, as recalled 2026-11-26, and
modeling_internlm2.py of internlm/internlm2-7b and what XVERSE, Aquila and MiniCPM have otherwise than Llama, as recalled
2026-11-28; the counts of parameters that they give equal the published ones.
"""

from __future__ import annotations

from catalogs.bases.config import Config, Fields, flag, linears, size
from catalogs.bases.families.rotary import decoder, llama, mlp_rows


def qwen(config: Config) -> Fields:
    """The first Qwen: its config states the width of both halves of the MLP together."""
    fields = decoder(config, tied=False)
    hidden, ffn = fields["hidden_size"], fields["intermediate_size"] // 2
    return fields | {
        "remote_code": True,
        "embedding_name": "wte",
        "intermediate_size": ffn,
        "max_positions": size(config, "seq_length", default=fields["max_positions"]),
        "linears": linears(
            ("attn.c_attn", hidden, 3 * hidden, True, "qkv"),
            ("attn.c_proj", hidden, hidden, False, "output"),
            ("mlp.w1", hidden, ffn, False, "up"),
            ("mlp.w2", hidden, ffn, False, "gate"),
            ("mlp.c_proj", ffn, hidden, False, "down"),
        ),
    }


def baichuan(config: Config) -> Fields:
    """Llama with a joint projection; the 13B, whose config bounds no positions, adds a bias to its scores instead."""
    fields = decoder(config, tied=False)
    hidden, biased = fields["hidden_size"], config.get("max_position_embeddings") is None
    return fields | {
        "remote_code": True,
        "max_positions": size(config, "max_position_embeddings", "model_max_length", default=4096),
        "rotary": not biased,
        "scores": "narrow" if biased else "wide",
        "fused_attention": not biased,
        "linears": linears(
            ("self_attn.W_pack", hidden, 3 * hidden, False, "qkv"),
            ("self_attn.o_proj", hidden, hidden, False, "output"),
            *mlp_rows(hidden, fields["intermediate_size"], bias=False),
        ),
    }


def internlm2(config: Config) -> Fields:
    """Llama with a joint projection and names of its own; its code repeats keys and values to all heads before it attends."""
    fields = decoder(config, tied=False)
    hidden, ffn, width = fields["hidden_size"], fields["intermediate_size"], fields["head_dim"]
    query, joint = fields["num_heads"] * width, (fields["num_heads"] + 2 * fields["num_kv_heads"]) * width
    biased = flag(config, "bias", default=False)
    return fields | {
        "remote_code": True,
        "embedding_name": "tok_embeddings",
        "head_name": "output",
        "expands_kv": True,
        "linears": linears(
            ("attention.wqkv", hidden, joint, biased, "qkv"),
            ("attention.wo", query, hidden, biased, "output"),
            ("feed_forward.w1", hidden, ffn, False, "gate"),
            ("feed_forward.w3", hidden, ffn, False, "up"),
            ("feed_forward.w2", ffn, hidden, False, "down"),
        ),
    }


def like_llama(config: Config) -> Fields:
    """XVERSE and Aquila have Llama's modules under Llama's names."""
    return llama(config) | {"remote_code": True}


def minicpm(config: Config) -> Fields:
    """Llama with tied embeddings, which scales what comes from them and its residuals."""
    return llama(config, tied=True) | {"remote_code": True, "scaled_embeddings": True, "scaled_residual": True}


def chatglm(config: Config) -> Fields:
    """The first ChatGLM states `inner_hidden_size`; its successors have RMS norms, few key heads and a gated MLP."""
    return _first_glm(config) if config.get("inner_hidden_size") is not None else _second_glm(config)


def _first_glm(config: Config) -> Fields:
    hidden, ffn = size(config, "hidden_size"), size(config, "inner_hidden_size")
    heads = size(config, "num_attention_heads")
    return {
        "remote_code": True,
        "kind": "decoder",
        "embedding_name": "word_embeddings",
        "hidden_size": hidden,
        "num_layers": size(config, "num_layers"),
        "num_heads": heads,
        "num_kv_heads": heads,
        "head_dim": hidden // heads,
        "intermediate_size": ffn,
        "vocab_size": size(config, "vocab_size"),
        "max_positions": size(config, "max_sequence_length", default=2048),
        "tied_embeddings": True,
        "norm_params_per_block": 4 * hidden,
        "other_params": 2 * hidden,
        "gated_mlp": False,
        "activation": "gelu_tanh",
        "norm": "layer",
        "fused_attention": False,
        "linears": linears(
            ("attention.query_key_value", hidden, 3 * hidden, True, "qkv"),
            ("attention.dense", hidden, hidden, True, "output"),
            ("mlp.dense_h_to_4h", hidden, ffn, True, "up"),
            ("mlp.dense_4h_to_h", ffn, hidden, True, "down"),
        ),
    }


def _second_glm(config: Config) -> Fields:
    hidden, ffn = size(config, "hidden_size"), size(config, "ffn_hidden_size")
    heads, width = size(config, "num_attention_heads"), size(config, "kv_channels", default=128)
    groups = size(config, "multi_query_group_num") if flag(config, "multi_query_attention", default=True) else heads
    joint = heads * width + 2 * groups * width
    return {
        "remote_code": True,
        "kind": "decoder",
        "embedding_name": "word_embeddings",
        "head_name": "output_layer",
        "hidden_size": hidden,
        "num_layers": size(config, "num_layers"),
        "num_heads": heads,
        "num_kv_heads": groups,
        "head_dim": width,
        "intermediate_size": ffn,
        "vocab_size": size(config, "padded_vocab_size"),
        "max_positions": size(config, "seq_length", default=32768),
        "tied_embeddings": False,
        "norm_params_per_block": 2 * hidden,
        "other_params": hidden,
        "gated_mlp": True,
        "activation": "silu",
        "rotary_share": 0.5,
        "joined_rotary": True,
        "expands_kv": True,
        "linears": linears(
            ("self_attention.query_key_value", hidden, joint, flag(config, "add_qkv_bias", default=True), "qkv"),
            ("self_attention.dense", heads * width, hidden, False, "output"),
            ("mlp.dense_h_to_4h", hidden, 2 * ffn, False, "gate_up"),
            ("mlp.dense_4h_to_h", ffn, hidden, False, "down"),
        ),
    }
