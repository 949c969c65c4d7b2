"""FAMILIES: transformers' `model_type` -> how its config becomes an Architecture.

Each row follows the module definitions of transformers 5.24 (`models/<type>/modeling_<type>.py`); a test builds every
type on the meta device and compares names, shapes and counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from catalogs.architectures import Activation, Architecture, Linear
from catalogs.user_file import shortened

Config = Mapping[str, Any]
Fields = dict[str, Any]


class ConfigUnusable(Exception):
    """A transformers config that can't be read as a stack of blocks. `hint` says what would help."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


ACTIVATIONS: Final[dict[str, Activation]] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_tanh": "gelu_tanh",
    "gelu_fast": "gelu_new",
    "gelu_new": "gelu_new",
    "relu": "relu",
}


MAX_SIZE: Final = 100_000_000  # assumed: no width, depth, vocabulary or reach of a model comes near it
MAY_BE_ZERO: Final = ("shared_intermediate_size", "type_vocab_size")


def _size(config: Config, *names: str, default: int | None = None) -> int:
    """The first of `names` that the config states."""
    for name in names:
        value = config.get(name)
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, int):
                raise ConfigUnusable(f"{name} is {shortened(repr(value))}", f"{name} must be a whole number")
            if not (0 if name in MAY_BE_ZERO else 1) <= value <= MAX_SIZE:
                raise ConfigUnusable(f"{name} is {shortened(str(value))}", f"{name} must be from 1 to {MAX_SIZE:,}")
            return value
    if default is None:
        raise ConfigUnusable(f"the config of type {config['model_type']} lacks {names[0]}", f"add {names[0]} to the config")
    return default


def _flag(config: Config, name: str, *, default: bool) -> bool:
    """Whether the config says so."""
    value = config.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ConfigUnusable(f"{name} is {shortened(repr(value))}", f"{name} must be true or false")
    return value


def _share(config: Config, name: str, *, default: float) -> float:
    """A dropout, from 0 to 1."""
    value = config.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigUnusable(f"{name} is {shortened(repr(value))}", f"{name} must be from 0 to 1")
    return float(value)


def _activation(config: Config, *names: str, default: Activation) -> Activation:
    word = next((config[name] for name in names if config.get(name)), default)
    if word not in ACTIVATIONS:
        known = ", ".join(sorted(ACTIVATIONS))
        raise ConfigUnusable(f"activation {word} has no closed form", f"known activations: {known}")
    return ACTIVATIONS[word]


def _grid(config: Config, *, head_dim: int | None = None) -> Fields:
    """Width, depth and heads, under the usual names."""
    hidden, heads = _size(config, "hidden_size", "n_embd", "dim"), _size(config, "num_attention_heads", "n_head", "n_heads")
    kv_heads = _size(config, "num_key_value_heads", default=heads)
    if heads % kv_heads:
        raise ConfigUnusable(f"{heads} heads can't share {kv_heads} key heads evenly", "it must divide them")
    if config.get("head_dim") is None and head_dim is None and hidden % heads:
        raise ConfigUnusable(f"a width of {hidden} can't be cut into {heads} heads", "add head_dim to the config")
    return {
        "hidden_size": hidden,
        "num_layers": _size(config, "num_hidden_layers", "n_layer", "n_layers"),
        "num_heads": heads,
        "num_kv_heads": kv_heads,
        "head_dim": _size(config, "head_dim", default=head_dim or hidden // heads),
        "vocab_size": _size(config, "vocab_size"),
        "max_positions": _size(config, "max_position_embeddings", "n_positions", default=2048),
    }


def _linears(*rows: tuple[str, int, int, bool, str]) -> tuple[Linear, ...]:
    return tuple(
        Linear(name=name, in_features=fan_in, out_features=fan_out, bias=bias, role=role)  # type: ignore[arg-type]
        for name, fan_in, fan_out, bias, role in rows
    )


def _attention_rows(grid: Fields, *, qkv_bias: bool, out_bias: bool) -> tuple[tuple[str, int, int, bool, str], ...]:
    hidden, query, kv = grid["hidden_size"], grid["num_heads"] * grid["head_dim"], grid["num_kv_heads"] * grid["head_dim"]
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
    grid = _grid(config, head_dim=head_dim)
    hidden = grid["hidden_size"]
    return grid | {
        "kind": "decoder",
        "intermediate_size": _size(config, "intermediate_size"),
        "tied_embeddings": _flag(config, "tie_word_embeddings", default=tied),
        "norm_params_per_block": 2 * hidden,
        "other_params": hidden,
        "gated_mlp": True,
        "activation": _activation(config, "hidden_act", "hidden_activation", default="silu"),
        "attention_dropout": _share(config, "attention_dropout", default=0.0),
    }


def _llama(config: Config, *, tied: bool = False, qkv_bias: bool = False, head_dim: int | None = None) -> Fields:
    fields = _decoder(config, tied=tied, head_dim=head_dim)
    bias = _flag(config, "attention_bias", default=False)
    rows = _attention_rows(fields, qkv_bias=qkv_bias or bias, out_bias=bias)
    mlp = _mlp_rows(fields["hidden_size"], fields["intermediate_size"], bias=_flag(config, "mlp_bias", default=False))
    return fields | {"linears": _linears(*rows, *mlp)}


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
        "hidden_dropout": _share(config, "resid_pdrop", default=0.0),
        "joined_rotary": True,
        "linears": _linears(
            ("self_attn.o_proj", query, hidden, False, "output"),
            ("self_attn.qkv_proj", hidden, query + 2 * kv, False, "qkv"),
            ("mlp.gate_up_proj", hidden, 2 * ffn, False, "gate_up"),
            ("mlp.down_proj", ffn, hidden, False, "down"),
        ),
    }


# ── mixtures of experts: routers and experts are fused parameters, not linears ─────────────────────────────────────────


def _experts(fields: Fields, config: Config, *, ffn: int, top_k: int) -> Fields:
    hidden, num = fields["hidden_size"], _size(config, "num_local_experts", "num_experts")
    used = _size(config, "num_experts_per_tok", default=top_k)
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
    return _experts(_llama(config), config, ffn=_size(config, "intermediate_size"), top_k=2)


def _qwen3_moe(config: Config) -> Fields:
    if config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1:
        raise ConfigUnusable("a mixture with dense blocks in between has no closed form", "use the trace engine")
    fields = _qwen3({**config, "intermediate_size": _size(config, "moe_intermediate_size")}, head_dim=None)
    return _experts(fields, config, ffn=_size(config, "moe_intermediate_size"), top_k=8)


def _granitemoe(config: Config) -> Fields:
    return _experts(_granite(config), config, ffn=_size(config, "intermediate_size"), top_k=2)


def _granitemoeshared(config: Config) -> Fields:
    fields = _granitemoe(config)
    hidden, shared = fields["hidden_size"], _size(config, "shared_intermediate_size", default=0)
    if not shared:
        return fields
    rows = _linears(
        ("shared_mlp.input_linear", hidden, 2 * shared, False, "gate_up"),
        ("shared_mlp.output_linear", shared, hidden, False, "down"),
    )
    return fields | {"linears": fields["linears"] + rows}


# ── learned positions, layer norms, plain MLPs ─────────────────────────────────────────────────────────────────────────


def _gpt2_like(config: Config, *, kv: int, activation: Activation) -> Fields:
    grid = _grid(config)
    hidden = grid["hidden_size"]
    ffn = _size(config, "n_inner", default=4 * hidden)
    return grid | {
        "kind": "decoder",
        "intermediate_size": ffn,
        "tied_embeddings": _flag(config, "tie_word_embeddings", default=True),
        "norm_params_per_block": 4 * hidden,
        "other_params": grid["max_positions"] * hidden + 2 * hidden,
        "gated_mlp": False,
        "activation": _activation(config, "activation_function", default=activation),
        "norm": "layer",
        "rotary": False,
        "hidden_dropout": _share(config, "resid_pdrop", default=0.1),
        "attention_dropout": _share(config, "attn_pdrop", default=0.1),
        "linears": _linears(
            ("attn.c_attn", hidden, hidden + 2 * kv, True, "qkv"),
            ("attn.c_proj", hidden, hidden, True, "output"),
            ("mlp.c_fc", hidden, ffn, True, "up"),
            ("mlp.c_proj", ffn, hidden, True, "down"),
        ),
    }


def _gpt2(config: Config) -> Fields:
    return _gpt2_like(config, kv=_size(config, "n_embd", "hidden_size"), activation="gelu_new")


def _gpt_bigcode(config: Config) -> Fields:
    hidden, heads = _size(config, "n_embd", "hidden_size"), _size(config, "n_head", "num_attention_heads")
    kv_heads = 1 if _flag(config, "multi_query", default=True) else heads
    fields = _gpt2_like(config, kv=kv_heads * (hidden // heads), activation="gelu_tanh")
    return fields | {"num_kv_heads": kv_heads}


def _opt(config: Config) -> Fields:
    grid = _grid(config)
    hidden, ffn = grid["hidden_size"], _size(config, "ffn_dim")
    if not _flag(config, "do_layer_norm_before", default=True) or config.get("word_embed_proj_dim", hidden) != hidden:
        raise ConfigUnusable("OPT with projected embeddings (the 350m) has no closed form", "choose another size of OPT")
    return grid | {
        "kind": "decoder",
        "intermediate_size": ffn,
        "tied_embeddings": _flag(config, "tie_word_embeddings", default=True),
        "norm_params_per_block": 4 * hidden,
        "other_params": (grid["max_positions"] + 2) * hidden + 2 * hidden,
        "gated_mlp": False,
        "activation": _activation(config, "activation_function", default="relu"),
        "norm": "layer",
        "rotary": False,
        "hidden_dropout": _share(config, "dropout", default=0.1),
        "attention_dropout": _share(config, "attention_dropout", default=0.0),
        "linears": _linears(
            ("self_attn.k_proj", hidden, hidden, True, "key"),
            ("self_attn.v_proj", hidden, hidden, True, "value"),
            ("self_attn.q_proj", hidden, hidden, True, "query"),
            ("self_attn.out_proj", hidden, hidden, True, "output"),
            ("fc1", hidden, ffn, True, "up"),
            ("fc2", ffn, hidden, True, "down"),
        ),
    }


def _gpt_neox(config: Config) -> Fields:
    grid = _grid(config)
    hidden, ffn = grid["hidden_size"], _size(config, "intermediate_size")
    bias = _flag(config, "attention_bias", default=True)
    return grid | {
        "kind": "decoder",
        "intermediate_size": ffn,
        "tied_embeddings": _flag(config, "tie_word_embeddings", default=False),
        "norm_params_per_block": 4 * hidden,
        "other_params": 2 * hidden,
        "gated_mlp": False,
        "activation": _activation(config, "hidden_act", default="gelu"),
        "norm": "layer",
        "joined_rotary": True,
        "layout": "parallel" if _flag(config, "use_parallel_residual", default=True) else "pre",
        "hidden_dropout": _share(config, "hidden_dropout", default=0.0),
        "attention_dropout": _share(config, "attention_dropout", default=0.0),
        "linears": _linears(
            ("attention.query_key_value", hidden, 3 * hidden, bias, "qkv"),
            ("attention.dense", hidden, hidden, bias, "output"),
            ("mlp.dense_h_to_4h", hidden, ffn, True, "up"),
            ("mlp.dense_4h_to_h", ffn, hidden, True, "down"),
        ),
    }


# ── encoders ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _bert(config: Config) -> Fields:
    grid = _grid(config)
    hidden, ffn = grid["hidden_size"], _size(config, "intermediate_size")
    types = _size(config, "type_vocab_size", default=2)
    return grid | {
        "kind": "encoder",
        "intermediate_size": ffn,
        "tied_embeddings": True,
        "norm_params_per_block": 4 * hidden,
        "other_params": (grid["max_positions"] + types + 2) * hidden + hidden * hidden + hidden,
        "outer_linears": _linears(("pooler.dense", hidden, hidden, True, "outer")),
        "gated_mlp": False,
        "activation": _activation(config, "hidden_act", default="gelu"),
        "norm": "layer",
        "layout": "post",
        "rotary": False,
        "hidden_dropout": _share(config, "hidden_dropout_prob", default=0.1),
        "attention_dropout": _share(config, "attention_probs_dropout_prob", default=0.1),
        "linears": _linears(
            ("attention.self.query", hidden, hidden, True, "query"),
            ("attention.self.key", hidden, hidden, True, "key"),
            ("attention.self.value", hidden, hidden, True, "value"),
            ("attention.output.dense", hidden, hidden, True, "output"),
            ("intermediate.dense", hidden, ffn, True, "up"),
            ("output.dense", ffn, hidden, True, "down"),
        ),
    }


def _distilbert(config: Config) -> Fields:
    grid = _grid(config)
    hidden, ffn = grid["hidden_size"], _size(config, "hidden_dim")
    return grid | {
        "kind": "encoder",
        "intermediate_size": ffn,
        "tied_embeddings": True,
        "norm_params_per_block": 4 * hidden,
        "other_params": (grid["max_positions"] + 2) * hidden,
        "gated_mlp": False,
        "activation": _activation(config, "activation", default="gelu"),
        "norm": "layer",
        "layout": "post",
        "rotary": False,
        "hidden_dropout": _share(config, "dropout", default=0.1),
        "attention_dropout": _share(config, "attention_dropout", default=0.1),
        "linears": _linears(
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
