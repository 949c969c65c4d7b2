"""What a run's events draw over time: the lines of the report's plots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec

from provision.watch.view import memory_bytes
from remote.contract import Event

T = TypeVar("T")

MAX_POINTS = 600  # a plot is 700 pixels wide


class Curves(msgspec.Struct, frozen=True, kw_only=True):
    """Points of each line, thinned to what a plot can show."""

    losses: tuple[tuple[int, float], ...] = ()  # step, training loss
    held_out: tuple[tuple[int, float], ...] = ()  # step, mean held-out loss
    memory: tuple[tuple[float, int], ...] = ()  # seconds since the trainer's first word, peak bytes so far


def trace_curves(events: Iterable[Event]) -> Curves:
    """The curves of all events, oldest first."""
    losses: list[tuple[int, float]] = []
    held_out: list[tuple[int, float]] = []
    memory: list[tuple[float, int]] = []
    started_s: float | None = None
    for event in events:
        started_s = event.at_s if started_s is None else started_s
        if event.kind == "step" and "loss" in event.data:
            losses.append((int(event.data["step"]), float(event.data["loss"])))
        if event.kind == "evaluation" and "mean_loss" in event.data:
            held_out.append((int(event.data["step"]), float(event.data["mean_loss"])))
        if (in_use := memory_bytes(event.data)) is not None:
            memory.append((event.at_s - started_s, in_use))
    return Curves(losses=thinned(losses), held_out=thinned(held_out), memory=thinned(memory))


def thinned(points: Sequence[T]) -> tuple[T, ...]:
    """At most MAX_POINTS of them, evenly taken, the first and the last among them."""
    if len(points) <= MAX_POINTS:
        return tuple(points)
    return tuple(points[round(place * (len(points) - 1) / (MAX_POINTS - 1))] for place in range(MAX_POINTS))
