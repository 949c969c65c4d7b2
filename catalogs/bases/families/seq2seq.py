"""Encoders with a decoder beside them: T5 and its kin."""

from __future__ import annotations

from msgspec.structs import replace

from catalogs.bases.architectures import Linear
from catalogs.bases.config import Config, Fields, activation, flag, linears, share, size
from catalogs.bases.families.rotary import Row, Rows


def t5(config: Config) -> Fields:
    """The decoder's blocks come first, the encoder's are the other kind; `seq_len` holds for each side."""
    hidden, heads, width = size(config, "d_model"), size(config, "num_heads"), size(config, "d_kv", default=64)
    layers, ffn = size(config, "num_layers"), size(config, "d_ff")
    form = str(config.get("feed_forward_proj", "relu"))
    gated, inner = form.startswith("gated-"), heads * width
    attention = _attention("layer.0.SelfAttention", hidden, inner, "")
    cross = _attention("layer.1.EncDecAttention", hidden, inner, "cross_")
    dropout, buckets = share(config, "dropout_rate", default=0.1), size(config, "relative_attention_num_buckets", default=32)
    encoder = {
        "kind": "encoder",
        "num_layers": layers,
        "layout": "pre",
        "norm_params_per_block": 2 * hidden,
        "linears": _linears(*attention, *_mlp("layer.1.DenseReluDense", hidden, ffn, gated=gated)),
    }
    return {
        "kind": "encoder_decoder",
        "hidden_size": hidden,
        "num_layers": size(config, "num_decoder_layers", default=layers),
        "num_heads": heads,
        "num_kv_heads": heads,
        "head_dim": width,
        "intermediate_size": ffn,
        "vocab_size": size(config, "vocab_size"),
        "max_positions": size(config, "n_positions", default=512),
        "tied_embeddings": flag(config, "tie_word_embeddings", default=True),
        "norm_params_per_block": 3 * hidden,
        "other_params": 2 * hidden + 2 * buckets * heads,
        "outer_norms": 2,
        "gated_mlp": gated,
        "activation": activation(
            {"form": "gelu_new" if form == "gated-gelu" else form.removeprefix("gated-")}, "form", default="relu"
        ),
        "norm": "rms_t5",
        "layout": "pre_cross",
        "rotary": False,
        "scores": "narrow",
        "position_bias": True,
        "flash_attention_2": False,
        "hidden_dropout": dropout,
        "attention_dropout": dropout,
        "inner_dropout": dropout,
        "narrows_inner": True,
        "linears": _linears(*attention, *cross, *_mlp("layer.2.DenseReluDense", hidden, ffn, gated=gated)),
        "also": (encoder,),
        "also_first": True,
    }


def _linears(*rows: Row) -> tuple[Linear, ...]:
    """Linears of which bitsandbytes leaves the last of an MLP: `_keep_in_fp32_modules` of transformers' T5."""
    return tuple(replace(linear, kept=linear.role == "down") for linear in linears(*rows))


def _attention(path: str, hidden: int, inner: int, side: str) -> Rows:
    return (
        (f"{path}.q", hidden, inner, False, f"{side}query"),
        (f"{path}.k", hidden, inner, False, f"{side}key"),
        (f"{path}.v", hidden, inner, False, f"{side}value"),
        (f"{path}.o", inner, hidden, False, f"{side}output"),
    )


def _mlp(path: str, hidden: int, ffn: int, *, gated: bool) -> Rows:
    into: Rows = ((f"{path}.wi", hidden, ffn, False, "up"),)
    if gated:
        into = ((f"{path}.wi_0", hidden, ffn, False, "gate"), (f"{path}.wi_1", hidden, ffn, False, "up"))
    return (*into, (f"{path}.wo", ffn, hidden, False, "down"))
