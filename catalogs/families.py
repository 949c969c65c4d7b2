"""FAMILIES: transformers' `model_type` -> how its config becomes an Architecture.

Each row follows the module definitions of transformers 5.24 (`models/<type>/modeling_<type>.py`); a test builds every
type on the meta device and compares names, shapes and counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from catalogs.architectures import Activation, Architecture
from catalogs.config import Config, ConfigUnusable, Fields, activation, flag, grid, linears, share, size
from catalogs.user_file import shortened


def _attention_rows(fields: Fields, *, qkv_bias: bool, out_bias: bool) -> tuple[tuple[str, int, int, bool, str], ...]:
    hidden = fields["hidden_size"]
    query, kv = fields["num_heads"] * fields["head_dim"], fields["num_kv_heads"] * fields["head_dim"]
    return (
        ("self_attn.q_proj", hidden, query, qkv_bias, "query"),
        ("self_attn.k_proj", hidden, kv, qkv_bias, "key"),
        ("self_attn.v_proj", hidden, kv, qkv_bias, "value"),
        ("self_attn.o_proj", query, hidden, out_bias, "output"),
    )


def _mlp_rows(hidden: int, ffn: int, *, bias: bool) -> tuple[tuple[str, int, int, bool, str], ...]:
    return (
        ("mlp.gate_proj", hidden, ffn, bias, "gate"),
        ("mlp.up_proj", hidden, ffn, bias, "up"),
        ("mlp.down_proj", ffn, hidden, bias, "down"),
    )


def _decoder(config: Config, *, tied: bool, head_dim: int | None = None) -> Fields:
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


def _llama(config: Config, *, tied: bool = False, qkv_bias: bool = False, head_dim: int | None = None) -> Fields:
    fields = _decoder(config, tied=tied, head_dim=head_dim)
    bias = flag(config, "attention_bias", default=False)
    rows = _attention_rows(fields, qkv_bias=qkv_bias or bias, out_bias=bias)
    mlp = _mlp_rows(fields["hidden_size"], fields["intermediate_size"], bias=flag(config, "mlp_bias", default=False))
    return fields | {"linears": linears(*rows, *mlp)}


def _qwen2(config: Config) -> Fields:
    return _llama(config, qkv_bias=True)


def _qwen3(config: Config, *, head_dim: int | None = 128) -> Fields:
    fields = _llama(config, head_dim=head_dim)
    return fields | {"qk_norm": "head", "norm_params_per_block": 2 * fields["hidden_size"] + 2 * fields["head_dim"]}


def _olmo2(config: Config) -> Fields:
    fields = _llama(config)
    query, kv = fields["num_heads"] * fields["head_dim"], fields["num_kv_heads"] * fields["head_dim"]
    return fields | {
        "qk_norm": "full",
        "norm": "rms_fp32",
        "layout": "after_sublayer",
        "norm_params_per_block": 2 * fields["hidden_size"] + query + kv,
    }


def _smollm3(config: Config) -> Fields:
    return _llama(config, tied=True)


def _granite(config: Config) -> Fields:
    return _llama(config) | {"scaled_embeddings": True, "scaled_logits": True, "scaled_residual": True}


def _gemma(config: Config) -> Fields:
    return _llama(config, tied=True, head_dim=256) | {"norm": "rms_fp32", "scaled_embeddings": True}


def _gemma2(config: Config) -> Fields:
    fields = _gemma(config)
    return fields | {
        "layout": "sandwich",
        "norm_params_per_block": 4 * fields["hidden_size"],
        "attention_softcap": config.get("attn_logit_softcapping", 50.0) is not None,
        "logits_softcap": config.get("final_logit_softcapping", 30.0) is not None,
    }


def _gemma3(config: Config) -> Fields:
    fields = _gemma2({"attn_logit_softcapping": None, "final_logit_softcapping": None, **config})
    return fields | {"qk_norm": "head", "norm_params_per_block": 4 * fields["hidden_size"] + 2 * fields["head_dim"]}


def _phi3(config: Config) -> Fields:
    fields = _decoder(config, tied=False)
    hidden, ffn = fields["hidden_size"], fields["intermediate_size"]
    query, kv = fields["num_heads"] * fields["head_dim"], fields["num_kv_heads"] * fields["head_dim"]
    return fields | {
        "hidden_dropout": share(config, "resid_pdrop", default=0.0),
        "joined_rotary": True,
        "linears": linears(
            ("self_attn.o_proj", query, hidden, False, "output"),
            ("self_attn.qkv_proj", hidden, query + 2 * kv, False, "qkv"),
            ("mlp.gate_up_proj", hidden, 2 * ffn, False, "gate_up"),
            ("mlp.down_proj", ffn, hidden, False, "down"),
        ),
    }


# ── mixtures of experts: routers and experts are fused parameters, not linears ─────────────────────────────────────────


def _experts(fields: Fields, config: Config, *, ffn: int, top_k: int) -> Fields:
    hidden, num = fields["hidden_size"], size(config, "num_local_experts", "num_experts")
    used = size(config, "num_experts_per_tok", default=top_k)
    if used > num:
        raise ConfigUnusable(f"each token goes through {used} of {num} experts", f"num_experts_per_tok must be at most {num}")
    rows = tuple(linear for linear in fields["linears"] if not linear.name.startswith("mlp."))
    return fields | {
        "linears": rows,
        "num_experts": num,
        "experts_per_token": used,
        "expert_params_per_block": num * (3 * hidden * ffn + hidden),
        "intermediate_size": ffn,
    }


def _mixtral(config: Config) -> Fields:
    return _experts(_llama(config), config, ffn=size(config, "intermediate_size"), top_k=2)


def _qwen3_moe(config: Config) -> Fields:
    if config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1:
        raise ConfigUnusable("a mixture with dense blocks in between has no closed form", "use the trace engine")
    fields = _qwen3({**config, "intermediate_size": size(config, "moe_intermediate_size")}, head_dim=None)
    return _experts(fields, config, ffn=size(config, "moe_intermediate_size"), top_k=8)


def _granitemoe(config: Config) -> Fields:
    return _experts(_granite(config), config, ffn=size(config, "intermediate_size"), top_k=2)


def _granitemoeshared(config: Config) -> Fields:
    fields = _granitemoe(config)
    hidden, shared = fields["hidden_size"], size(config, "shared_intermediate_size", default=0)
    if not shared:
        return fields
    rows = linears(
        ("shared_mlp.input_linear", hidden, 2 * shared, False, "gate_up"),
        ("shared_mlp.output_linear", shared, hidden, False, "down"),
    )
    return fields | {"linears": fields["linears"] + rows}


# ── learned positions, layer norms, plain MLPs ─────────────────────────────────────────────────────────────────────────


def _gpt2_like(config: Config, *, kv: int, default_activation: Activation) -> Fields:
    shape = grid(config)
    hidden = shape["hidden_size"]
    ffn = size(config, "n_inner", default=4 * hidden)
    return shape | {
        "kind": "decoder",
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


def _gpt2(config: Config) -> Fields:
    return _gpt2_like(config, kv=size(config, "n_embd", "hidden_size"), default_activation="gelu_new")


def _gpt_bigcode(config: Config) -> Fields:
    hidden, heads = size(config, "n_embd", "hidden_size"), size(config, "n_head", "num_attention_heads")
    kv_heads = 1 if flag(config, "multi_query", default=True) else heads
    fields = _gpt2_like(config, kv=kv_heads * (hidden // heads), default_activation="gelu_tanh")
    return fields | {"num_kv_heads": kv_heads}


def _opt(config: Config) -> Fields:
    shape = grid(config)
    hidden, ffn = shape["hidden_size"], size(config, "ffn_dim")
    if not flag(config, "do_layer_norm_before", default=True) or config.get("word_embed_proj_dim", hidden) != hidden:
        raise ConfigUnusable("OPT with projected embeddings (the 350m) has no closed form", "choose another size of OPT")
    return shape | {
        "kind": "decoder",
        "intermediate_size": ffn,
        "tied_embeddings": flag(config, "tie_word_embeddings", default=True),
        "norm_params_per_block": 4 * hidden,
        "other_params": (shape["max_positions"] + 2) * hidden + 2 * hidden,
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


def _gpt_neox(config: Config) -> Fields:
    shape = grid(config)
    hidden, ffn = shape["hidden_size"], size(config, "intermediate_size")
    bias = flag(config, "attention_bias", default=True)
    return shape | {
        "kind": "decoder",
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


# ── encoders ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _bert(config: Config) -> Fields:
    shape = grid(config)
    hidden, ffn = shape["hidden_size"], size(config, "intermediate_size")
    types = size(config, "type_vocab_size", default=2)
    return shape | {
        "kind": "encoder",
        "intermediate_size": ffn,
        "tied_embeddings": True,
        "norm_params_per_block": 4 * hidden,
        "other_params": (shape["max_positions"] + types + 2) * hidden + hidden * hidden + hidden,
        "outer_linears": linears(("pooler.dense", hidden, hidden, True, "outer")),
        "gated_mlp": False,
        "activation": activation(config, "hidden_act", default="gelu"),
        "norm": "layer",
        "layout": "post",
        "rotary": False,
        "hidden_dropout": share(config, "hidden_dropout_prob", default=0.1),
        "attention_dropout": share(config, "attention_probs_dropout_prob", default=0.1),
        "linears": linears(
            ("attention.self.query", hidden, hidden, True, "query"),
            ("attention.self.key", hidden, hidden, True, "key"),
            ("attention.self.value", hidden, hidden, True, "value"),
            ("attention.output.dense", hidden, hidden, True, "output"),
            ("intermediate.dense", hidden, ffn, True, "up"),
            ("output.dense", ffn, hidden, True, "down"),
        ),
    }


def _distilbert(config: Config) -> Fields:
    shape = grid(config)
    hidden, ffn = shape["hidden_size"], size(config, "hidden_dim")
    return shape | {
        "kind": "encoder",
        "intermediate_size": ffn,
        "tied_embeddings": True,
        "norm_params_per_block": 4 * hidden,
        "other_params": (shape["max_positions"] + 2) * hidden,
        "gated_mlp": False,
        "activation": activation(config, "activation", default="gelu"),
        "norm": "layer",
        "layout": "post",
        "rotary": False,
        "hidden_dropout": share(config, "dropout", default=0.1),
        "attention_dropout": share(config, "attention_dropout", default=0.1),
        "linears": linears(
            ("attention.q_lin", hidden, hidden, True, "query"),
            ("attention.k_lin", hidden, hidden, True, "key"),
            ("attention.v_lin", hidden, hidden, True, "value"),
            ("attention.out_lin", hidden, hidden, True, "output"),
            ("ffn.lin1", hidden, ffn, True, "up"),
            ("ffn.lin2", ffn, hidden, True, "down"),
        ),
    }


FAMILIES: Final[dict[str, Callable[[Config], Fields]]] = {
    "llama": _llama,
    "mistral": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "olmo2": _olmo2,
    "smollm3": _smollm3,
    "granite": _granite,
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "phi3": _phi3,
    "mixtral": _mixtral,
    "qwen3_moe": _qwen3_moe,
    "granitemoe": _granitemoe,
    "granitemoeshared": _granitemoeshared,
    "gpt2": _gpt2,
    "gpt_bigcode": _gpt_bigcode,
    "opt": _opt,
    "gpt_neox": _gpt_neox,
    "bert": _bert,
    "roberta": _bert,
    "xlm-roberta": _bert,
    "distilbert": _distilbert,
}


def architecture_of(config: Config, *, name: str, source: str) -> Architecture:
    """Read a transformers config. Raises `ConfigUnusable` for a type or a shape that no row covers."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        said = f"model type {shortened(str(model_type))}" if model_type else "a config without model_type"
        raise ConfigUnusable(f"{said} has no closed form here", f"types that are known: {known}")
    stored = config.get("quantization_config")
    if stored is not None and not (isinstance(stored, dict) and isinstance(stored.get("quant_method", ""), str)):
        raise ConfigUnusable(
            f"quantization_config is {shortened(repr(stored))}",
            "quantization_config must be an object with a quant_method, or be left out",
        )
    try:
        fields = FAMILIES[model_type](config)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ConfigUnusable(
            f"the config of type {model_type} holds a value of the wrong kind: {error}", "correct it"
        ) from error
    return Architecture(name=name, model_type=model_type, config=dict(config), source=source, **fields)
