"""Which linears of a base carry an adapter."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from catalogs.bases.architectures import Architecture, Linear
from planner.methods.experts import renamed
from planner.methods.layers import carriers, chosen_layers
from planner.refusals import CaseError
from remote.contract import Strategy

# derived: peft's TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING (peft 0.21, utils/constants.py)
LORA_TARGETS: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        ("llama", "mistral", "mixtral", "gemma", "gemma2", "gemma3_text", "qwen2", "qwen3", "opt", "gptj", "stablelm"),
        ("q_proj", "v_proj"),
    ),
    **dict.fromkeys(("gpt2", "gpt_bigcode"), ("c_attn",)),
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "electra"), ("query", "value")),
    **dict.fromkeys(("gpt_neox", "bloom", "falcon", "chatglm"), ("query_key_value",)),
    **dict.fromkeys(("t5", "mt5"), ("q", "v")),
    "phi": ("q_proj", "v_proj", "fc1", "fc2"),
    "mpt": ("Wqkv",),
    "deberta-v2": ("query_proj", "value_proj"),
    "deberta": ("in_proj",),
}
# derived: peft's TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING (same file)
IA3_TARGETS: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(("llama", "mistral"), ("k_proj", "v_proj", "down_proj")),
    **dict.fromkeys(("gemma", "gemma2", "gemma3_text", "qwen2", "qwen3"), ("q_proj", "v_proj", "down_proj")),
    **dict.fromkeys(("gpt2", "gpt_bigcode"), ("c_attn", "mlp.c_proj")),
    **dict.fromkeys(("bert", "roberta"), ("key", "value", "output.dense")),
    "opt": ("q_proj", "k_proj", "fc2"),
    **dict.fromkeys(("gpt_neox", "falcon"), ("query_key_value", "dense_4h_to_h")),
    "bloom": ("query_key_value", "mlp.dense_4h_to_h"),
    "phi": ("q_proj", "v_proj", "fc2"),
    "gptj": ("q_proj", "v_proj", "fc_out"),
    "t5": ("k", "v", "wo"),
    "mt5": ("k", "v", "wi_1"),
    "deberta-v2": ("key_proj", "value_proj", "output.dense"),
    "deberta": ("in_proj", "output.dense"),
}

ADALORA_LACKS: Final = frozenset(
    {"mistral", "mixtral", "xlm-roberta", "electra", "falcon", "chatglm", "mpt", "phi", "stablelm"}
)
ADALORA_TARGETS: Final = {  # derived: its own table there, which lacks newer types
    model_type: suffixes for model_type, suffixes in LORA_TARGETS.items() if model_type not in ADALORA_LACKS
} | {
    "opt": ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
    "roberta": ("query", "key", "value", "dense"),
    "t5": ("q", "k", "v", "o", "wi", "wo"),
    "mt5": ("q", "k", "v", "o", "wi_0", "wi_1", "wo"),
    "deberta-v2": ("query_proj", "key_proj", "value_proj", "dense"),
}
VERA_TARGETS: Final = LORA_TARGETS | {"phi": ("q_proj", "v_proj")}
FOURIERFT_TARGETS: Final = LORA_TARGETS | dict.fromkeys(("gpt2", "gpt_bigcode"), ("mlp.c_proj",))

# Method → model_type → suffixes, for the methods that hang on linears.
DEFAULT_TARGETS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    **dict.fromkeys(
        ("lora", "rslora", "pissa", "lora_plus", "lora_prompt", "dora", "loha", "lokr", "oft", "boft"), LORA_TARGETS
    ),
    "adalora": ADALORA_TARGETS,
    "fourierft": FOURIERFT_TARGETS,
    "vera": VERA_TARGETS,
    "ia3": IA3_TARGETS,
}


def _targets(architecture: Architecture, strategy: Strategy) -> tuple[str, ...]:
    """The suffixes that are meant, or () for every linear."""
    said = strategy.target_modules
    if said == "all-linear":
        return ()
    if said != "default":
        return said
    table = DEFAULT_TARGETS.get(strategy.method, {})
    if architecture.model_type not in table:
        raise CaseError("target_modules", f"peft has no default targets for {architecture.model_type}", 'say "all-linear"')
    return table[architecture.model_type]


def adapted_linears(architecture: Architecture, strategy: Strategy) -> tuple[tuple[Linear, int], ...]:
    """Every linear that carries an adapter, with how often it occurs. Raises CaseError for a target that matches nothing."""
    fused = frozenset(renamed(architecture, strategy.method))
    everywhere = _linears_named(architecture, _targets(architecture, strategy), fused)
    if chosen_layers(strategy) is None:
        return everywhere
    ((carrier, times),) = carriers(architecture, strategy)
    there = dict.fromkeys(carrier.linears, times) | dict.fromkeys(carrier.expert_linears, times * carrier.num_experts)
    return tuple((linear, there[linear]) for linear in dict.fromkeys(linear for linear, _ in everywhere) if linear in there)


@lru_cache(maxsize=64)
def _linears_named(
    architecture: Architecture, targets: tuple[str, ...], fused: frozenset[str]
) -> tuple[tuple[Linear, int], ...]:
    """`fused`: last names that mean something else here."""
    places = tuple(
        place for place in architecture.placed_linears if place[0].role != "router" and last_name(place[0].name) not in fused
    )
    chosen = tuple(
        (linear, times) for linear, times in places if not targets or any(linear.matches(target) for target in targets)
    )
    named = [target for target in targets if last_name(target) not in VOCABULARY_MODULES and last_name(target) not in fused]
    unmatched = [target for target in named if not _matches_any(target, places)]
    if unmatched:
        names = tuple(dict.fromkeys([*(last_name(linear.name) for linear, _ in places), *sorted(fused)]))
        hint = f"{_as_list(unmatched[0])}{_meant(unmatched[0], names)}its linears: {', '.join(names)}"
        raise CaseError("target_modules", f"{architecture.model_type} has no module {unmatched[0]}", hint)
    return chosen


def _as_list(word: str) -> str:
    """Several names in one text are told as the list that they were meant for."""
    several = word.replace(",", " ").split()
    return f"write a list, {list(several)}; ".replace("'", '"') if len(several) > 1 else ""


def _meant(word: str, names: tuple[str, ...]) -> str:
    from difflib import get_close_matches  # only for a name that is wrong: it costs start-up time

    near = get_close_matches(last_name(word), (*names, "all-linear"), n=1, cutoff=0.7)
    return f'did you mean "{near[0]}"? ' if near else ""


def last_name(path: str) -> str:
    """The last step of a module's path."""
    return path.rpartition(".")[2]


def _matches_any(target: str, places: tuple[tuple[Linear, int], ...]) -> bool:
    return any(linear.matches(target) for linear, _ in places)


# Names of either vocabulary matrix on some base
VOCABULARY_MODULES: Final = frozenset(
    {"embed_tokens", "wte", "embeddings", "word_embeddings", "embed_in", "lm_head", "embed_out", "output_layer"}
)


def vocabulary_modules(architecture: Architecture, names: tuple[str, ...] | str, key: str) -> tuple[str, ...]:
    """Which of the base's two V × h matrices are named. Raises CaseError for a name that another base has for one."""
    if isinstance(names, str):
        return ()
    own = tuple(name for name in (architecture.embedding_name, architecture.head_name) if name is not None)
    named = {last_name(name) for name in names}
    if strange := sorted((named & VOCABULARY_MODULES) - {*own}):
        raise CaseError(key, f"{architecture.model_type} has no module {strange[0]}", f"it has {' and '.join(own)}")
    return tuple(name for name in own if name in named)
