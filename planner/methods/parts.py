"""What the methods train that move parts of the base itself."""

from __future__ import annotations

from fnmatch import fnmatchcase
from operator import mul
from typing import Final

from catalogs.bases.architectures import Architecture, Linear
from planner.methods import options
from planner.methods.layers import LAYERS, carriers, chosen_layers
from planner.refusals import CaseError, Unsupported
from remote.contract import Strategy

MODULES: Final = "modules"  # method_options of freeze: patterns for module paths within a block
EVERY: Final = ("*",)
# derived: types of whose norms peft 0.21's default leaves none out (TRANSFORMERS_MODELS_TO_LNTUNING_TARGET_MODULES_MAPPING)
DEFAULT_IS_EVERY_NORM: Final = frozenset({"llama", "mistral", "gemma", "gemma2", "gpt2", "gptj", "t5", "mt5"})
TOP_BLOCKS: Final = 2  # derived: freeze_trainable_layers of LLaMA-Factory (Zheng et al. 2024, arXiv:2403.13372)


def whole(architecture: Architecture, strategy: Strategy) -> int:
    """Everything."""
    options.known_only(strategy, ())
    return architecture.num_params


def bitfit(architecture: Architecture, strategy: Strategy) -> int:
    """Every bias: of linears in the blocks and outside, and of norms that have one."""
    options.known_only(strategy, (LAYERS,))
    whole = chosen_layers(strategy) is None
    inside = tuple((linear, times) for part, times in carriers(architecture, strategy) for linear in part.linears)
    outside = tuple((linear, 1) for linear in architecture.outer_linears if whole)
    of_linears = sum(times * linear.out_features for linear, times in (*inside, *outside) if linear.bias)
    of_norms = _norms(architecture, strategy) // 2 if _norms_have_biases(architecture) else 0
    others = sum(times * part.biases_per_block for part, times in carriers(architecture, strategy))
    biases = of_linears + of_norms + others + (architecture.outer_biases if whole else 0)
    if not biases:
        raise CaseError("method", f"bitfit trains biases, and {architecture.name} has none", "choose lora")
    return biases


def ln_tuning(architecture: Architecture, strategy: Strategy) -> int:
    """Every norm."""
    options.known_only(strategy, (LAYERS,))
    by_default = strategy.target_modules == "default" and architecture.model_type in DEFAULT_IS_EVERY_NORM
    if strategy.target_modules != "all-linear" and not by_default:
        raise Unsupported("target_modules", "ln_tuning of chosen norms has no closed form yet", "leave target_modules out")
    if architecture.weightless_norms:
        raise CaseError("method", f"peft can't tune norms without weights, as {architecture.name} has them", "choose lora")
    return _norms(architecture, strategy)


def _norms(architecture: Architecture, strategy: Strategy) -> int:
    """Parameters of the norms: in the blocks, and outside: of each stack the last, those of embeddings."""
    one = architecture.hidden_size * (2 if _norms_have_biases(architecture) else 1)
    of_blocks = sum(
        times * (part.norm_params_per_block - part.scan_params_per_block) for part, times in carriers(architecture, strategy)
    )
    return of_blocks + (architecture.outer_norms * one if chosen_layers(strategy) is None else 0)


def _norms_have_biases(architecture: Architecture) -> bool:
    return architecture.norm == "layer" and architecture.norms_have_biases


def freeze(architecture: Architecture, strategy: Strategy) -> int:
    """The top blocks or those that are chosen, whole or what `modules` names of them; where blocks of several kinds
    alternate, so many of average size. Of a decoder beside an encoder its blocks are above the encoder's.
    """
    options.known_only(strategy, (MODULES, LAYERS))
    chosen = chosen_layers(strategy)
    count = top_blocks(architecture, strategy) if chosen is None else len(chosen)
    of_block = [_trained_of_block(part, strategy) for part in architecture.parts]
    if architecture.also_first:
        return sum(map(mul, architecture.top_kinds(count), of_block))
    return (
        count
        * sum(part.num_layers * each for part, each in zip(architecture.parts, of_block, strict=True))
        // architecture.depth
    )


def _trained_of_block(architecture: Architecture, strategy: Strategy) -> int:
    if chooses_all(strategy):
        return architecture.block_params
    return sum(linear.num_params for linear in trained_linears(architecture, strategy))


def chooses_all(strategy: Strategy) -> bool:
    """Whether a trained block trains whole."""
    return patterns_of(strategy) == EVERY


def patterns_of(strategy: Strategy) -> tuple[str, ...]:
    """What `modules` says; everything where it says nothing."""
    return options.words(strategy, MODULES, EVERY)


def trained_linears(architecture: Architecture, strategy: Strategy) -> tuple[Linear, ...]:
    """Linears of a block that the patterns of `modules` name. Raises CaseError for one that names no linear."""
    patterns = patterns_of(strategy)
    inner_norms = architecture.qk_norm != "none" or architecture.layout == "post"
    if patterns != EVERY and (architecture.num_experts or inner_norms):
        words = "modules has no closed form where they hold norms or experts beside linears"
        raise Unsupported("method_options", words, "leave modules out")
    for pattern in patterns:
        if not any(_names(pattern, linear) for linear in architecture.linears):
            names = ", ".join(linear.name for linear in architecture.linears)
            words = f"{architecture.model_type} has no linear in a block that {pattern} matches"
            raise CaseError("method_options", words, f"its linears: {names}")
    return tuple(linear for linear in architecture.linears if any(_names(pattern, linear) for pattern in patterns))


def _names(pattern: str, linear: Linear) -> bool:
    """Whether a pattern matches a linear's path within the block, or that of a module above it."""
    steps = linear.name.split(".")
    return any(fnmatchcase(".".join(steps[:end]), pattern) for end in range(1, len(steps) + 1))


def top_blocks(architecture: Architecture, strategy: Strategy) -> int:
    """How many blocks, from the top, are trained. Raises CaseError where nothing says so, and for more than there are."""
    count, depth = strategy.trainable_layers, architecture.depth
    if count is None:
        needs = f"method {strategy.method} needs trainable_layers, the number of top blocks that are trained"
        raise CaseError("trainable_layers", needs, f"trainable_layers {min(TOP_BLOCKS, depth)}, for example")
    if count > depth:
        words = f"{architecture.name} has {depth} block{'s' * (depth > 1)}, and trainable_layers is {count:,}"
        raise CaseError("trainable_layers", words, f"trainable_layers 1 to {depth}")
    return count
