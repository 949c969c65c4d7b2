"""What the methods train that put learned positions in front of a sequence. Counts are those of peft 0.21's encoders."""

from __future__ import annotations

from typing import Final

from catalogs.bases.architectures import Architecture
from planner.methods import options
from planner.methods.adapters import LORA
from planner.methods.linears import hung
from planner.refusals import CaseError
from remote.contract import Strategy

# derived: the paper tries 1, 5, 20, 100 and 150, of which those above 20 gain little (Lester et al. 2021, arXiv:2104.08691)
NUM_VIRTUAL_TOKENS: Final = 20
ENCODERS: Final = ("MLP", "LSTM")  # peft's PromptEncoderReparameterizationType, its default first
TEXT_OPTIONS: Final = ("prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path", "tokenizer_kwargs")


def virtual_tokens(strategy: Strategy) -> int:
    """How many positions are learned. Raises CaseError where nothing says so."""
    if strategy.num_virtual_tokens is None:
        hint = f"say {NUM_VIRTUAL_TOKENS}, for example"
        raise CaseError("num_virtual_tokens", f"{strategy.method} needs num_virtual_tokens", hint)
    return strategy.num_virtual_tokens


def prompt_tuning(architecture: Architecture, strategy: Strategy) -> int:
    """One embedding for each virtual token."""
    options.known_only(strategy, TEXT_OPTIONS)
    return virtual_tokens(strategy) * architecture.hidden_size


def lora_prompt(architecture: Architecture, strategy: Strategy) -> int:
    """LoRA's matrices and the prompt's embeddings."""
    return hung(LORA)(architecture, strategy) + virtual_tokens(strategy) * architecture.hidden_size


def p_tuning(architecture: Architecture, strategy: Strategy) -> int:
    """The embeddings, and the encoder that they go through."""
    options.known_only(
        strategy, ("encoder_reparameterization_type", "encoder_hidden_size", "encoder_num_layers", "encoder_dropout")
    )
    return virtual_tokens(strategy) * architecture.hidden_size + p_tuning_encoder(architecture, strategy)


def p_tuning_encoder(architecture: Architecture, strategy: Strategy) -> int:
    """derived: peft's PromptEncoder: an MLP of three linears, or a bidirectional LSTM and an MLP of two."""
    h = architecture.hidden_size
    e = options.count(strategy, "encoder_hidden_size", h)
    if options.word(strategy, "encoder_reparameterization_type", ENCODERS) == "MLP":
        return _linear(h, e) + _linear(e, e) + _linear(e, h)
    layers = options.count(strategy, "encoder_num_layers", 2)
    both_ways = sum(2 * 4 * e * (width + e + 2) for width in (h, *[2 * e] * (layers - 1)))  # four gates, two bias vectors
    return both_ways + _linear(2 * e, 2 * e) + _linear(2 * e, h)


def prefix_tuning(architecture: Architecture, strategy: Strategy) -> int:
    """Keys and values of every block for each virtual token; with `prefix_projection`, an MLP that makes them."""
    options.known_only(strategy, ("prefix_projection", "encoder_hidden_size", "init_weights"))
    _require_room_in_cache(architecture, strategy)
    made = 2 * _cached_blocks(architecture) * architecture.cached_size
    tokens = virtual_tokens(strategy)
    if not projects(strategy):
        return tokens * made
    return tokens * architecture.cached_size + prefix_encoder(architecture, strategy)


def _require_room_in_cache(architecture: Architecture, strategy: Strategy) -> None:
    """Refuse bases whose cache takes no keys of the shape that peft 0.21 learns: of as many heads as `num_key_value_heads`
    says, or as the queries have where a config has no such key, like Falcon's.
    """
    mixers = {part.mixer for part in architecture.parts}
    cache = next((what for mixer, what in OTHER_CACHES.items() if mixer in mixers), None)
    cache = "one key head" if architecture.shared_kv_broadcast else cache
    if cache is not None:
        words = f"{strategy.method} learns keys and values for every head, and the cache of {architecture.name} holds {cache}"
        raise CaseError("method", words, "method prompt_tuning learns embeddings instead")


# derived: DeepseekV3Attention and GraniteMoeHybridMambaLayer of transformers 5.24
OTHER_CACHES: Final = {"latent": "one narrow state", "mamba": "states of a scan"}


def projects(strategy: Strategy) -> bool:
    """Whether a prefix is made by an MLP (Li and Liang's reparametrization)."""
    return options.flag(strategy, "prefix_projection")


def prefix_encoder(architecture: Architecture, strategy: Strategy) -> int:
    """derived: peft's PrefixEncoder: two linears around a tanh; its width is that of all key heads."""
    d = architecture.cached_size
    e = options.count(strategy, "encoder_hidden_size", d)
    return _linear(d, e) + _linear(e, 2 * _cached_blocks(architecture) * d)


def _cached_blocks(architecture: Architecture) -> int:
    """Blocks whose keys a prefix stands before: of a decoder beside an encoder the decoder's, which come first here."""
    return architecture.num_layers if architecture.kind == "encoder_decoder" else architecture.depth


def _linear(fan_in: int, fan_out: int) -> int:
    return fan_in * fan_out + fan_out
