"""METHODS: one row per way to tune, with what it trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, Literal, get_args

import msgspec

from catalogs.architectures import Architecture, Linear
from planner.precision import DTYPE_BYTES
from planner.refusals import CaseError, Unsupported
from remote.contract import Strategy, Task

NUM_LABELS: Final = 2  # assumed: transformers' default num_labels; another count moves memory by a few kilobytes

# derived: peft's TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING (peft 0.21, utils/constants.py)
LORA_TARGETS: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        ("llama", "mistral", "mixtral", "gemma", "gemma2", "gemma3_text", "qwen2", "qwen3", "opt"), ("q_proj", "v_proj")
    ),
    **dict.fromkeys(("gpt2", "gpt_bigcode"), ("c_attn",)),
    **dict.fromkeys(("bert", "roberta", "xlm-roberta"), ("query", "value")),
    "gpt_neox": ("query_key_value",),
}
# derived: peft's TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING (same file)
IA3_TARGETS: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(("llama", "mistral"), ("k_proj", "v_proj", "down_proj")),
    **dict.fromkeys(("gemma", "gemma2", "gemma3_text", "qwen2", "qwen3"), ("q_proj", "v_proj", "down_proj")),
    **dict.fromkeys(("gpt2", "gpt_bigcode"), ("c_attn", "mlp.c_proj")),
    **dict.fromkeys(("bert", "roberta"), ("key", "value", "output.dense")),
    "opt": ("q_proj", "k_proj", "fc2"),
    "gpt_neox": ("query_key_value", "dense_4h_to_h"),
}

DEFAULT_RANK: Final = 16  # assumed: defaults of TRL 1.10; beyond 8 the rank hardly changes small instruction sets (QLoRA)

Formula = Callable[[Architecture, Strategy], int]
Part = Literal["weights", "norms", "biases"]
EVERYTHING: Final[frozenset[Part]] = frozenset(get_args(Part))


class Adapter(msgspec.Struct, frozen=True):
    """What a method hangs on linears of the base, and on which where `target_modules` says "default"."""

    computes: Literal["product", "scale"]  # a low-rank product beside the linear's own; a learned factor per feature
    default_targets: Mapping[str, tuple[str, ...]]  # by model_type


class Method(msgspec.Struct, frozen=True):
    """A way to tune, with all that the estimators ask of one. `trainable` None: known, but without a closed form yet."""

    paper: str
    trainable: Formula | None
    has_rank: bool = False
    moves: frozenset[Part] = frozenset()  # parts of the base itself that are trained; empty = all that moves is added to it
    top_blocks_only: bool = False  # what moves does so in the last `trainable_layers` blocks, and nowhere else
    adapter: Adapter | None = None
    prompt: bool = False  # trains `num_virtual_tokens` tokens that stand in front of each sequence

    @property
    def moves_linears(self) -> bool:
        """Whether parameters of the base's linears are trained, so that these can't be quantized."""
        return bool(self.moves & {"weights", "biases"})

    @property
    def moves_in_every_block(self) -> frozenset[Part]:
        """What is trained in each block alike."""
        return frozenset() if self.top_blocks_only else self.moves

    @property
    def moves_all(self) -> bool:
        """Whether every parameter is trained: all blocks, the vocabulary, the task's head."""
        return self.moves_in_every_block == EVERYTHING


QLORA: Final = "qlora"  # no method of its own: what it is short for (Dettmers et al., arXiv:2305.14314) stands here
NF4: Final[dict[str, Any]] = {"quant": "nf4", "double_quant": True}
QLORA_MEANS: Final[dict[str, Any]] = {"method": "lora", **NF4}


def _targets(architecture: Architecture, strategy: Strategy) -> tuple[str, ...]:
    """The suffixes that are meant, or () for every linear."""
    said = strategy.target_modules
    if said == "all-linear":
        return ()
    if said != "default":
        return said
    adapter = METHODS[strategy.method].adapter
    table = adapter.default_targets if adapter is not None else {}
    if architecture.model_type not in table:
        raise CaseError("target_modules", f"peft has no default targets for {architecture.model_type}", 'say "all-linear"')
    return table[architecture.model_type]


def adapted_linears(architecture: Architecture, strategy: Strategy) -> tuple[tuple[Linear, int], ...]:
    """Every linear that carries an adapter, with how often it occurs. Raises CaseError for a target that matches nothing."""
    return _linears_named(architecture, _targets(architecture, strategy))


@lru_cache(maxsize=64)
def _linears_named(architecture: Architecture, targets: tuple[str, ...]) -> tuple[tuple[Linear, int], ...]:
    places = [(linear, architecture.num_layers) for linear in architecture.linears]
    places += [(linear, 1) for linear in architecture.outer_linears]
    chosen = tuple(
        (linear, times) for linear, times in places if not targets or any(linear.matches(target) for target in targets)
    )
    unmatched = [target for target in targets if not _matches_any(target, places) and target not in VOCABULARY_MODULES]
    if unmatched:
        names = ", ".join(linear.name.rpartition(".")[2] for linear in architecture.linears)
        raise CaseError("target_modules", f"{architecture.model_type} has no module {unmatched[0]}", f"its linears: {names}")
    return chosen


def _matches_any(target: str, places: list[tuple[Linear, int]]) -> bool:
    return any(linear.matches(target) for linear, _ in places)


VOCABULARY_MODULES: Final = frozenset(
    {"embed_tokens", "lm_head", "wte", "embeddings", "word_embeddings", "embed_in", "embed_out"}
)


def vocabulary_modules(names: tuple[str, ...] | str) -> int:
    """How many of the two V × h matrices are named."""
    return 0 if isinstance(names, str) else sum(name in VOCABULARY_MODULES for name in names)


def adapted_names(architecture: Architecture, strategy: Strategy, *, computes: Literal["product", "scale"]) -> frozenset[str]:
    """Module paths within a block that carry an adapter of this kind."""
    adapter = METHODS[strategy.method].adapter
    if adapter is None or adapter.computes != computes:
        return frozenset()
    return frozenset(linear.name for linear, _ in adapted_linears(architecture, strategy))


# ── what each method trains ────────────────────────────────────────────────────────────────────────────────────────────


def _lora(architecture: Architecture, strategy: Strategy) -> int:
    """r·(in + out) per adapted linear; a targeted vocabulary matrix counts as one of V × h."""
    if strategy.rank is None:
        raise CaseError("rank", f"method {strategy.method} needs a rank", "say rank 16, for example")
    width = sum(times * (linear.in_features + linear.out_features) for linear, times in adapted_linears(architecture, strategy))
    width += vocabulary_modules(strategy.target_modules) * (architecture.vocab_size + architecture.hidden_size)
    return strategy.rank * width


def _ia3(architecture: Architecture, strategy: Strategy) -> int:
    """One factor per output of an attention module, per input of a feed-forward module."""
    chosen = adapted_linears(architecture, strategy)
    return sum(times * (linear.in_features if linear.role == "down" else linear.out_features) for linear, times in chosen)


def _full(architecture: Architecture, _strategy: Strategy) -> int:
    return architecture.num_params


def _bitfit(architecture: Architecture, _strategy: Strategy) -> int:
    """Every bias of a linear."""
    biases = architecture.num_layers * sum(linear.out_features for linear in architecture.linears if linear.bias)
    if not biases:
        raise CaseError("method", f"bitfit trains biases, and {architecture.name} has none", "choose lora")
    return biases


def _ln_tuning(architecture: Architecture, _strategy: Strategy) -> int:
    """Every norm of the blocks, and the last one."""
    last = architecture.hidden_size * (2 if architecture.norm == "layer" else 1)
    return architecture.num_layers * architecture.norm_params_per_block + (last if architecture.layout != "post" else 0)


def _freeze(architecture: Architecture, strategy: Strategy) -> int:
    """The top blocks whole."""
    return trained_blocks(architecture, strategy) * architecture.block_params


def _prompt_tuning(architecture: Architecture, strategy: Strategy) -> int:
    if strategy.num_virtual_tokens is None:
        raise CaseError("num_virtual_tokens", f"{strategy.method} needs num_virtual_tokens", "say 20, for example")
    return strategy.num_virtual_tokens * architecture.hidden_size


LORA: Final = Adapter(computes="product", default_targets=LORA_TARGETS)
IA3: Final = Adapter(computes="scale", default_targets=IA3_TARGETS)

METHODS: Final[Mapping[str, Method]] = {
    "full": Method("none: every weight moves", _full, moves=EVERYTHING),
    "lora": Method("Hu et al., arXiv:2106.09685", _lora, has_rank=True, adapter=LORA),
    "rslora": Method("Kalajdzievski, arXiv:2312.03732: LoRA with another scale", _lora, has_rank=True, adapter=LORA),
    "pissa": Method("Meng et al., arXiv:2404.02948: LoRA with another start", _lora, has_rank=True, adapter=LORA),
    "lora_plus": Method("Hayou et al., arXiv:2402.12354: LoRA with two learning rates", _lora, has_rank=True, adapter=LORA),
    "ia3": Method("Liu et al., arXiv:2205.05638", _ia3, adapter=IA3),
    "bitfit": Method("Ben Zaken et al., arXiv:2106.10199", _bitfit, moves=frozenset({"biases"})),
    "ln_tuning": Method("Zhao et al., arXiv:2312.11420", _ln_tuning, moves=frozenset({"norms"})),
    "freeze": Method("none: the top blocks move", _freeze, moves=EVERYTHING, top_blocks_only=True),
    "prompt_tuning": Method("Lester et al., arXiv:2104.08691", _prompt_tuning, prompt=True),
    "dora": Method("Liu et al., arXiv:2402.09353", None, has_rank=True),
    "adalora": Method("Zhang et al., arXiv:2303.10512", None, has_rank=True),
    "loha": Method("Hyeon-Woo et al., arXiv:2108.06098", None, has_rank=True),
    "lokr": Method("Yeh et al., arXiv:2309.14859", None, has_rank=True),
    "oft": Method("Qiu et al., arXiv:2306.07280", None, has_rank=True),
    "boft": Method("Liu et al., arXiv:2311.06243", None, has_rank=True),
    "vera": Method("Kopiczko et al., arXiv:2310.11454", None, has_rank=True),
    "fourierft": Method("Gao et al., arXiv:2405.03003", None),
    "prefix_tuning": Method("Li and Liang, arXiv:2101.00190", None),
    "p_tuning": Method("Liu et al., arXiv:2103.10385", None),
    "lora_prompt": Method("LoRA beside a trained prompt", None, has_rank=True),
    "bottleneck": Method("Houlsby et al., arXiv:1902.00751", None, has_rank=True),
}


def supported_methods() -> Iterator[str]:
    """Methods with a closed form."""
    return (name for name, method in METHODS.items() if method.trainable is not None)


def require_method(name: str) -> Formula:
    """What a method trains. Raises CaseError for "auto", Unsupported for a method without a closed form."""
    if name == "auto":
        hint = "name one: lora, qlora, full"
        raise CaseError("method", "an estimate is of one method; auto is resolved by `rentune plan`", hint)
    formula = METHODS[name].trainable if name in METHODS else None
    if formula is None:
        hint = f"methods that have one: {', '.join(supported_methods())}"
        raise Unsupported("method", f"method {name} has no closed form yet", hint)
    return formula


# ── counts and sizes ───────────────────────────────────────────────────────────────────────────────────────────────────


def trained_blocks(architecture: Architecture, strategy: Strategy) -> int:
    """How many blocks, from the top, take part in backward."""
    if not METHODS[strategy.method].top_blocks_only:
        return architecture.num_layers
    if strategy.trainable_layers is None:
        needs = f"method {strategy.method} needs trainable_layers"
        raise CaseError("trainable_layers", needs, "say how many top blocks are trained")
    return min(strategy.trainable_layers, architecture.num_layers)


def saved_module_params(architecture: Architecture, strategy: Strategy) -> int:
    """Parameters of whole modules that are trained beside the adapter, each as a copy (peft's modules_to_save)."""
    known = vocabulary_modules(strategy.modules_to_save)
    if known < len(strategy.modules_to_save):
        raise Unsupported(
            "modules_to_save",
            "only embeddings and output heads have a closed form as saved modules",
            f"choose from {', '.join(sorted(VOCABULARY_MODULES))}",
        )
    return known * architecture.vocab_size * architecture.hidden_size


def head_params(architecture: Architecture, task: Task) -> int:
    """Parameters of the head that a task puts on the base; 0 where the language-model head is part of the base."""
    h = architecture.hidden_size
    match task, architecture.kind:
        case "causal_lm", "encoder":
            return h * h + h + 2 * h + architecture.vocab_size  # transform, norm, output bias; the matrix is tied
        case "classification", "encoder" if architecture.model_type in ("roberta", "xlm-roberta", "distilbert"):
            return h * h + h + NUM_LABELS * (h + 1)
        case "classification", "decoder":
            return NUM_LABELS * h
        case "classification" | "token_classification", _:
            return NUM_LABELS * (h + 1)
        case _:
            return 0


def base_params(architecture: Architecture, task: Task) -> int:
    """Parameters that are loaded: an untied output head is left out where the task has none."""
    drops_head = task in ("classification", "token_classification", "embedding") and not architecture.tied_embeddings
    return architecture.num_params - drops_head * architecture.vocab_size * architecture.hidden_size


def total_params(architecture: Architecture, task: Task) -> int:
    """Base and task head."""
    return base_params(architecture, task) + head_params(architecture, task)


def adapter_params(architecture: Architecture, strategy: Strategy) -> int:
    """What the method adds to the base or trains of it, whole saved modules left out."""
    return require_method(strategy.method)(architecture, strategy)


def trainable_params(architecture: Architecture, strategy: Strategy, *, task: Task = "causal_lm") -> int:
    """How many parameters get a gradient, over all GPUs."""
    if METHODS[strategy.method].moves_all:
        return total_params(architecture, task)
    own = adapter_params(architecture, strategy) + saved_module_params(architecture, strategy)
    return own + (head_params(architecture, task) if task in ("classification", "token_classification") else 0)


SAFETENSORS_HEADER_BYTES: Final = 120  # measured: bytes of header per tensor in adapters written by peft 0.21


def adapter_file_bytes(architecture: Architecture, strategy: Strategy, *, task: Task = "causal_lm") -> int:
    """Bytes of the file that comes home: the trained parameters in the dtype they are trained in, and its header."""
    held = strategy.param_dtype if METHODS[strategy.method].moves else strategy.adapter_dtype
    tensors = (
        2 * sum(times for _, times in adapted_linears(architecture, strategy)) if strategy.rank else architecture.num_layers
    )
    return trainable_params(architecture, strategy, task=task) * DTYPE_BYTES[held] + tensors * SAFETENSORS_HEADER_BYTES
