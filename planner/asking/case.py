"""`Case`: one configuration of the frozen estimate contract, read, checked, and turned into a Strategy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from catalogs.bases.models import ModelUnknown, TypeNotDescribed, resolve_model
from catalogs.hardware import Interconnect
from planner.asking.bounds import CASE_BOUNDS, EVALUATION_BOUNDS, complaint
from planner.methods import LAYERS, METHODS, NUM_VIRTUAL_TOKENS, QLORA, QLORA_MEANS, TOP_BLOCKS, known_method
from planner.methods.others import OTHERS
from planner.nearest import nearest
from planner.refusals import CaseError
from planner.strategy.precision import usual_upcast
from planner.strategy.stack import PINNED_VERSIONS, EvaluationAsked, KeptOutputs, MatmulDtype, Stack, StackName, as_taken
from remote.contract import (
    ALPHA_PER_RANK,
    Attention,
    Autocast,
    Checkpointing,
    Dtype,
    KbitUpcast,
    Kernels,
    Loss,
    Offload,
    Optimizer,
    Quant,
    Sharding,
    StorageDtype,
    Strategy,
    Task,
)

Objective = Literal["sft", "dpo", "orpo", "kto", "reward", "grpo"]
EngineAsked = Literal["auto", "closed_form", "trace"]


class Vision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Vision-language models: how many image tokens there are, and whether the tower is trained."""

    images_per_sequence: int = 1
    image_tokens: int | None = None
    image_pixels: int | None = None
    tower: Literal["frozen", "trained"] = "frozen"


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every key of the contract with its default. None: the default depends on other keys, see `effective`."""

    id: str | None = None
    model: str | dict[str, Any]
    task: Task = "causal_lm"
    objective: Objective = "sft"
    method: str = "lora"
    rank: int | None = None
    alpha: float | None = None
    dropout: float = 0.0
    target_modules: str | tuple[str, ...] = "all-linear"
    modules_to_save: tuple[str, ...] = ()
    num_virtual_tokens: int | None = None
    trainable_layers: int | None = None
    method_options: dict[str, Any] = {}
    vision: Vision | None = None
    quant: Quant = "none"
    double_quant: bool = False
    quantized_experts: bool = False
    quant_storage: StorageDtype = "uint8"
    kbit_upcast: KbitUpcast | None = None
    param_dtype: Dtype = "bfloat16"
    autocast: Autocast = "bfloat16"
    matmul_dtype: MatmulDtype = "as_compute"
    adapter_dtype: Dtype = "float32"
    optimizer: Optimizer = "adamw_torch_fused"
    optimizer_in_backward: bool = False
    micro_batch_size: int = 1
    gradient_accumulation_steps: int = 1
    seq_len: int = 2048
    mean_seq_len: float | None = None
    padded: bool = False
    gradient_checkpointing: Checkpointing = "non_reentrant"
    activation_offload: bool = False
    attention: Attention = "sdpa"
    loss: Loss = "hf"
    kernels: Kernels = "eager"
    keep_outputs: KeptOutputs = "nothing"
    evaluation: EvaluationAsked | None = None
    num_gpus: int = 1
    num_nodes: int = 1
    interconnect: Interconnect = "unknown"
    sharding: Sharding = "none"
    tensor_parallel_size: int = 1
    context_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    expert_parallel_size: int = 1
    offload: Offload = "none"
    gpu: str | None = None
    gpu_memory_gib: float | None = None
    host_ram_gib: float | None = None
    stack: StackName = "transformers"
    versions: dict[str, str] = {}
    engine: EngineAsked = "auto"


KEYS: Final = Case.__struct_fields__


def read_case(said: Mapping[str, Any]) -> Case:
    """Check a case. Raises CaseError with the key, what is wrong with it, and the nearest word that would be right."""
    for key in said:
        if key not in KEYS:
            raise CaseError(key, f'unknown key "{key}"', nearest(key, KEYS))
    if "model" not in said:
        raise CaseError("model", "the case names no model", 'add "model": a size such as "7b", a hub id, a config.json')
    try:
        case = msgspec.convert({key: value if key == "model" else whole(value) for key, value in said.items()}, Case)
    except msgspec.ValidationError as error:
        raise _mistyped(said, error) from error
    if "gradient_checkpointing" not in said and case.method in METHODS and not METHODS[case.method].recomputes:
        case = msgspec.structs.replace(case, gradient_checkpointing="off")
    _check_options(case)
    _check_numbers(case)
    _check_together(case)
    return case


def read_within_reach(said: Mapping[str, Any], *, base: Path | None = None) -> Case:
    """A case, checked as by `read_case`, whose length, where none was said, is at most that which the model reads.

    `base`: where a model's path starts. A model that nobody knows is told where it is needed; what was said of the length
    otherwise, a mean above that reach, has the default stand.
    """
    case = read_case(said)
    if "seq_len" in said:
        return case
    try:
        reach = resolve_model(case.model, base=base).max_positions
    except TypeNotDescribed as unknown:
        reach = unknown.outline.max_positions
    except ModelUnknown:
        return case
    within = msgspec.structs.replace(case, seq_len=min(case.seq_len, reach))
    try:
        _check_together(within)
    except CaseError:
        return case
    return within


def whole(value: Any) -> Any:
    """The value with each 16.0 or 1e3 in it as the integer that it is in JSON Schema, which knows no other integers."""
    match value:
        case float():
            return int(value) if value.is_integer() else value
        case list():
            return [whole(each) for each in value]
        case dict():
            return {key: whole(each) for key, each in value.items()}
    return value


# fields of peft's configurations that are said of the case itself -> its key
OWN_KEYS: Final[Mapping[str, str]] = {
    "r": "rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "target_modules": "target_modules",
    "exclude_modules": "target_modules",
    "modules_to_save": "modules_to_save",
    "num_virtual_tokens": "num_virtual_tokens",
}


def _check_options(case: Case) -> None:
    """A field of peft's configuration that has a key of its own would be overruled by that without a word."""
    if case.method in OTHERS:  # made by peft's own defaults, of which any field may be said
        return
    for name in sorted(case.method_options.keys() & OWN_KEYS.keys()):
        raise CaseError(
            "method_options", f"{name} is no option of {case.method}: {OWN_KEYS[name]} says it", f"key {OWN_KEYS[name]}"
        )


def _check_numbers(case: Case) -> None:
    for key, bounds in CASE_BOUNDS.items():
        value = getattr(case, key)
        if value is not None and not bounds.admit(value):
            raise CaseError(key, complaint(key, value, bounds), example_of(key))
    for key, bounds in EVALUATION_BOUNDS.items():
        value = getattr(case.evaluation, key, None)
        if value is not None and not bounds.admit(value):
            raise CaseError("evaluation", complaint(f"evaluation.{key}", value, bounds), example_of("evaluation"))


def _check_together(case: Case) -> None:
    """Values that exclude each other."""
    parallel = stack_of(case).model_parallel
    if case.num_gpus % parallel:
        raise CaseError(
            "num_gpus",
            f"{case.num_gpus} GPUs can't be cut into groups of {parallel} (tensor × context × pipeline)",
            f"num_gpus {_up_to_multiple(case.num_gpus, parallel)}",
        )
    # derived: under a causal mask each rank has two chunks of a sequence (Megatron, torch's context_parallel)
    if case.context_parallel_size > max(1, case.seq_len // 2):
        raise CaseError(
            "context_parallel_size",
            f"a sequence of {case.seq_len} tokens can't be cut in two chunks for each of {case.context_parallel_size} GPUs",
            f"context_parallel_size {max(1, case.seq_len // 2)} at most",
        )
    if not case.target_modules:
        raise CaseError("target_modules", "target_modules names no module", 'say "all-linear", or leave it out')
    if case.mean_seq_len is not None and case.mean_seq_len >= case.seq_len + 1:  # published lengths are cut to whole tokens
        raise CaseError(
            "mean_seq_len",
            f"sequences of {case.seq_len} tokens at most can't have {case.mean_seq_len:g} in the mean",
            f"mean_seq_len {case.seq_len} at most",
        )
    if case.num_gpus % case.num_nodes:
        raise CaseError(
            "num_nodes",
            f"{case.num_gpus} GPUs can't be spread evenly over {case.num_nodes} nodes",
            f"num_gpus {_up_to_multiple(case.num_gpus, case.num_nodes)}",
        )
    if case.sharding == "none" and case.num_gpus > parallel:
        raise CaseError("sharding", f"{case.num_gpus} GPUs need a sharding", "say ddp (replicas) or fsdp (parts)")
    if case.method in METHODS and not METHODS[case.method].recomputes and case.gradient_checkpointing != "off":
        raise CaseError(
            "gradient_checkpointing",
            f"{case.method} can't train with gradient checkpointing: a block computed again would meet its prefix twice",
            "gradient_checkpointing off, or method prompt_tuning",
        )
    check_quant(case.method, None if case.quant == "none" else case.quant)  # the contract's default, which need not be said


def _up_to_multiple(number: int, of: int) -> int:
    return -(-number // of) * of


def check_quant(method: str, quant: str | None) -> None:
    """Raise CaseError where method and quant exclude each other. `quant`: as it was said, None = it was not."""
    if method == QLORA and quant not in (None, QLORA_MEANS["quant"]):
        meant = QLORA_MEANS["quant"]
        raise CaseError("quant", f"method qlora means quant {meant}, not {quant}", f"say method lora with quant {quant}")
    if method in METHODS and METHODS[method].moves_linears and quant not in (None, "none"):
        raise CaseError("quant", f"method {method} trains weights, and {quant} weights can't be trained", "quant none")


def _mistyped(said: Mapping[str, Any], error: msgspec.ValidationError) -> CaseError:
    from planner.asking.mistyped import mistyped  # only for what is wrong: it costs start-up time

    wrong = mistyped(error, said, Case)
    key = str(wrong.path[0])
    return CaseError(key, wrong.sentence, wrong.hint or example_of(key))


UNSET_EXAMPLES: Final[Mapping[str, Any]] = {  # of keys whose default depends on others, or says nothing
    "id": "case-1",
    "model": "7b",
    "rank": 16,
    "alpha": 32,
    "modules_to_save": ["lm_head"],
    "num_virtual_tokens": 20,
    "trainable_layers": 4,
    "vision": {"images_per_sequence": 1},
    "evaluation": {"micro_batch_size": 1},
    "mean_seq_len": 512,
    "gpu": "L4",
    "gpu_memory_gib": 24,
    "host_ram_gib": 64,
    "versions": {"torch": PINNED_VERSIONS["torch"]},
}


def example_of(key: str) -> str:
    """What to type instead of a wrong value: one that the key takes."""
    import json  # only for what is refused: it costs start-up time

    value = UNSET_EXAMPLES[key] if key in UNSET_EXAMPLES else msgspec.to_builtins(Case(model="7b"))[key]
    return f"such as {key} {value if isinstance(value, str) else json.dumps(value)}"


# ── a case understood ──────────────────────────────────────────────────────────────────────────────────────────────────


def strategy_of(case: Case) -> Strategy:
    """The case's way to train, with nothing left open: qlora resolved, ranks and upcasts filled in."""
    case = _spelled_out(case)
    method = known_method(case.method)
    rank = case.rank or method.default_rank if method.has_rank else None
    return Strategy(
        method=case.method,
        rank=rank,
        alpha=case.alpha if case.alpha is not None or rank is None else ALPHA_PER_RANK * rank,
        dropout=case.dropout,
        target_modules=_targets(case.target_modules),
        modules_to_save=case.modules_to_save,
        num_virtual_tokens=case.num_virtual_tokens or NUM_VIRTUAL_TOKENS if method.prompt else None,
        trainable_layers=_top_blocks(case) if method.top_blocks_only else None,
        method_options=(method.adapter.options_at(rank) if method.adapter else {}) | case.method_options,
        quant=case.quant,
        double_quant=case.double_quant,
        quant_storage=case.quant_storage,
        kbit_upcast=case.kbit_upcast or usual_upcast(case.quant),
        param_dtype=case.param_dtype,
        autocast=case.autocast,
        adapter_dtype=case.adapter_dtype,
        optimizer=case.optimizer,
        optimizer_in_backward=case.optimizer_in_backward,
        micro_batch_size=case.micro_batch_size,
        gradient_accumulation_steps=case.gradient_accumulation_steps,
        seq_len=case.seq_len,
        padded=case.padded,
        gradient_checkpointing=case.gradient_checkpointing,
        activation_offload=case.activation_offload,
        attention=case.attention,
        loss=case.loss,
        kernels=case.kernels,
        num_gpus=case.num_gpus,
        num_nodes=case.num_nodes,
        sharding=case.sharding,
        offload=case.offload,
    )


def _top_blocks(case: Case) -> int | None:
    """How many are trained: as said, or where nobody said which. None of them: the head of a classification trains alone."""
    if case.trainable_layers is not None:
        return case.trainable_layers
    return None if LAYERS in case.method_options else TOP_BLOCKS


def _spelled_out(case: Case) -> Case:
    """The case without short words."""
    return msgspec.structs.replace(case, **QLORA_MEANS) if case.method == QLORA else case


def _targets(said: str | tuple[str, ...]) -> tuple[str, ...] | Literal["all-linear", "default"]:
    """A single suffix is a list of one."""
    match said:
        case "all-linear":
            return "all-linear"
        case "default":
            return "default"
        case str():
            return (said,)
    return said


def stack_of(case: Case) -> Stack:
    """What the case says beside the Strategy."""
    return Stack(
        name=case.stack,
        versions=case.versions,
        keep_outputs=case.keep_outputs,
        matmul_dtype=case.matmul_dtype,
        quantized_experts=case.quantized_experts,
        evaluation=as_taken(case.evaluation, case.stack),
        tensor_parallel_size=case.tensor_parallel_size,
        context_parallel_size=case.context_parallel_size,
        pipeline_parallel_size=case.pipeline_parallel_size,
        expert_parallel_size=case.expert_parallel_size,
    )


def effective(case: Case) -> dict[str, Any]:
    """The case as it was understood: every default filled in, in the contract's keys. Absent: what has no value here."""
    strategy = strategy_of(case)
    said = msgspec.to_builtins(case)
    said |= {key: value for key, value in msgspec.to_builtins(strategy).items() if key in KEYS}
    said["evaluation"] = msgspec.to_builtins(stack_of(case).evaluation)
    said["mean_seq_len"] = case.mean_seq_len or float(case.seq_len)
    return {key: _plain(value) for key, value in said.items() if value is not None}


def _plain(value: Any) -> Any:
    """As JSON has it: lists, and no keys without a value."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    return [*value] if isinstance(value, tuple) else value
