"""A transformers config, read key by key: sizes, flags and words that make sense, or a refusal that names the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from catalogs.bases.architectures import Activation, Linear
from catalogs.user_file import shortened

Config = Mapping[str, Any]
Fields = dict[str, Any]


class ConfigUnusable(Exception):
    """A transformers config that can't be read as a stack of blocks. `hint` says what would help."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Undescribed(ConfigUnusable):
    """A config of blocks that nobody has described here; whoever builds the model may know them."""


class TypeUnknown(Undescribed):
    """One whose very type is not described."""


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
MAY_BE_ZERO: Final = ("shared_intermediate_size", "type_vocab_size", "conv_kernel_size")
MAY_BE_LESS: Final = ("position_buckets", "max_relative_positions")  # -1 = none


def size(config: Config, *names: str, default: int | None = None) -> int:
    """The first of `names` that the config states."""
    for name in names:
        value = config.get(name)
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, int):
                raise ConfigUnusable(f"{name} is {shortened(repr(value))}", f"{name} must be a whole number")
            if not (-1 if name in MAY_BE_LESS else 0 if name in MAY_BE_ZERO else 1) <= value <= MAX_SIZE:
                raise ConfigUnusable(f"{name} is {shortened(str(value))}", f"{name} must be from 1 to {MAX_SIZE:,}")
            return value
    if default is None:
        raise ConfigUnusable(f"the config of type {config['model_type']} lacks {names[0]}", f"add {names[0]} to the config")
    return default


def flag(config: Config, name: str, *, default: bool) -> bool:
    """Whether the config says so."""
    value = config.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ConfigUnusable(f"{name} is {shortened(repr(value))}", f"{name} must be true or false")
    return value


def share(config: Config, name: str, *, default: float) -> float:
    """A dropout, from 0 to 1."""
    value = config.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigUnusable(f"{name} is {shortened(repr(value))}", f"{name} must be from 0 to 1")
    return float(value)


def activation(config: Config, *names: str, default: Activation) -> Activation:
    """The first of `names` that the config states, as one of the activations that have a closed form."""
    word = next((config[name] for name in names if config.get(name)), default)
    if word not in ACTIVATIONS:
        known = ", ".join(sorted(ACTIVATIONS))
        raise ConfigUnusable(f"activation {word} has no closed form", f"known activations: {known}")
    return ACTIVATIONS[word]


def grid(config: Config, *, head_dim: int | None = None) -> Fields:
    """Width, depth and heads, under the usual names."""
    hidden, heads = (
        size(config, "hidden_size", "n_embd", "dim", "d_model"),
        size(config, "num_attention_heads", "n_head", "n_heads"),
    )
    kv_heads = size(config, "num_key_value_heads", default=heads)
    if heads % kv_heads:
        raise ConfigUnusable(f"{heads} heads can't share {kv_heads} key heads evenly", "it must divide them")
    if config.get("head_dim") is None and head_dim is None and hidden % heads:
        raise ConfigUnusable(f"a width of {hidden} can't be cut into {heads} heads", "add head_dim to the config")
    return {
        "hidden_size": hidden,
        "num_layers": size(config, "num_hidden_layers", "n_layer", "n_layers", "num_layers"),
        "num_heads": heads,
        "num_kv_heads": kv_heads,
        "head_dim": size(config, "head_dim", default=head_dim or hidden // heads),
        "vocab_size": size(config, "vocab_size"),
        "max_positions": size(config, "max_position_embeddings", "n_positions", "max_seq_len", default=2048),
    }


def linears(*rows: tuple[str, int, int, bool, str]) -> tuple[Linear, ...]:
    """Linears from rows of name, inputs, outputs, whether they have a bias, and role."""
    return tuple(
        Linear(name=name, in_features=fan_in, out_features=fan_out, bias=bias, role=role)  # type: ignore[arg-type]
        for name, fan_in, fan_out, bias, role in rows
    )
