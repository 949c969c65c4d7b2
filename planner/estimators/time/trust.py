"""How far an estimate of a step's time is to be trusted: to be faster, and to be slower."""

from __future__ import annotations

from typing import NamedTuple

from catalogs.bases.architectures import Architecture
from catalogs.hardware import Gpu
from planner.estimators import calibration as known
from planner.estimators.time.speed import StepTime
from planner.methods import METHODS
from remote.contract import Strategy


class Spread(NamedTuple):
    """Factors from p50 to p10 and to p90."""

    fast: float
    slow: float


def run_class(architecture: Architecture, strategy: Strategy, gpu: Gpu, step: StepTime) -> known.RunClass:
    """Which runs this one is like, as far as trusting its estimate goes: the class with the widest spread that applies."""
    applies: dict[known.RunClass, bool] = {
        "link_bound": step.bound == "link",
        "other_vendor": gpu.vendor != "nvidia",
        "host_bound": step.bound == "host" and not architecture.num_experts,
        "experts": architecture.num_experts > 0,
        "other_card": gpu.architecture not in known.MEASURED_ARCHITECTURES or gpu.memory_type != "HBM" or _is_untimed(strategy),
        "full": "weights" in METHODS[strategy.method].moves,
        "several_gpus": strategy.num_gpus > 1,
        "one_gpu": True,
    }
    return next(name for name in known.SPREADS if applies[name])


def _is_untimed(strategy: Strategy) -> bool:
    """Whether its adapters are of a kind that no fitted run had."""
    adapter = METHODS[strategy.method].adapter
    return adapter is not None and adapter.kind not in known.MEASURED_ADAPTERS


def spread_of(kind: known.RunClass, step: StepTime, accumulation: int) -> Spread:
    """As far as runs of this class went, and on the slow side at least as far as a slow host would take this one."""
    measured = known.SPREADS[kind]
    held_up = step.on_host(known.SLOW_HOST).step_s(accumulation) / step.step_s(accumulation)
    return Spread(measured, max(measured, held_up))


def wider(spread: Spread, step_s: float, *, lucky_s: float, unlucky_s: float) -> Spread:
    """At least as far as the step is faster with the best, and slower with the worst, of what nobody states of a machine."""
    return Spread(max(spread.fast, step_s / lucky_s), max(spread.slow, unlucky_s / step_s))
