"""Decoders in the shape of Llama: rotary positions, RMS norms, a gated MLP."""

from __future__ import annotations

from catalogs.bases.config import Config, Fields, Undescribed, activation, flag, grid, linears, share, size

Row = tuple[str, int, int, bool, str]  # name, inputs, outputs, whether there is a bias, role
Rows = tuple[Row, ...]


def attention_rows(fields: Fields, *, qkv_bias: bool, out_bias: bool) -> Rows:
    hidden = fields["hidden_size"]
    query, kv = fields["num_heads"] * fields["head_dim"], fields["num_kv_heads"] * fields["head_dim"]
    return (
        ("self_attn.q_proj", hidden, query, qkv_bias, "query"),
        ("self_attn.k_proj", hidden, kv, qkv_bias, "key"),
        ("self_attn.v_proj", hidden, kv, qkv_bias, "value"),
        ("self_attn.o_proj", query, hidden, out_bias, "output"),
    )


def mlp_rows(hidden: int, ffn: int, *, bias: bool) -> Rows:
    return (
        ("mlp.gate_proj", hidden, ffn, bias, "gate"),
        ("mlp.up_proj", hidden, ffn, bias, "up"),
        ("mlp.down_proj", ffn, hidden, bias, "down"),
    )


def decoder(config: Config, *, tied: bool, head_dim: int | None = None) -> Fields:
    """What every Llama-shaped decoder shares: rotary positions, RMS norms, a gated MLP."""
    shape = grid(config, head_dim=head_dim)
    hidden = shape["hidden_size"]
    return shape | {
        "kind": "decoder",
        "intermediate_size": size(config, "intermediate_size"),
        "tied_embeddings": flag(config, "tie_word_embeddings", default=tied),
        "norm_params_per_block": 2 * hidden,
        "other_params": hidden,
        "gated_mlp": True,
        "activation": activation(config, "hidden_act", "hidden_activation", default="silu"),
        "attention_dropout": share(config, "attention_dropout", default=0.0),
    }


def llama(config: Config, *, tied: bool = False, qkv_bias: bool = False, head_dim: int | None = None) -> Fields:
    fields = decoder(config, tied=tied, head_dim=head_dim)
    bias = flag(config, "attention_bias", default=False)
    rows = attention_rows(fields, qkv_bias=qkv_bias or bias, out_bias=bias)
    mlp = mlp_rows(fields["hidden_size"], fields["intermediate_size"], bias=flag(config, "mlp_bias", default=False))
    return fields | {"linears": linears(*rows, *mlp)}


def mistral(config: Config) -> Fields:
    return llama(config) | {"window": window_of(config), "expanded_kv_for_flash": True}


def window_of(config: Config) -> int | None:
    """How many positions back a token sees, where the config bounds that."""
    return None if config.get("sliding_window") is None else size(config, "sliding_window")


def windows(fields: Fields, config: Config, *, every: int) -> Fields:
    """Blocks of two kinds: every so many see everything, the others the window."""
    window, layers = window_of(config), fields["num_layers"]
    kinds = config.get("layer_types")
    whole = kinds.count("full_attention") if isinstance(kinds, list) else layers // every
    if window is None or not whole:
        return fields | {"window": window}
    return fields | {"num_layers": whole, "also": ({"num_layers": layers - whole, "window": window},) if whole < layers else ()}


def qwen2(config: Config) -> Fields:
    return llama(config, qkv_bias=True)


def qwen3(config: Config, *, head_dim: int | None = 128) -> Fields:
    fields = llama(config, head_dim=head_dim)
    return fields | {"qk_norm": "head", "norm_params_per_block": 2 * fields["hidden_size"] + 2 * fields["head_dim"]}


def olmo2(config: Config) -> Fields:
    fields = llama(config)
    query, kv = fields["num_heads"] * fields["head_dim"], fields["num_kv_heads"] * fields["head_dim"]
    return fields | {
        "qk_norm": "full",
        "norm": "rms_fp32",
        "layout": "after_sublayer",
        "norm_params_per_block": 2 * fields["hidden_size"] + query + kv,
    }


def smollm3(config: Config) -> Fields:
    return llama(config, tied=True)


def granite(config: Config) -> Fields:
    return llama(config) | {"scaled_embeddings": True, "scaled_logits": True, "scaled_residual": True}


def gemma(config: Config) -> Fields:
    return llama(config, tied=True, head_dim=256) | {"norm": "rms_fp32", "scaled_embeddings": True}


def gemma2(config: Config) -> Fields:
    fields = gemma(config)
    return fields | {
        "layout": "sandwich",
        "norm_params_per_block": 4 * fields["hidden_size"],
        "attention_softcap": config.get("attn_logit_softcapping", 50.0) is not None,
        "logits_softcap": config.get("final_logit_softcapping", 30.0) is not None,
    }


def gemma3(config: Config) -> Fields:
    fields = gemma2({"attn_logit_softcapping": None, "final_logit_softcapping": None, **config})
    fields |= {"qk_norm": "head", "norm_params_per_block": 4 * fields["hidden_size"] + 2 * fields["head_dim"]}
    return windows(fields, {"sliding_window": 4096, **config}, every=6)


def phi3(config: Config) -> Fields:
    fields = decoder(config, tied=False)
    hidden, ffn = fields["hidden_size"], fields["intermediate_size"]
    query, kv = fields["num_heads"] * fields["head_dim"], fields["num_kv_heads"] * fields["head_dim"]
    return fields | {
        "hidden_dropout": share(config, "resid_pdrop", default=0.0),
        "window": window_of(config),
        "joined_rotary": True,
        "linears": linears(
            ("self_attn.o_proj", query, hidden, False, "output"),
            ("self_attn.qkv_proj", hidden, query + 2 * kv, False, "qkv"),
            ("mlp.gate_up_proj", hidden, 2 * ffn, False, "gate_up"),
            ("mlp.down_proj", ffn, hidden, False, "down"),
        ),
    }


def stablelm(config: Config) -> Fields:
    fields = decoder(config, tied=False)
    if flag(config, "qk_layernorm", default=False):
        raise Undescribed("StableLM with a norm for each head has no closed form", "qk_layernorm false, or name another base")
    shared, hidden = flag(config, "use_parallel_residual", default=False), fields["hidden_size"]
    rows = attention_rows(fields, qkv_bias=flag(config, "use_qkv_bias", default=False), out_bias=False)
    return fields | {
        "norm": "layer",
        "layout": "parallel_shared" if shared else "pre",
        "rotary_share": share(config, "partial_rotary_factor", default=0.25),
        "joined_rotary": True,
        "hidden_dropout": share(config, "hidden_dropout", default=0.0),
        "norm_params_per_block": (2 if shared else 4) * hidden,
        "other_params": 2 * hidden,
        "linears": linears(*rows, *mlp_rows(hidden, fields["intermediate_size"], bias=False)),
    }


def starcoder2(config: Config) -> Fields:
    fields = decoder({"hidden_act": "gelu_pytorch_tanh", **config}, tied=True)
    hidden, ffn, bias = fields["hidden_size"], fields["intermediate_size"], flag(config, "use_bias", default=True)
    mlp = (("mlp.c_fc", hidden, ffn, bias, "up"), ("mlp.c_proj", ffn, hidden, bias, "down"))
    return fields | {
        "norm": "layer",
        "gated_mlp": False,
        "window": window_of(config),
        "hidden_dropout": share(config, "residual_dropout", default=0.0),
        "norm_params_per_block": 4 * hidden,
        "other_params": 2 * hidden,
        "linears": linears(*attention_rows(fields, qkv_bias=bias, out_bias=bias), *mlp),
    }
