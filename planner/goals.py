"""What makes one plan the better choice than another, told by its dollars and its seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, get_args

Goal = Literal["cheapest", "fastest", "balanced"]

CHEAPEST: Final[Goal] = "cheapest"

# dollars and seconds of the whole job (p50) -> what is to be least. Balanced is the product: a tenth fewer hours are worth a
# tenth more dollars, whatever the job's size.
MEASURES: Final[Mapping[Goal, Callable[[float, float], float]]] = {
    "cheapest": lambda usd, _seconds: usd,
    "fastest": lambda _usd, seconds: seconds,
    "balanced": lambda usd, seconds: usd * seconds,
}
GOALS: Final[tuple[Goal, ...]] = get_args(Goal)
