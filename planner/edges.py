"""`Edges`: what a search is told of the world beside what is sold."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from planner.asking.policy import Rule
from planner.asking.request import Request
from planner.asking.sent import NOTHING, Sent
from planner.estimators.time.learned import Seen
from planner.plan import Place, Plan, Provider
from remote.contract import Capabilities


class Edges(msgspec.Struct, frozen=True, kw_only=True):
    """What a search is told of the world beside what is sold: the planner reads neither clock nor environment."""

    providers: Mapping[str, Provider]  # who can be rented from
    capabilities: Capabilities  # what the trainer can do
    today: dt.date
    folder: Path = Path()  # where relative paths start from
    versions: Mapping[str, str] = {}  # written into every plan
    rules: tuple[Rule, ...] = ()  # of policies
    seen: tuple[Seen, ...] = ()  # earlier runs here
    kept_at: Callable[[str], tuple[Place, ...]] = lambda _name: ()  # where a volume of that name lies; nowhere = not known
    sent: Callable[[Request], Sent] = lambda _request: NOTHING  # what goes to a machine elsewhere from here
    notes: Callable[[Request], Iterable[str]] = lambda _request: ()  # what else is to be told of the machine that asks
    if_it_takes_longer: Callable[[Plan], str | None] = lambda _plan: None  # what becomes of a run of it that takes longer
    rehearsed: Callable[[Request], bool] = lambda _request: False  # whether random weights would be trained

    def volume_at(self, request: Request) -> tuple[Place, ...]:
        """Where the volume lies that the request wants again; nowhere = it wants none, or one is made."""
        name = request.keep.volume_name
        return () if name is None else self.kept_at(name)
