"""Optimizers by their contract names, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from remote.contract import Loop


def _adamw(**options: bool) -> Callable[[list[Any], Loop], Any]:
    def build(parameters: list[Any], loop: Loop) -> Any:
        import torch

        return torch.optim.AdamW(parameters, lr=loop.learning_rate, weight_decay=loop.weight_decay, **options)

    return build


def _adamw_8bit(parameters: list[Any], loop: Loop) -> Any:
    import bitsandbytes

    return bitsandbytes.optim.AdamW8bit(parameters, lr=loop.learning_rate, weight_decay=loop.weight_decay)


def _sgd(parameters: list[Any], loop: Loop) -> Any:
    import torch

    return torch.optim.SGD(parameters, lr=loop.learning_rate, weight_decay=loop.weight_decay, foreach=True)


OPTIMIZERS: Final[Mapping[str, Callable[[list[Any], Loop], Any]]] = {
    "adamw_torch": _adamw(foreach=True),
    "adamw_torch_fused": _adamw(fused=True),
    "adamw_8bit": _adamw_8bit,
    "sgd": _sgd,
}


def build_optimizer(name: str, model: Any, loop: Loop) -> Any:
    """The optimizer over every trainable parameter of `model`."""
    return OPTIMIZERS[name]([parameter for parameter in model.parameters() if parameter.requires_grad], loop)


# Share of the peak rate at `progress` (0 … 1) of the way between warm-up and end.
_DECAY: Final[Mapping[str, Callable[[float], float]]] = {
    "constant": lambda _: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),  # Loshchilov & Hutter, arXiv:1608.03983, one cycle
}


def learning_rate(step: int, total_steps: int, loop: Loop) -> float:
    """The rate of optimizer step `step` (from 0): linear warm-up over `warmup_ratio` of the steps, then the schedule."""
    warmup_steps = math.ceil(loop.warmup_ratio * total_steps)
    if step < warmup_steps:
        return loop.learning_rate * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return loop.learning_rate * _DECAY[loop.schedule](progress)


def set_learning_rate(optimizer: Any, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
