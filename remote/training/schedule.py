"""The learning rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from remote.contract import Loop, warm_up_of

# Share of the peak rate at `progress` (0 … 1) of the way between warm-up and end, in so many cycles.
_DECAY: Final[Mapping[str, Callable[[float, int], float]]] = {
    "constant": lambda _progress, _cycles: 1.0,
    "linear": lambda progress, _cycles: 1.0 - progress,
    "cosine": lambda progress, _cycles: _half_wave(progress),  # Loshchilov & Hutter, arXiv:1608.03983, one cycle
    "cosine_with_restarts": lambda progress, cycles: _half_wave(progress * cycles % 1.0),  # likewise, of equal length
}


def _half_wave(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def warmup_steps(loop: Loop, total_steps: int, steps_per_epoch: float) -> int:
    """Optimizer steps until the rate is whole: said in steps, in epochs, or as a share of the run; never more than that."""
    said = warm_up_of(loop)
    steps_of = {"steps": 1.0, "epochs": steps_per_epoch, "share": total_steps}
    return min(_whole(said.amount * steps_of[said.unit]), total_steps)


def _whole(steps: float) -> int:
    """Rounded up, but for what a float adds: 0.07 of 100 steps are 7, of which it makes 7.000000000000001."""
    return math.ceil(round(steps, 6))


def learning_rate(step: int, total_steps: int, loop: Loop, *, steps_per_epoch: float) -> float:
    """The rate of optimizer step `step` (from 0): it rises in even steps through the warm-up, then follows the schedule."""
    warm = warmup_steps(loop, total_steps, steps_per_epoch)
    if step < warm:
        return loop.learning_rate * (step + 1) / warm
    progress = (step - warm) / max(1, total_steps - warm)
    return loop.learning_rate * _DECAY[loop.schedule](progress, loop.cycles)
