"""How many parameters a strategy trains and loads, and how large the file is that comes home."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from catalogs.bases.architectures import Architecture
from planner.methods import parts
from planner.methods.experts import adapted_experts
from planner.methods.layers import chosen_layers
from planner.methods.linears import dials_of, on_experts
from planner.methods.method import Part
from planner.methods.parts import chooses_all
from planner.methods.table import METHODS, require_method
from planner.methods.targets import VOCABULARY_MODULES, adapted_linears, last_name, vocabulary_modules
from planner.refusals import CaseError, Unsupported
from planner.strategy.precision import DTYPE_BYTES, resting_item
from remote.contract import Strategy, Task

NUM_LABELS: Final = 2  # assumed: transformers' default num_labels; another count moves memory by a few kilobytes


def adapted_names(architecture: Architecture, strategy: Strategy) -> frozenset[str]:
    """Module paths within a block that carry an adapter."""
    if METHODS[strategy.method].adapter is None:
        return frozenset()
    return frozenset(linear.name for linear, _ in adapted_linears(architecture, strategy))


def adapter_tensors(architecture: Architecture, strategy: Strategy) -> tuple[tuple[int, int], ...]:
    """Entries of each tensor that the method hangs on linears, with how often it occurs."""
    adapter = METHODS[strategy.method].adapter
    if adapter is None:
        return ()
    dials = dials_of(adapter, strategy)
    chosen = adapted_linears(architecture, strategy)
    of_linears = ((entries, times) for linear, times in chosen for entries in adapter.tensors(linear, dials))
    of_experts = (
        (entries, part.num_layers)
        for part in architecture.parts
        for fused in adapted_experts(part, strategy)
        for entries in fused.tensors(dials)
    )
    return (*of_linears, *of_experts)


def frozen_bytes(architecture: Architecture, strategy: Strategy) -> int:
    """Bytes of tensors that the method brings along and does not train: in fp32, or as the base's linears are."""
    adapter = METHODS[strategy.method].adapter
    if adapter is None:
        return 0
    item = resting_item(strategy) if adapter.follows_base else DTYPE_BYTES["float32"]
    return adapter.frozen(adapted_linears(architecture, strategy), dials_of(adapter, strategy)) * item


def expert_params(architecture: Architecture, strategy: Strategy) -> int:
    """How many of what trains hang on fused experts and routers, which no token is multiplied with alone."""
    adapter = METHODS[strategy.method].adapter
    return 0 if adapter is None else on_experts(architecture, strategy, dials_of(adapter, strategy))


def resting_entries(architecture: Architecture, strategy: Strategy) -> int:
    """Entries of the adapter's own tensors that are not trained: LoRA's A under LoRA-FA."""
    adapter = METHODS[strategy.method].adapter
    if adapter is None or not (dials := dials_of(adapter, strategy)).first_stays:
        return 0
    of_linears = sum(times * adapter.tensors(linear, dials)[0] for linear, times in adapted_linears(architecture, strategy))
    return of_linears + sum(
        part.num_layers * fused.tensors(dials)[0] for part in architecture.parts for fused in adapted_experts(part, strategy)
    )


def trained_blocks(architecture: Architecture, strategy: Strategy) -> int:
    """How many blocks, from the top, take part in backward: down to the lowest that carries something."""
    chosen, method = chosen_layers(strategy), METHODS[strategy.method]
    if chosen is not None and not _learns_below(architecture, strategy):
        return architecture.depth - chosen[0]
    if chosen is None and method.top_blocks_only:
        return max(1, parts.top_blocks(architecture, strategy))  # of a head alone no more is held than of the block below it
    prompt = method.prompt
    if architecture.kind == "encoder_decoder" and prompt is not None and prompt.stands_in == "cache":
        return architecture.num_layers  # the decoder's alone, which lie above the encoder's
    return architecture.depth


def _learns_below(architecture: Architecture, strategy: Strategy) -> bool:
    """Whether something trains that lies before the first block."""
    return METHODS[strategy.method].prompt is not None or trains_embedding(architecture, strategy)


def carrying_blocks(architecture: Architecture, strategy: Strategy) -> int:
    """How many blocks carry something that trains."""
    chosen = chosen_layers(strategy)
    return trained_blocks(architecture, strategy) if chosen is None else len(chosen)


def moved_in_block(architecture: Architecture, strategy: Strategy) -> tuple[frozenset[Part], frozenset[str]]:
    """Which parts of the base move in a block that is trained, and of which of its linears."""
    method = METHODS[strategy.method]
    if not method.moves:
        return frozenset(), frozenset()
    chosen = architecture.linears if method.chosen is None else method.chosen(architecture, strategy)
    whole_block = method.chosen is None or chooses_all(strategy)
    return method.moves - (set() if whole_block else {"norms"}), frozenset(linear.name for linear in chosen)


def saved_modules(architecture: Architecture, strategy: Strategy) -> tuple[str, ...]:
    """The vocabulary matrices that are trained whole beside the adapter, each as a copy (peft's modules_to_save).

    Raises CaseError for a name that peft would pass over, since it is of no module of this base.
    """
    names = strategy.modules_to_save if METHODS[strategy.method].adapter is not None else ()
    if not names:
        return ()
    embedding, head = architecture.embedding_name, architecture.head_name
    known = VOCABULARY_MODULES | {embedding}
    if other := [name for name in names if last_name(name) not in known]:
        raise Unsupported(
            "modules_to_save",
            f"only embeddings and output heads have a closed form as saved modules, not {other[0]}",
            f"choose from {embedding}" + (f" and {head}" if head else ""),
        )
    if architecture.kind != "decoder":
        raise Unsupported("modules_to_save", f"saved modules of {architecture.kind}s have no closed form", "leave them out")
    return vocabulary_modules(architecture, names, "modules_to_save")


def saved_module_params(architecture: Architecture, strategy: Strategy) -> int:
    """Parameters of the matrices that are trained whole beside the adapter."""
    return len(saved_modules(architecture, strategy)) * architecture.vocabulary_size


def trains_embedding(architecture: Architecture, strategy: Strategy) -> bool:
    """Whether the matrix that words are looked up in gets a gradient of its own size."""
    return METHODS[strategy.method].moves_all or architecture.embedding_name in saved_modules(architecture, strategy)


def trains_head(architecture: Architecture, strategy: Strategy) -> bool:
    """Whether the output matrix gets a gradient of its own size."""
    return METHODS[strategy.method].moves_all or architecture.head_name in saved_modules(architecture, strategy)


def embedding_params(architecture: Architecture, strategy: Strategy) -> int:
    """Of what trains, the matrix that tokens are looked up in; tied to the output head it is that one as well."""
    return trains_embedding(architecture, strategy) * architecture.vocabulary_size


def head_params(architecture: Architecture, task: Task) -> int:
    """Parameters of the head that a task puts on the base; 0 where the language-model head is part of the base."""
    h = architecture.hidden_size
    match task, architecture.kind:
        case "causal_lm", "encoder":
            return h * h + h + 2 * h + architecture.vocab_size  # transform, norm, output bias; the matrix is tied
        case "classification", "encoder" if architecture.dense_classifier:
            return h * h + h + NUM_LABELS * (h + 1)
        case "classification", "decoder":
            return NUM_LABELS * (architecture.embedding_size or h)  # OPT-350m's last linear comes before it
        case "classification" | "token_classification", _:
            return NUM_LABELS * (h + 1)
        case _:
            return 0


def of_task(architecture: Architecture, task: Task) -> Architecture:
    """The base as a task that tells classes apart trains it: an encoder's pooler is left out where nothing reads it, and so
    carries no adapter and trains no bias. Other tasks have the base as it is.
    """
    tells_apart = task in ("classification", "token_classification") and architecture.kind == "encoder"
    poolless = tells_apart and architecture.outer_linears and not _pools(architecture, task)
    return _without_pooler(architecture) if poolless else architecture


@lru_cache(maxsize=16)
def _without_pooler(architecture: Architecture) -> Architecture:
    rest = architecture.other_params - _pooler_params(architecture)
    return msgspec.structs.replace(architecture, other_params=rest, outer_linears=())


def base_params(architecture: Architecture, task: Task) -> int:
    """Parameters that are loaded: an untied output head is left out where the task has none, a pooler where it reads none."""
    drops_head = task in ("classification", "token_classification", "embedding") and not architecture.tied_embeddings
    head = drops_head * architecture.vocab_size * architecture.hidden_size
    return architecture.num_params - head - (0 if _pools(architecture, task) else _pooler_params(architecture))


def _pools(architecture: Architecture, task: Task) -> bool:
    """derived: `add_pooling_layer` of transformers' encoders: for a label of the whole, unless the head is dense itself."""
    return task == "embedding" or (task == "classification" and not architecture.dense_classifier)


def _pooler_params(architecture: Architecture) -> int:
    """Of an encoder's linear outside the blocks; those of a decoder stand around its blocks, and stay."""
    return sum(linear.num_params for linear in architecture.outer_linears) if architecture.kind == "encoder" else 0


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
    architecture = of_task(architecture, task)
    own = adapter_params(architecture, strategy) + saved_module_params(architecture, strategy)
    if chosen_layers(strategy) is None:
        own += _moved_of_head(architecture, METHODS[strategy.method].moves_in_every_block, task)
    own += head_params(architecture, task) if task in ("classification", "token_classification") else 0
    if not own and METHODS[strategy.method].top_blocks_only:
        words = f"trainable_layers 0 trains a new head alone, and task {task} has none"
        raise CaseError("trainable_layers", words, "trainable_layers 1 or more")
    return own


def _moved_of_head(architecture: Architecture, moves: frozenset[Part], task: Task) -> int:
    """What moves of an encoder's language-model head: norm and biases. Such a model has no pooler."""
    if task != "causal_lm" or architecture.kind != "encoder":
        return 0
    pooler = sum(linear.out_features for linear in architecture.outer_linears if linear.bias)
    biases = 2 * architecture.hidden_size + architecture.vocab_size - pooler  # transform, its norm, output
    return ("norms" in moves) * 2 * architecture.hidden_size + ("biases" in moves) * biases


SAFETENSORS_HEADER_BYTES: Final = 120  # measured: bytes of header per tensor in adapters written by peft 0.21


@lru_cache  # a search asks for the same on every machine
def adapter_file_bytes(architecture: Architecture, strategy: Strategy, *, task: Task = "causal_lm") -> int:
    """Bytes of the file that comes home: the adapter's parameters in the dtype they are trained in, and its header."""
    architecture = of_task(architecture, task)
    held = strategy.param_dtype if METHODS[strategy.method].moves else strategy.adapter_dtype
    tensors = sum(times for _, times in adapter_tensors(architecture, strategy)) or architecture.depth
    params = trainable_params(architecture, strategy, task=task) + resting_entries(architecture, strategy)
    return params * DTYPE_BYTES[held] + tensors * SAFETENSORS_HEADER_BYTES
