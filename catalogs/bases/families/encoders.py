"""Encoders: BERT and its kin."""

from __future__ import annotations

from catalogs.bases.config import Config, Fields, Undescribed, activation, flag, grid, linears, share, size


def bert(config: Config) -> Fields:
    shape = grid(config)
    hidden, ffn = shape["hidden_size"], size(config, "intermediate_size")
    types = size(config, "type_vocab_size", default=2)
    return shape | {
        "kind": "encoder",
        "embedding_name": "word_embeddings",
        "head_name": None,
        "intermediate_size": ffn,
        "tied_embeddings": True,
        "norm_params_per_block": 4 * hidden,
        "other_params": (shape["max_positions"] + types + 2) * hidden + hidden * hidden + hidden,
        "outer_linears": linears(("pooler.dense", hidden, hidden, True, "outer")),
        "gated_mlp": False,
        "activation": activation(config, "hidden_act", default="gelu"),
        "norm": "layer",
        "layout": "post",
        "normed_embeddings": True,
        "scores": "narrow",
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


def roberta(config: Config) -> Fields:
    return bert(config) | {"dense_classifier": True}


def electra(config: Config) -> Fields:
    """The discriminator: BERT without a pooler."""
    fields = bert(config)
    hidden = fields["hidden_size"]
    if size(config, "embedding_size", default=hidden) != hidden:
        raise Undescribed("ELECTRA with embeddings of another width has no closed form", "name the base or the large one")
    pooler = hidden * hidden + hidden
    return fields | {"other_params": fields["other_params"] - pooler, "outer_linears": (), "dense_classifier": True}


def distilbert(config: Config) -> Fields:
    shape = grid(config)
    hidden, ffn = shape["hidden_size"], size(config, "hidden_dim")
    return shape | {
        "kind": "encoder",
        "embedding_name": "word_embeddings",
        "head_name": None,
        "intermediate_size": ffn,
        "tied_embeddings": True,
        "norm_params_per_block": 4 * hidden,
        "other_params": (shape["max_positions"] + 2) * hidden,
        "dense_classifier": True,
        "gated_mlp": False,
        "activation": activation(config, "activation", default="gelu"),
        "norm": "layer",
        "layout": "post",
        "normed_embeddings": True,
        "scores": "narrow",
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


def deberta_v2(config: Config) -> Fields:
    """Scores are also made between contents and relative positions, through the projections of the contents themselves."""
    shape = grid(config)
    hidden, ffn = shape["hidden_size"], size(config, "intermediate_size")
    if size(config, "conv_kernel_size", default=0) or not flag(config, "share_att_key", default=False):
        raise Undescribed("DeBERTa with a convolution or projections of its own for positions has no closed form", "use v3")
    reach = size(config, "position_buckets", default=-1)
    if reach < 1:
        reach = size(config, "max_relative_positions", default=shape["max_positions"])
    types = size(config, "type_vocab_size", default=0)
    biased = shape["max_positions"] if flag(config, "position_biased_input", default=True) else 0
    normed = 2 * hidden if "layer_norm" in str(config.get("norm_rel_ebd", "none")) else 0
    return shape | {
        "kind": "encoder",
        "embedding_name": "word_embeddings",
        "head_name": None,
        "intermediate_size": ffn,
        "tied_embeddings": True,
        "norm_params_per_block": 4 * hidden,
        "other_params": (biased + types + 2 + 2 * reach) * hidden + normed,
        "outer_norms": 1 + bool(normed),
        "gated_mlp": False,
        "activation": activation(config, "hidden_act", default="gelu"),
        "norm": "layer",
        "layout": "post",
        "normed_embeddings": True,
        "rotary": False,
        "scores": "disentangled",
        "dense_classifier": True,
        "relative_span": 2 * reach,
        "fused_attention": False,
        "flash_attention_2": False,
        "hidden_dropout": share(config, "hidden_dropout_prob", default=0.1),
        "attention_dropout": share(config, "attention_probs_dropout_prob", default=0.1),
        "linears": linears(
            ("attention.self.query_proj", hidden, hidden, True, "query"),
            ("attention.self.key_proj", hidden, hidden, True, "key"),
            ("attention.self.value_proj", hidden, hidden, True, "value"),
            ("attention.output.dense", hidden, hidden, True, "output"),
            ("intermediate.dense", hidden, ffn, True, "up"),
            ("output.dense", ffn, hidden, True, "down"),
        ),
    }
