"""What makes one plan the better choice than another, told by its dollars and its seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, get_args

from planner.units import SECONDS_PER_HOUR

Goal = Literal["cheapest", "fastest", "balanced"]

CHEAPEST: Final[Goal] = "cheapest"

# derived: a little less than the cheapest card is rented for ($0.065, 2026-10), so that it moves nothing between rented ones. A
# machine that bills nothing would be balanced however slow, for anything times nothing is least.
LEAST_USD_PER_HOUR: Final = 0.05
# assumed: at twice the dollars the fastest is 3.5 % quicker at least, at ten times 12 %. A planned hour is off by more,
# and a job of minutes is most of all a machine's start, which no card shortens
HASTE: Final = 0.05
# derived: so much does the fastest have to save at twice the dollars. One reason for all that a search weighs: what saves less
# is within what two runs of one plan differ by, and is no reason to leave the usual way
SURELY_BETTER: Final = 2**HASTE


def _counted(usd: float, seconds: float) -> float:
    return max(usd, LEAST_USD_PER_HOUR * seconds / SECONDS_PER_HOUR)


# dollars and seconds of the whole job (p50) -> what is to be least. Balanced is the product: a tenth fewer hours are worth a
# tenth more dollars, whatever the job's size; no hour counts for less than the least that a card's costs.
MEASURES: Final[Mapping[Goal, Callable[[float, float], float]]] = {
    "cheapest": lambda usd, _seconds: usd,
    "fastest": lambda usd, seconds: seconds * _counted(usd, seconds) ** HASTE,
    "balanced": lambda usd, seconds: seconds * _counted(usd, seconds),
}
GOALS: Final[tuple[Goal, ...]] = get_args(Goal)
