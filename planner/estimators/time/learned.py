"""What earlier runs here say of the next one's speed: a factor on the planned step, and a narrower range around it.

ln(measured / planned) of a run is taken as a sum of six normal parts: of its stack, of its GPU there, of how many of them,
of its quantization on those, of its machine where that surprises, and of the run itself. What earlier runs share with the next
one is conditioned on (derived; the variances are not).

A machine surprises where its runs are further off than this planner is: a busy, throttled or narrow box, whose time says
nothing of another. What most machines show is the kind's own, the planner's spread counted among them as one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import msgspec

from planner.plan import P90_SIGMAS

OF_ONE_RUN: Final = (
    0.05  # measured: with a factor per stack, GPU and quantization published runs are 2 to 5 % off in the median
)
# assumed: of a machine's own cores, which other work shares: the same job took 10.9 s a step here and 20.8 beside another
OF_ONE_RUN_ON_CORES: Final = 0.25
SHARE_PER_LEVEL: Final = 1 / 4  # assumed: stack, GPU, their number and quantization miss by as much, each


class Seen(msgspec.Struct, frozen=True):
    """Earlier runs of one kind."""

    stack: str
    gpu: str
    num_gpus: int  # that compute on it together; 1 on a CPU, too
    quant: str
    machine: str  # as `machine_of` names it
    mean_log: float  # of ln(measured / planned, without what was learned before)
    num_runs: int


class Learned(msgspec.Struct, frozen=True):
    """What the next run of a kind will take of its planned seconds."""

    factor: float = 1.0
    spread: float = math.inf  # its p90 is at most so many times its p50, and its p10 so many times less
    num_runs: int = 0  # that have something in common with it


NOTHING_LEARNED: Final = Learned()


def machine_of(provider: str, instance_type: str) -> str:
    """One machine where it is one's own; of a provider, those that it sells under one name."""
    return f"{provider}/{instance_type}"


NO_MACHINE: Final = "cards alone"  # of nobody, as every other has a provider before a slash: no earlier run was on it
CORES: Final = "cores of "


def cores_of(provider: str) -> str:
    """What stands in a GPU's place where a machine's own cores train: those of another provider are others."""
    return f"{CORES}{provider}"


def _of_one_run(gpu: str) -> float:
    """The standard deviation, of the logarithm, that is of the run itself."""
    return OF_ONE_RUN_ON_CORES if gpu.startswith(CORES) else OF_ONE_RUN


@lru_cache  # a search asks for each card of each strategy
def learned_from(
    seen: tuple[Seen, ...], *, stack: str, gpu: str, num_gpus: int, quant: str, machine: str, spread: float
) -> Learned:
    """`spread`: of such a run's p90 over its p50 where nothing is known of earlier ones."""
    alike = tuple(each for each in seen if each.stack == stack)
    if not alike:
        return NOTHING_LEARNED
    num_runs = sum(each.num_runs for each in alike)
    observed = {name: _mean_square(each for each in alike if each.machine == name) for name in {each.machine for each in alike}}
    own = (math.log(spread) / P90_SIGMAS) ** 2
    from statistics import median_low  # only where something has run: it costs start-up time

    usual = max(own, median_low([own, *observed.values()]))
    prior = usual - _of_one_run(gpu) ** 2
    if prior <= 0:
        return NOTHING_LEARNED
    surprise = {name: max(0.0, square - usual) for name, square in observed.items()}
    target = Seen(stack, gpu, num_gpus, quant, machine, 0.0, 0)

    def together(one: Seen, other: Seen) -> float:
        return prior * _shared(one, other) + (surprise.get(one.machine, 0.0) if one.machine == other.machine else 0.0)

    noise = [_of_one_run(each.gpu) ** 2 / each.num_runs for each in alike]
    among = [
        [together(one, other) + (noise[row] if row == column else 0.0) for column, other in enumerate(alike)]
        for row, one in enumerate(alike)
    ]
    to_target = [together(each, target) for each in alike]
    weights = _solved(among, to_target)
    mean = sum(weight * each.mean_log for weight, each in zip(weights, alike, strict=True))
    left = together(target, target) - sum(weight * each for weight, each in zip(weights, to_target, strict=True))
    sigma = math.sqrt(max(0.0, left) + _of_one_run(gpu) ** 2)
    return Learned(math.exp(mean), math.exp(P90_SIGMAS * sigma), num_runs)


def _mean_square(runs: Iterable[Seen]) -> float:
    """How far runs are off, squared."""
    each = tuple(runs)
    return sum(one.num_runs * one.mean_log**2 for one in each) / sum(one.num_runs for one in each)


def _shared(one: Seen, other: Seen) -> float:
    """The share of their variance that two kinds of runs have in common."""
    levels = (
        one.stack == other.stack,
        one.gpu == other.gpu,
        one.num_gpus == other.num_gpus,
        one.quant == other.quant,
    )
    together = next((number for number, same in enumerate(levels) if not same), len(levels))
    return together * SHARE_PER_LEVEL


def _solved(matrix: list[list[float]], right: list[float]) -> list[float]:
    """The x of matrix · x = right, of a symmetric positive definite matrix, by elimination."""
    size = len(right)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for pivot in range(size):
        for row in range(pivot + 1, size):
            factor = rows[row][pivot] / rows[pivot][pivot]
            rows[row] = [a - factor * b for a, b in zip(rows[row], rows[pivot], strict=True)]
    found = [0.0] * size
    for row in reversed(range(size)):
        known = sum(rows[row][column] * found[column] for column in range(row + 1, size))
        found[row] = (rows[row][size] - known) / rows[row][row]
    return found
