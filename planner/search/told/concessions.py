"""What of the adapter has to be given up so that something can be run as asked: the first concession that is enough.

Nothing is given up unasked: the plan stands beside the answer, with what it costs and the command that takes it.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from catalogs.bases.architectures import Architecture, Role
from planner.advise import ADVISED_METHODS, Advice
from planner.asking.request import Request
from planner.choice.concessions import CONCESSIONS, REACH_WORDS, Concession, Reach
from planner.search.best import AIMS, Best, best
from planner.search.floors import Floors
from planner.search.market.offers import Kind
from planner.search.ranking import Name, Question
from planner.search.told.conceded import Conceded, Way, asked_without

# Of attention, as far as adapters on it are meant: what latent attention narrows and widens is query, key and value there.
ROLES: Final[Mapping[Reach, frozenset[Role]]] = {
    "attention": frozenset({"query", "key", "value", "qkv", "output", "query_down", "kv_down", "kv_up"}),
    "query_value": frozenset({"query", "value", "qkv", "kv_up"}),
}
EVERY: Final = "all-linear"


def concessions(request: Request, advice: Advice, architecture: Architecture) -> Iterator[Conceded]:
    """Each step down from what is advised, or was said, of which the one before does not ask as little."""
    said, rank, targets = request.training, advice.training.get("rank"), advice.training.get("target_modules")
    if advice.training["method"] not in ADVISED_METHODS or rank is None or request.loop.init_adapter is not None:
        return  # an earlier adapter is as large as it is
    for row in CONCESSIONS:
        fewer = _fewer(targets, row.reach, architecture)
        less: dict[str, Any] = ({"rank": row.rank} if row.rank < rank else {}) | ({"target_modules": fewer} if fewer else {})
        if not less or bool(fewer) != (row.reach != "all"):
            continue
        yield Conceded(
            changes={f"training.{key}": value for key, value in less.items()},
            words=_words(less, row, rank),
            given_up=_given_up(less, row, advice),
            is_advised=less.keys().isdisjoint(said),
        )


class Enough(NamedTuple):
    """The first concession with which this version can run the job as asked and the best plan with it, if there is one; and
    all that was told in dollars of the others.
    """

    way: Way | None
    priced: frozenset[Name]


def first_enough(steps: tuple[Conceded, ...], question: Question, kinds: tuple[Kind, ...], floors: Floors) -> Enough:
    """The first of these with which this version can run the job as asked, and the best plan with it.

    What a step can do every later one can do as well, in less memory and no more time, so the last is tried first, and then
    halves.
    """
    tried: dict[int, tuple[Way | None, Best]] = {}

    def way(place: int) -> Way | None:
        if place not in tried:
            tried[place] = best_without(steps[place], question, kinds, floors)
        return tried[place][0]

    first = None
    if steps and way(len(steps) - 1) is not None:
        first = way(bisect.bisect_left(range(len(steps)), 1, hi=len(steps) - 1, key=lambda each: way(each) is not None))
    return Enough(first, frozenset().union(*(looked_at.priced for _, looked_at in tried.values())))


def best_without(conceded: Conceded, question: Question, kinds: tuple[Kind, ...], floors: Floors) -> tuple[Way | None, Best]:
    """The best plan for the job that is left; beside it what else was looked at."""
    asked = asked_without(question, conceded, floors.figures.architecture)
    looked_at = best(asked, kinds, floors.asking(asked.request, asked.advice), AIMS[asked.request.budget.goal])
    found = looked_at.found
    return None if found is None else Way(conceded=conceded, question=asked, found=found), looked_at


def _fewer(targets: Any, reach: Reach, architecture: Architecture) -> tuple[str, ...]:
    """Names of the linears within reach; none where that is what carries adapters already."""
    roles = ROLES.get(reach)
    if roles is None or targets != EVERY:
        return ()
    linears = [linear for linear, _ in architecture.placed_linears]
    beyond = {_last(linear.name) for linear in linears if linear.role not in roles}
    within = (linear.name for linear in linears if linear.role in roles)
    return tuple(dict.fromkeys(name if _last(name) in beyond else _last(name) for name in within))


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _words(less: Mapping[str, Any], row: Concession, rank: int) -> str:
    reach = f"adapters on {REACH_WORDS[row.reach]}" if "target_modules" in less else None
    lower = f"rank {row.rank} instead of {rank}" if "rank" in less else None
    return "with " + " and ".join(part for part in (reach, lower) if part is not None)


def _given_up(less: Mapping[str, Any], row: Concession, advice: Advice) -> str:
    parts = (_had(key, advice) for key in ("target_modules", "rank") if key in less)
    return f"{'; '.join(parts)}. {row.reason[0].upper()}{row.reason[1:]} ({row.source})"


def _had(key: str, advice: Advice) -> str:
    """What there was, and why."""
    had = f"{key.replace('_', ' ')} {advice.training[key]}"
    reasons = (f"{choice.reason} ({choice.source})" for choice in advice.choices if choice.key == key)
    reason = next(reasons, None)
    return f"{had}, as was said" if reason is None else f"{had}, advised since {reason}"
