"""`TimeLine`: GPU memory at points of one step, whichever engine says it, and the `Stretch`es that the points fall into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from planner.plan import Engine, Instant

MOST_POINTS: Final = 600  # assumed: more than a screen has columns for


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """Points from `start` up to `end`, all in one instant."""

    instant: Instant
    start: int
    end: int


class TimeLine(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes at each point, by component. The components of a point sum to what is allocated there."""

    engine: Engine
    num_events: int  # that were looked at; the points are the fullest among their neighbours
    stretches: tuple[Stretch, ...]
    components: Mapping[str, tuple[int, ...]]
    reserved: tuple[int, ...]  # empty: the closed form knows only its peak

    @property
    def allocated(self) -> tuple[int, ...]:
        """Bytes at each point."""
        return tuple(map(sum, zip(*self.components.values(), strict=True)))
