"""`method_options`: what a method takes beside the Strategy's own fields."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Final

from remote.contract import Loop, Strategy
from remote.ends import bad_job

LORA_FA: Final = "lora_fa"  # the optimizer that leaves LoRA's A as it was drawn
LORA_PLUS: Final = "lora_plus"  # the method whose B learns faster
RATE_RATIO: Final = "loraplus_lr_ratio"  # of LoRA+, by peft's name: how much faster B learns than A


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
