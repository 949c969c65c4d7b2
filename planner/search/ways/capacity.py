"""What a kind of machine has for a job, what one strategy needs of that, and whether it fits."""

from __future__ import annotations

import bisect

from planner.estimators.host import usable_ram_bytes
from planner.estimators.memory import available_bytes, judged
from planner.search.figures import Figures
from planner.search.market.offers import Kind
from planner.search.ways.fit import Fit
from planner.search.ways.ladders import Ladder
from remote.contract import Strategy


def fit_of(strategy: Strategy, kind: Kind, has_bytes: int, figures: Figures) -> Fit:
    """Whether that machine can hold it, and what is left."""
    if kind.gpu is None:
        margin_bytes = has_bytes - required_bytes(strategy, kind, figures)
        return Fit(strategy=strategy, verdict="fits" if margin_bytes >= 0 else "does_not_fit", margin_bytes=margin_bytes)
    word, margin_bytes = judged(figures.needs(strategy, kind.gpu), has_bytes)
    return Fit(strategy=strategy, verdict=word, margin_bytes=margin_bytes)


def capacity_bytes(kind: Kind) -> int:
    """Bytes that the job may use: of one GPU as torch totals them, or of a CPU box's RAM."""
    if kind.gpu is not None:
        return available_bytes(kind.gpu, None)
    return usable_ram_bytes(kind.offers[0].ram_gib or 0)


def largest_that_fits(ladder: Ladder, kind: Kind, has_bytes: int, figures: Figures) -> Fit | None:
    """The largest micro-batch that there is room for, by halving; where only the smallest may do, that one, tight or not."""
    if floor_bytes(ladder[-1], kind, figures) > has_bytes:
        return None
    smallest = fit_of(ladder[-1], kind, has_bytes, figures)
    if smallest.margin_bytes < 0:
        return None if smallest.verdict == "does_not_fit" else smallest
    index = bisect.bisect_left(
        ladder, 1, hi=len(ladder) - 1, key=lambda step: fit_of(step, kind, has_bytes, figures).margin_bytes >= 0
    )
    return fit_of(ladder[index], kind, has_bytes, figures)


def required_bytes(strategy: Strategy, kind: Kind, figures: Figures) -> int:
    """What the job needs of the memory that decides: VRAM of one GPU, or RAM where the cores train."""
    if kind.gpu is None:
        return figures.host(strategy, on_cpu=True).ram_peak_bytes
    return figures.needs(strategy, kind.gpu).required_bytes


def floor_bytes(strategy: Strategy, kind: Kind, figures: Figures) -> int:
    """Below this nothing fits. On a CPU box nothing is said: there the verdict is on RAM."""
    return 0 if kind.gpu is None else figures.resting_bytes(strategy)
