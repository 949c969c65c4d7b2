"""Encoders: BERT and its kin."""

from __future__ import annotations

from catalogs.config import Config, Fields, activation, grid, linears, share, size


def bert(config: Config) -> Fields:
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


def distilbert(config: Config) -> Fields:
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
