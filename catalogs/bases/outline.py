"""What every transformers config says of its base: the outline of one whose blocks nobody has described here."""

from __future__ import annotations

from typing import Final

from catalogs.bases.architectures import Architecture
from catalogs.bases.config import Config, ConfigUnusable, flag, size

# words for the same number, the first of each transformers' own: BART and GPT-Neo have words of their own
WIDTH: Final = ("hidden_size", "n_embd", "dim", "d_model")
DEPTH: Final = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers")
HEADS: Final = ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads", "decoder_attention_heads")
POSITIONS: Final = ("max_position_embeddings", "n_positions", "max_seq_len")

# derived: language models of transformers 5.24 without `_supports_sdpa`, beside those whose every config has a closed form
EAGER_ALONE: Final = frozenset(
    """
    gpt_neo gpt_neox_japanese openai-gpt megatron-bert rembert roformer xglm vaultgemma prophetnet deberta deberta-v2
    """.split()  # noqa: SIM905 - a list of words, read as one
)


def outline_of(config: Config, *, name: str, source: str) -> Architecture:
    """Width, depth and vocabulary, and no linear. Parameters are counted by whoever builds the model: `other_params` are none.

    Raises `ConfigUnusable` for a config without a type or one of these.
    """
    if not isinstance(config.get("model_type"), str):
        raise ConfigUnusable("a config without model_type", "add model_type to the config")
    hidden, heads = size(config, *WIDTH), size(config, *HEADS)
    return Architecture(
        name=name,
        model_type=str(config["model_type"]),
        kind="encoder_decoder" if flag(config, "is_encoder_decoder", default="decoder_layers" in config) else "decoder",
        hidden_size=hidden,
        num_layers=size(config, *DEPTH),
        num_heads=heads,
        num_kv_heads=size(config, "num_key_value_heads", default=heads),
        head_dim=size(config, "head_dim", default=max(1, hidden // heads)),
        intermediate_size=size(config, "intermediate_size", "ffn_dim", "n_inner", "decoder_ffn_dim", default=4 * hidden),
        vocab_size=size(config, "vocab_size"),
        max_positions=size(config, *POSITIONS, default=2048),
        tied_embeddings=flag(config, "tie_word_embeddings", default=True),
        linears=(),
        norm_params_per_block=0,
        other_params=0,
        gated_mlp=False,
        outlined=True,
        fused_attention=config["model_type"] not in EAGER_ALONE,
        config=dict(config),
        source=source,
    )
