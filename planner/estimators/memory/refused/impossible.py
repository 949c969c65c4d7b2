"""Ways to share or offload a job that exclude each other: one table, each row with its reason and the nearest that works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from catalogs.bases.architectures import Architecture
from planner.methods import METHODS, saved_modules
from planner.strategy.as_run import at_rest
from planner.strategy.cuts import cut_of, cuts_weights
from planner.strategy.precision import BITSANDBYTES
from planner.strategy.stack import PINNED_STACK, Stack
from remote.contract import Strategy

Holds = Callable[[Architecture, Strategy, Stack], bool]


class Impossible(msgspec.Struct, frozen=True):
    """When it holds, the key at fault, why it can't be, and the keys of a case that would be possible instead."""

    key: str
    holds: Holds
    why: str  # `{strategy}` and `{architecture}` stand for what was asked
    instead: dict[str, Any]

    @property
    def hint(self) -> str:
        """The nearest possible way, in the words of a case."""
        return " and ".join(f"{key} {value}" for key, value in self.instead.items())


def _is_integers(strategy: Strategy) -> bool:
    return strategy.quant.startswith(("gptq", "awq"))


def _viewed(strategy: Strategy, stack: Stack) -> bool:
    """Whether packed integers are looked at as 16-bit numbers: fms-acceleration does so for GPTQ, under TRL and FSDP."""
    return strategy.quant.startswith("gptq") and strategy.sharding == "fsdp" and stack.name == "trl"


def _saves_what_meets_no_cast(architecture: Architecture, strategy: Strategy, _stack: Stack) -> bool:
    """Whether a saved matrix computes in another dtype than what is around it: torch multiplies equal ones alone, and
    autocast, or a norm that has been raised to fp32, is what would make them equal.
    """
    alike = strategy.adapter_dtype == strategy.param_dtype or strategy.kbit_upcast != "none"
    return not alike and strategy.autocast == "none" and bool(saved_modules(architecture, strategy))


def _computes_narrow(strategy: Strategy, stack: Stack) -> bool:
    """Whether a base of 16 bits computes in our own loop without autocast, so that nothing makes two operands equal: CUDA
    multiplies, and normalizes, tensors of one dtype. Other loops have casts of their own: TRL enters autocast for itself.
    """
    return strategy.autocast == "none" and at_rest(strategy).param_dtype != "float32" and stack.name == PINNED_STACK.name


def _hands_fp32_to_linears(architecture: Architecture, strategy: Strategy, stack: Stack) -> bool:
    """Whether norms that are raised to fp32 meet a linear of 16 bits: packed ones cast what comes, an output head does not,
    unless it is saved in fp32. A layer norm itself takes no stream of 16 bits; Gemma's hands on the dtype that came in.
    """
    raised = strategy.kbit_upcast == "norms" and architecture.norm != "rms_fp32"
    wide_head = strategy.adapter_dtype == "float32" and architecture.head_name in saved_modules(architecture, strategy)
    meets_none = strategy.quant in BITSANDBYTES and wide_head and architecture.norm != "layer"
    return raised and not meets_none and _computes_narrow(strategy, stack)


def _scales_in_fp32(_: Architecture, strategy: Strategy, stack: Stack) -> bool:
    """derived: `requires_conversion` of peft's tuners/ia3/bnb.py, whose result stays fp32."""
    adapter = METHODS[strategy.method].adapter
    scales = adapter is not None and strategy.quant in adapter.ends_wide
    return scales and strategy.kbit_upcast == "none" and _computes_narrow(strategy, stack)


def _projects_in_fp32(_: Architecture, strategy: Strategy, stack: Stack) -> bool:
    """derived: VeraLayer moves its frozen projections to the base's dtype, and casts what comes in to its vectors'."""
    adapter = METHODS[strategy.method].adapter
    follows = adapter is not None and adapter.follows_base
    narrow = follows and strategy.adapter_dtype != "float32" and strategy.autocast == "none"
    whole = strategy.quant == "none" and at_rest(strategy).param_dtype == "float32"
    return narrow and whole and stack.name == PINNED_STACK.name


# derived: their models are written anew, beside transformers'
OWN_MODELS: Final = frozenset({"unsloth", "torchtune", "litgpt", "nemo", "megatron"})


def _lacks_flash_attention(architecture: Architecture, strategy: Strategy, stack: Stack) -> bool:
    """derived: `_supports_flash_attn` and `_compatible_flash_implementations` of transformers 5.24, which raises ValueError."""
    asked = strategy.attention == "flash_attention_2" and stack.name not in OWN_MODELS
    return asked and not architecture.flash_attention_2


def _adapts_what_chunks_read(architecture: Architecture, strategy: Strategy, stack: Stack) -> bool:
    """Whether a loss of our own trainer, which multiplies by the output matrix itself, meets an adapter there."""
    named = not isinstance(strategy.target_modules, str) and architecture.head_name in strategy.target_modules
    return named and strategy.loss in OWN_LOSSES and stack.name == PINNED_STACK.name


OWN_LOSSES: Final = ("chunked", "liger")  # derived: those of remote/losses.py that make no whole logits
# derived: the contract's defaults
UNPARALLEL: Final = dict.fromkeys(("tensor_parallel_size", "context_parallel_size", "pipeline_parallel_size"), 1)

IMPOSSIBLE: Final[tuple[Impossible, ...]] = (
    Impossible(
        "sharding",
        lambda _, strategy, __: strategy.quant == "int8" and cuts_weights(strategy),
        "int8 weights can't be cut into shards: bitsandbytes keeps their scales beside them",
        {"sharding": "ddp"},
    ),
    Impossible(
        "sharding",
        lambda _, strategy, stack: _is_integers(strategy) and cuts_weights(strategy) and not _viewed(strategy, stack),
        "{strategy.quant} weights are packed in buffers of integers, and {strategy.sharding} cuts parameters alone",
        {"sharding": "ddp"},
    ),
    Impossible(
        "offload",
        lambda _, strategy, __: strategy.offload == "params" and cut_of(strategy).states and not cut_of(strategy).weights,
        "{strategy.sharding} keeps whole weights on each GPU: DeepSpeed offloads parameters in its third stage alone",
        {"sharding": "zero3"},
    ),
    Impossible(
        "offload",
        lambda _, strategy, __: strategy.offload == "params" and strategy.sharding in ("ddp", "device_map"),
        "{strategy.sharding} can't train with weights in host memory: it never fetches them",
        {"sharding": "fsdp"},
    ),
    Impossible(
        "offload",
        lambda _, strategy, __: strategy.offload == "stream" and bool(METHODS[strategy.method].moves),
        "only frozen blocks can be streamed, and method {strategy.method} trains the base's own",
        {"offload": "params"},
    ),
    Impossible(
        "offload",
        lambda _, strategy, __: strategy.offload == "stream" and not cut_of(strategy).keeps_whole,
        "streaming passes whole blocks through each GPU, and {strategy.sharding} leaves none whole or together",
        {"sharding": "ddp"},
    ),
    Impossible(
        "offload",
        lambda _, strategy, stack: strategy.offload == "stream" and stack.model_parallel > 1,
        "streaming passes whole blocks through each GPU, and parallel sizes cut them",
        UNPARALLEL,
    ),
    Impossible(
        "sharding",
        lambda _, strategy, stack: cut_of(strategy).spreads_blocks and stack.model_parallel > 1,
        "device_map spreads whole blocks over all GPUs, and leaves none for parallel sizes",
        UNPARALLEL,
    ),
    Impossible(
        "autocast",
        _saves_what_meets_no_cast,
        "a saved {strategy.modules_to_save[0]} of {strategy.adapter_dtype} meets {strategy.param_dtype}, and no autocast",
        {"autocast": "bfloat16"},
    ),
    Impossible(
        "kbit_upcast",
        _hands_fp32_to_linears,
        "norms of fp32 hand fp32 to linears of {strategy.param_dtype}, and without autocast CUDA multiplies equal dtypes alone",
        {"kbit_upcast": "none"},
    ),
    Impossible(
        "autocast",
        _scales_in_fp32,
        "ia3 over {strategy.quant} makes the stream fp32, which meets an output head of {strategy.param_dtype} and no autocast",
        {"kbit_upcast": "full"},
    ),
    Impossible(
        "adapter_dtype",
        _projects_in_fp32,
        "vera multiplies by frozen projections of the base's float32 in {strategy.adapter_dtype}, and no autocast casts them",
        {"adapter_dtype": "float32"},
    ),
    Impossible(
        "loss",
        _adapts_what_chunks_read,
        "loss {strategy.loss} multiplies by the output matrix itself, past an adapter on {architecture.head_name}",
        {"loss": "hf"},
    ),
    Impossible(
        "optimizer_in_backward",
        lambda _, strategy, __: strategy.optimizer_in_backward and strategy.gradient_accumulation_steps > 1,
        "optimizer_in_backward uses each gradient up as it is made, and leaves none to add up over several micro-batches",
        {"gradient_accumulation_steps": 1},  # derived: as many as leave nothing to add up
    ),
    Impossible(
        "attention",
        lambda architecture, strategy, stack: _lacks_flash_attention(architecture, strategy, stack) and architecture.eager_only,
        "transformers has no FlashAttention-2 for {architecture.model_type}",
        {"attention": "eager"},
    ),
    Impossible(
        "attention",
        _lacks_flash_attention,
        "transformers has no FlashAttention-2 for {architecture.model_type}",
        {"attention": "sdpa"},
    ),
)
