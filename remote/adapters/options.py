"""`method_options`: what a method takes beside the Strategy's own fields."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from remote.contract import CAST_INPUT, Loop, Strategy
from remote.ends import bad_job

LORA_FA: Final = "lora_fa"  # the optimizer that leaves LoRA's A as it was drawn
LORA_PLUS: Final = "lora_plus"  # the method whose B learns faster
RATE_RATIO: Final = "loraplus_lr_ratio"  # of LoRA+, by peft's name: how much faster B learns than A
# Methods whose layers are LoRA's own. DoRA's read the input's dtype once more, for the weights that they compare with it.
FED_AS_THEY_COME: Final = frozenset({"lora", "rslora", "lora_plus", "pissa", "lora_prompt"})


LAYERS: Final = "layers_to_transform"  # peft's word for chosen blocks, which a job says in its loop


def layers_apart(strategy: Strategy, loop: Loop) -> tuple[Strategy, Loop]:
    """The two with the blocks that `method_options` choose said in the loop, where every method looks."""
    if LAYERS not in strategy.method_options:
        return strategy, loop
    options = dict(strategy.method_options)
    said = options.pop(LAYERS)
    layers = tuple(said) if isinstance(said, list | tuple) else (said,)
    return msgspec.structs.replace(strategy, method_options=options), msgspec.structs.replace(loop, layers=layers)


def casting_apart(strategy: Strategy) -> tuple[Strategy, bool]:
    """The strategy without the word of ours that peft's configurations do not know, and what it says: peft's own way if
    nothing. Raises `Ended` (bad job) where an input that is not cast would meet an adapter of another dtype.
    """
    if CAST_INPUT not in strategy.method_options or strategy.method not in FED_AS_THEY_COME:
        return strategy, True
    options = dict(strategy.method_options)
    casts = options.pop(CAST_INPUT)
    if not isinstance(casts, bool):
        raise bad_job(f"{CAST_INPUT} must be true or false, not {casts!r}")
    if not casts and strategy.autocast == "none":
        raise bad_job(f"{CAST_INPUT} false needs an autocast, under which both meet in its dtype; set autocast bfloat16")
    return msgspec.structs.replace(strategy, method_options=options), casts


def fields_of(kind: Any) -> set[str]:
    """The fields of a peft configuration."""
    return set(inspect.signature(kind).parameters)


def options_of(strategy: Strategy, known: Iterable[str], whose: str) -> Mapping[str, Any]:
    """The Strategy's `method_options`. Raises `Ended` (bad job) for one that is not among `known`."""
    unknown = sorted(set(strategy.method_options) - set(known))
    if unknown:
        raise bad_job(f'method_options has "{unknown[0]}", which {whose} does not know')
    return strategy.method_options


def no_layers(strategy: Strategy, loop: Loop) -> None:
    """Refuse chosen blocks for a method that trains none."""
    if loop.layers is not None:
        raise bad_job(f'layers chooses blocks, and method "{strategy.method}" trains none; leave layers out')
