"""What a case, or a request, says of the training in vain."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from catalogs.bases.architectures import Architecture
from catalogs.hardware import Gpu
from planner.asking.case import Case
from planner.methods import LAYERS, METHODS
from planner.methods.adapters import IDLE_OPTIONS
from planner.strategy.precision import FOUR_BIT
from remote.contract import Strategy


class Understood(msgspec.Struct, frozen=True):
    """A case beside what became of it."""

    case: Case
    strategy: Strategy
    architecture: Architecture
    gpu: Gpu | None


def _has_no_rank(strategy: Strategy) -> bool:
    return not METHODS[strategy.method].has_rank


def _hangs_on_nothing(strategy: Strategy) -> bool:
    return METHODS[strategy.method].adapter is None or _has_no_rank(strategy)


def _is_not_four_bit(strategy: Strategy) -> bool:
    return strategy.quant not in FOUR_BIT


def _reads_no_option(strategy: Strategy) -> bool:
    adapter = METHODS[strategy.method].adapter
    return adapter is not None and not set(strategy.method_options) - (IDLE_OPTIONS - {LAYERS})


def _saves_no_module(strategy: Strategy) -> bool:
    method = METHODS[strategy.method]
    return method.adapter is None and method.trainable is not None


Unread = tuple[Callable[[Strategy], bool], str]

# key -> the strategies that do not read it, and why not: in a plan as in an estimate
UNREAD: Final[dict[str, Unread]] = {
    "rank": (_has_no_rank, "the method has no rank"),
    "alpha": (_hangs_on_nothing, "the method has no rank that it would scale"),
    "dropout": (_hangs_on_nothing, "it is the adapter's dropout, and the method has no adapter that drops"),
    "target_modules": (
        lambda strategy: METHODS[strategy.method].adapter is None,
        "the method targets no modules",
    ),
    "modules_to_save": (_saves_no_module, "the method has no adapter that a module would be saved beside"),
    "num_virtual_tokens": (lambda strategy: not METHODS[strategy.method].prompt, "the method has no virtual tokens"),
    "trainable_layers": (
        lambda strategy: not METHODS[strategy.method].top_blocks_only or LAYERS in strategy.method_options,
        "only method freeze reads it, where no blocks are chosen",
    ),
    "double_quant": (_is_not_four_bit, "only nf4 and fp4 have scales to quantize again"),
    "quant_storage": (_is_not_four_bit, "only nf4 and fp4 pack their weights"),
    "kbit_upcast": (lambda strategy: strategy.param_dtype == "float32", "the weights are fp32 already"),
    "adapter_dtype": (
        lambda strategy: bool(METHODS[strategy.method].moves),
        "the method trains the base's own weights, in param_dtype",
    ),
}

# key -> when it moves nothing that an estimate shows, and why
WITHOUT_EFFECT: Final[dict[str, tuple[Callable[[Understood], bool], str]]] = {
    "alpha": (lambda _: True, "it scales the update and moves neither memory nor time"),
    "method_options": (lambda this: _reads_no_option(this.strategy), "they move neither memory nor time"),
    "quantized_experts": (
        lambda this: not this.architecture.num_experts or this.strategy.quant == "none",
        "there are no experts to quantize",
    ),
    "mean_seq_len": (lambda this: this.gpu is None, "it is used for time, and time needs a gpu"),
    "interconnect": (lambda this: this.strategy.num_gpus == 1 or this.gpu is None, "there is one GPU, or no time to estimate"),
    "loss": (lambda this: this.case.task != "causal_lm", "the task has no vocabulary of logits"),
    "matmul_dtype": (
        lambda this: this.case.matmul_dtype != "as_compute" and this.gpu is None,
        "it moves time, and time needs a gpu",
    ),
}


def unread(said: Iterable[str], strategies: Iterable[Strategy]) -> tuple[str, ...]:
    """A sentence for each said key that none of the strategies reads; without strategies there is nothing to say."""
    strategies = tuple(strategies)
    rows = ((key, *UNREAD[key]) for key in said if key in UNREAD)
    return tuple(_vain(key, why) for key, applies, why in rows if strategies and all(map(applies, strategies)))


def without_effect(key: str, this: Understood) -> str | None:
    """A sentence for a key that moves nothing in this case that an estimate shows."""
    if key in WITHOUT_EFFECT and WITHOUT_EFFECT[key][0](this):
        return _vain(key, WITHOUT_EFFECT[key][1])
    return None


def _vain(key: str, why: str) -> str:
    return f"{key} has no effect here: {why}"
